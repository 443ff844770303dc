/** What both sides of a channel know about it from its opening on, and the scripts that follow from it. */

import {
  FALSE,
  hash160,
  multisig2of2,
  OP_1,
  OP_2,
  OP_CHECKLOCKTIMEVERIFY,
  OP_CHECKMULTISIG,
  OP_CHECKSEQUENCEVERIFY,
  OP_CHECKSIG,
  OP_CHECKSIGVERIFY,
  OP_DROP,
  OP_DUP,
  OP_ELSE,
  OP_ENDIF,
  OP_EQUAL,
  OP_EQUALVERIFY,
  OP_HASH160,
  OP_IF,
  OP_IFDUP,
  OP_NOTIF,
  OP_SIZE,
  OP_SWAP,
  type ScriptPart,
  script,
  scriptNumber,
  sortsBefore,
  witnessSignature,
} from "../bitcoin/script.ts";
import type { Outpoint } from "../bitcoin/transaction.ts";
import { ripemd160 } from "../crypto/hash.ts";
import type { Basepoints, CommitmentKeys } from "./keys.ts";

/** One of the two sides, seen from here. Numbers, as a name that is a text stays long in a board's bundle. */
export const HOLDER = 0;
export const COUNTERPARTY = 1;
export type Side = typeof HOLDER | typeof COUNTERPARTY;

/** One side's part of the channel parameters. */
export interface ChannelParty {
  /** 33 bytes. */
  readonly fundingPubkey: Uint8Array;
  readonly basepoints: Basepoints;
  /** Blocks this side waits for what its own commitment pays it: the to_self_delay that the *other* side sent. */
  readonly toLocalDelay: number;
  /** Outputs below this are left out of this side's own commitment. */
  readonly dustLimitSat: number;
}

/** An anchors channel (option_anchors, zero-fee HTLC transactions), the only kind there is here. */
export interface ChannelParameters {
  readonly funding: Outpoint;
  readonly fundingSat: number;
  readonly funder: Side;
  readonly holder: ChannelParty;
  readonly counterparty: ChannelParty;
}

/** An HTLC as a commitment shows it. */
export interface Htlc {
  /** By the broadcaster of that commitment. */
  readonly offered: boolean;
  readonly amountMsat: number;
  /** Block height. */
  readonly cltvExpiry: number;
  /** 32 bytes. */
  readonly paymentHash: Uint8Array;
}

export function otherSide(side: Side): Side {
  return side === HOLDER ? COUNTERPARTY : HOLDER;
}

export function partyOf(channel: ChannelParameters, side: Side): ChannelParty {
  return side === HOLDER ? channel.holder : channel.counterparty;
}

/** The witness script of the funding output. */
export function fundingScript(channel: ChannelParameters): Uint8Array {
  return multisig2of2(channel.holder.fundingPubkey, channel.counterparty.fundingPubkey);
}

/** The witness that spends the funding output: commitment or mutual close. Compact signatures, SIGHASH_ALL. */
export function fundingWitness(
  channel: ChannelParameters,
  holderSignature: Uint8Array,
  counterpartySignature: Uint8Array,
): Uint8Array[] {
  const holder = witnessSignature(holderSignature);
  const counterparty = witnessSignature(counterpartySignature);
  const holderFirst = sortsBefore(channel.holder.fundingPubkey, channel.counterparty.fundingPubkey);
  return [
    FALSE,
    holderFirst ? holder : counterparty,
    holderFirst ? counterparty : holder,
    fundingScript(channel),
  ];
}

/** to_local, and the output of every HTLC transaction: revocation key at once, delayed key after `delay` blocks. */
export function toLocalScript(
  keys: Pick<CommitmentKeys, "revocation" | "delayed">,
  delay: number,
): Uint8Array {
  return script([
    OP_IF,
    keys.revocation,
    OP_ELSE,
    scriptNumber(delay),
    OP_CHECKSEQUENCEVERIFY,
    OP_DROP,
    keys.delayed,
    OP_ENDIF,
    OP_CHECKSIG,
  ]);
}

/** to_remote: the payment basepoint of the side that is not the broadcaster, one block later. */
export function toRemoteScript(paymentBasepoint: Uint8Array): Uint8Array {
  return script([paymentBasepoint, OP_CHECKSIGVERIFY, OP_1, OP_CHECKSEQUENCEVERIFY]);
}

/** An anchor: its side's funding key at once, anybody after 16 blocks. */
export function anchorScript(fundingPubkey: Uint8Array): Uint8Array {
  return script([
    fundingPubkey,
    OP_CHECKSIG,
    OP_IFDUP,
    OP_NOTIF,
    scriptNumber(16),
    OP_CHECKSEQUENCEVERIFY,
    OP_ENDIF,
  ]);
}

/** An HTLC output, offered or received by the broadcaster (BOLT #3, Offered and Received HTLC Outputs). */
export function htlcScript(htlc: Htlc, keys: CommitmentKeys): Uint8Array {
  const byPreimage = [OP_HASH160, ripemd160(htlc.paymentHash), OP_EQUALVERIFY];
  const byBoth = [OP_2, OP_SWAP, keys.broadcasterHtlc, OP_2, OP_CHECKMULTISIG];
  const afterExpiry = [OP_CHECKLOCKTIMEVERIFY, OP_DROP];
  // The transactions of the broadcaster take both signatures, what the other side takes needs its own only.
  const paths: ScriptPart[] = htlc.offered
    ? [OP_NOTIF, OP_DROP, ...byBoth, OP_ELSE, ...byPreimage]
    : [OP_IF, ...byPreimage, ...byBoth, OP_ELSE, OP_DROP, scriptNumber(htlc.cltvExpiry), ...afterExpiry];
  return script([
    OP_DUP,
    OP_HASH160,
    hash160(keys.revocation),
    OP_EQUAL,
    OP_IF,
    OP_CHECKSIG,
    OP_ELSE,
    keys.countersignatoryHtlc,
    OP_SWAP,
    OP_SIZE,
    scriptNumber(32),
    OP_EQUAL,
    ...paths,
    OP_CHECKSIG,
    OP_ENDIF,
    OP_1,
    OP_CHECKSEQUENCEVERIFY,
    OP_DROP,
    OP_ENDIF,
  ]);
}
