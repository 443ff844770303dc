/**
 * The exit: the owner leaves alone, with the newest state. From the moment it is read out, nothing of the channel is
 * signed or revoked any more: a revoked exit, published, would give the bridge everything.
 */

import { transactionBytes } from "../../src/bitcoin/transaction.ts";
import type { DeviceKeys } from "../../src/channel/device-keys.ts";
import { anchorOf, channelOf, commitmentOf } from "../../src/channel/transactions.ts";
import { signedAnchorBump, signedCommitment } from "../../src/lightning/commitment.ts";
import type { SecretStore } from "../../src/lightning/shachain.ts";
import { ensurePresent, type KeySource, type Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import {
  type ChannelState,
  type CommitmentSpec,
  type Counterparty,
  type Proposal,
  secretStore,
} from "./state.ts";

/** What the owner's computer needs to leave and to collect (src/lightning/sweep.ts). */
export interface Exit {
  readonly index: number;
  readonly number: number;
  readonly point: Uint8Array;
  readonly proposal: Proposal;
  readonly view: CommitmentSpec;
  /** The commitment transaction with both signatures, ready to publish. */
  readonly commitment: Uint8Array;
  /** Our signature by the funding key, and the bridge's, compact. */
  readonly ownSignature: Uint8Array;
  readonly bridgeSignature: Uint8Array;
  /** The spend of our anchor, signed: any input may be added to pay a higher fee. Null while HTLCs are pending. */
  readonly anchor: Uint8Array | null;
  readonly anchorSignature: Uint8Array | null;
  /** The bridge's signatures of the HTLC transactions, in output order; ours is made with the owner's copy of the key. */
  readonly htlcSignatures: readonly Uint8Array[];
  /** What the bridge may publish instead: its newest commitment, and the one before as long as it is not revoked. */
  readonly counterparty: readonly {
    readonly number: number;
    readonly point: Uint8Array;
    readonly view: CommitmentSpec;
  }[];
  /** The bridge's secrets of all that it has revoked: whoever publishes one of those is punished. */
  readonly secrets: SecretStore;
  /** Of the payments that the device remembers: by them HTLCs in what the bridge has revoked are recognised. */
  readonly paymentHashes: readonly Uint8Array[];
}

/**
 * Ends the present channel (`index`), so that the exit that is in flash stays the last; one that was closed before has
 * ended already. Refused where there is no exit, and (`vault-rolled-back`) where an old image of the flash was put back:
 * its exit may have been revoked since.
 */
export function exportExit(work: Work, index: number): void {
  const { books, parameters, former } = work.state;
  if ((former || []).some(each => each.index === index)) return;
  enforce(
    "close-state",
    index === books.index && parameters?.funding !== undefined,
    "there is no such channel to leave",
  );
  ensurePresent(work);
  endChannel(work);
}

/** The newest channel that the owner could leave: one that is not funded yet has no money in it. */
export function latestChannel({ books, parameters, former }: ChannelState): number {
  const last = parameters?.funding ? undefined : (former || [])[0];
  return last ? last.index : books.index;
}

/** From here on nothing of the channel is signed or revoked. (One that was closed has ended already; a lock is for ever.) */
export function endChannel(work: Work): void {
  const { books } = work.state;
  if (books.phase !== "none" && books.phase !== "locked")
    work.state = { ...work.state, books: { ...books, phase: "exited" } };
}

/** The exit of a channel of which `exportExit` lets one take it: made where the owner needs it, and not on a board. */
export function exitOf(
  state: ChannelState,
  context: KeySource & { readonly identity: DeviceKeys },
  index: number,
): Exit {
  const { identity, keysFor, pointOf } = context;
  const last = (state.former || []).filter(each => each.index === index)[0];
  const proposal = last ? last.proposal : state.parameters!.proposal;
  const holder = last ? last.holder : state.holder!;
  const counterparty = last ? last.counterparty : state.counterparty!;
  const secrets = last ? last.secrets : state.secrets;
  const { number, view } = holder;
  const channel = channelOf(identity, proposal);
  const point = pointOf(index, number);
  const commitment = commitmentOf(channel, true, number, keysFor(proposal, true, point), view);
  const anchor = holder.anchorSignature && anchorOf(identity, commitment);
  return {
    index,
    number,
    point,
    proposal,
    view,
    commitment: transactionBytes(
      signedCommitment(channel, commitment, holder.ownSignature, holder.bridgeSignature),
    ),
    ownSignature: holder.ownSignature,
    bridgeSignature: holder.bridgeSignature,
    anchor: anchor ? transactionBytes(signedAnchorBump(anchor, holder.anchorSignature!)) : null,
    anchorSignature: holder.anchorSignature || null,
    htlcSignatures: holder.htlcSignatures,
    counterparty: counterpartyOf(counterparty),
    secrets: secretStore(counterparty, secrets),
    paymentHashes: state.payments.filter(payment => payment !== null).map(payment => payment!.paymentHash),
  };
}

function counterpartyOf({ number, point, view, previous }: Counterparty): Exit["counterparty"] {
  const newest = { number, point, view };
  return previous ? [newest, { number: number - 1, ...previous }] : [newest];
}
