/** What must hold at every instant, whatever happens: watched from outside, by one who knows all keys. */

import { type ChannelState, holderCodec } from "../../device/channel/state.ts";
import type { DeviceIdentity } from "../../device/identity.ts";
import { ascii, concat, toHex, u32be } from "../../src/bytes/bytes.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { counterpartyBasepoints, holderBasepoints } from "../../src/channel/device-keys.ts";
import type { CommitmentSpec } from "../../src/channel/terms.ts";
import { anchorSighash, channelOf, commitmentOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { hmacSha256 } from "../../src/crypto/hash.ts";
import { commitmentFeeSat } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";
import type { ToDevice, ToGateway } from "../../src/messages/device.ts";
import { messageOf } from "./dealer.ts";
import { recordOf } from "./parties.ts";

export class Violation extends Error {}

function must(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Violation(what);
}

export class Auditor {
  /** Per record of kind A the one message it answered; per nonce of H and B the one s it led to. */
  private readonly answered = new Map<string, string>();
  private readonly secrets = new Set<string>();
  /** Exits that were found valid. */
  private readonly checked = new Set<string>();

  /** A message leaves the device; `chip` is what somebody would find in its flash at this instant. */
  sent(message: ToGateway, chip: Uint8Array): void {
    if (message.type !== "stepped") return;
    for (const { id } of message.signed?.partials ?? []) {
      must(
        !Buffer.from(chip).includes(Buffer.from(recordOf("A", id).answering)),
        `record A${id} is used and still there`,
      );
    }
    if (message.secret) this.secrets.add(toHex(message.secret));
    for (const { id, scalar } of message.signed?.partials ?? []) {
      this.once(`A${id}`, messageOf(recordOf("A", id), scalar).toString());
    }
    for (const signature of message.signed?.htlcSignatures ?? []) this.signature("H", signature);
  }

  /** A message leaves the gateway: each half of kind B binds a record. */
  gave(message: ToDevice): void {
    if (message.type !== "step") return;
    for (const partial of [message.holder?.partial, message.holder?.anchorPartial]) {
      if (partial)
        this.once(`gateway's B${partial.id}`, `${messageOf(recordOf("B", partial.id), partial.scalar)}`);
    }
  }

  private signature(kind: string, signature: Uint8Array): void {
    this.once(`${kind}${toHex(signature.slice(0, 32))}`, toHex(signature.slice(32)));
  }

  private once(record: string, message: string): void {
    const before = this.answered.get(record);
    must(before === undefined || before === message, `record ${record} has answered two messages`);
    this.answered.set(record, message);
  }

  /** What is in flash at this instant. */
  state(state: ChannelState, identity: DeviceIdentity): void {
    const { holder, parameters, books } = state;
    if (holder !== null) {
      this.signature("B", holder.ownSignature);
      if (holder.anchorSignature) this.signature("B", holder.anchorSignature);
    }
    if (parameters === null || (parameters.funding === undefined && books.phase !== "open")) return;
    must(holder !== null, "the channel is funded and the device has no exit");
    const exit = toHex(concat([u32be(books.index), encodeValue(holderCodec, holder)]));
    if (!this.checked.has(exit)) exitIsValid(state, identity);
    this.checked.add(exit);
    const secret = commitmentSecretOf(identity, books.index, holder.number);
    must(!this.secrets.has(toHex(secret)), "the secret of the exit was given away");
    for (const view of liveViews(state)) {
      must(takeHomeSat(view) >= floorSat(state), "somebody could publish a state that pays us too little");
    }
  }
}

function liveViews({ holder, counterparty }: ChannelState): CommitmentSpec[] {
  const views = [holder?.view, counterparty?.view, counterparty?.previous?.view];
  return views.filter(view => view !== undefined);
}

/** What a commitment pays us if the bridge has all preimages. The fee counts as ours: the bounds of it are a rule. */
function takeHomeSat(view: CommitmentSpec): number {
  return view.holderSat === 0
    ? 0
    : view.holderSat + commitmentFeeSat(view.feeratePerKw, view.htlcs.length) + 660;
}

/** Our money less everything that `pay()` authorised and that did not come back. */
function floorSat({ parameters, payments }: ChannelState): number {
  let floor = parameters?.proposal.channelSat ?? 0;
  for (const payment of payments) {
    if (payment && !(payment.settled && !payment.preimage)) floor -= Math.ceil(payment.limitMsat / 1000);
  }
  return floor;
}

function commitmentSecretOf(identity: DeviceIdentity, index: number, number: number): Uint8Array {
  const seed = hmacSha256(identity.commitmentMaster, concat([ascii("shachain"), u32be(index)]));
  return commitmentSecret(seed, number);
}

/**
 * The owner could leave with this: every signature of the exit is valid for what is rebuilt here. `exceptHtlcs`: but for those of the
 * bridge's on payments in flight, which do not come home then.
 */
export function exitIsValid(state: ChannelState, identity: DeviceIdentity, exceptHtlcs = false): void {
  const { holder, parameters, books } = state;
  must(holder !== null && parameters !== null, "there is no exit");
  const { proposal } = parameters;
  const point = nobleCurve.publicKey(commitmentSecretOf(identity, books.index, holder.number));
  const keys = deriveCommitmentKeys(
    nobleCurve,
    point,
    holderBasepoints(identity),
    counterpartyBasepoints(proposal),
  );
  const commitment = commitmentOf(channelOf(identity, proposal), true, holder.number, keys, holder.view);
  const valid = (signature: Uint8Array | undefined, hash: Uint8Array, key: Uint8Array) =>
    signature !== undefined && nobleCurve.verify(signature, hash, key);
  const { ownSignature, bridgeSignature, htlcSignatures, anchorSignature } = holder;
  must(valid(ownSignature, commitment.sighash, identity.fundingKey), "our own signature of the exit");
  must(valid(bridgeSignature, commitment.sighash, proposal.fundingKey), "the bridge's signature of the exit");
  must(htlcSignatures.length === commitment.htlcs.length, "an HTLC of the exit without a signature");
  commitment.htlcs.forEach((htlc, i) => {
    must(
      exceptHtlcs || valid(htlcSignatures[i], htlc.sighash, keys.countersignatoryHtlc),
      `HTLC signature ${i} of the exit`,
    );
  });
  const anchor = holder.view.htlcs.length === 0 ? anchorSighash(identity, commitment) : null;
  must(
    anchor === null || valid(anchorSignature, anchor, identity.fundingKey),
    "the anchor's signature of the exit",
  );
}
