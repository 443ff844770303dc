/**
 * What LDK's signer and the device say to each other, part by part: what is asked (`SigningPart`) and what is answered
 * (`SigningAnswer`, same `id`). Plain data, in the terms of src/lightning.
 *
 *   revocation      the bridge's secret of one of its states (and its next point, if it was seen): a message, the
 *                   answer is a mere acknowledgement. It goes along with a question, or alone in idle time (`isQuestion`).
 *   holder n        our state n with the bridge's signatures, asked for when LDK has stored it (state 0: at once)
 *                   → the secret of n−1 and further points. For n = 0 the acknowledgement says "exit 0 is held".
 *   counterparty n  the bridge's state n → its signature by the funding key, then one per HTLC, in output order
 *   closing         a mutual close → one signature by the funding key
 *   funding         the transaction that funds the channel → one signature per input; only once exit 0 is held
 *   exit n          force close: our state n must be finished and handed out → one signature by the funding key
 *   spend           an input of a transaction after a force close → one signature by the key that `purpose` names
 *
 * Commitment numbers ascend from 0 (BOLT #3's number before it is obscured); points are 33 B, secrets, hashes and
 * txids (internal byte order) 32 B, signatures 64 B compact.
 */
import type { SighashType } from "../../src/bitcoin/sighash.ts";
import type { Htlc } from "../../src/lightning/channel.ts";
import type { CommitmentContent } from "../../src/lightning/commitment.ts";
import type { CommitmentKeys } from "../../src/lightning/keys.ts";

/** A commitment of a channel: which one, and what it says. The HTLCs are in output order. */
export interface CommitmentState {
  readonly number: number;
  /** Its broadcaster's per-commitment point. */
  readonly point: Uint8Array;
  readonly content: CommitmentContent;
}

/** What one signature of an answer must be valid for. */
export interface SignatureCheck {
  readonly publicKey: Uint8Array;
  readonly hash: Uint8Array;
}

/** A commitment point, and the number of the commitment that it belongs to. */
export interface NumberedPoint {
  readonly number: number;
  readonly point: Uint8Array;
}

/** Our own state, as the bridge signed it. */
export interface HolderState extends CommitmentState {
  readonly counterpartySignature: Uint8Array;
  /** On our HTLC transactions (SIGHASH_SINGLE|ANYONECANPAY), in output order. */
  readonly counterpartyHtlcSignatures: readonly Uint8Array[];
  /** Preimages of our HTLCs that the state before had an output for: a device wants to see them first. */
  readonly preimages?: readonly Uint8Array[];
}

/** What is to be signed of a state of ours. */
export interface HolderSigning {
  /** What both funding keys sign. */
  readonly sighash: Uint8Array;
  /** What our funding key signs so that the owner can raise the fee by our anchor; null where there are HTLCs, or no anchor. */
  readonly anchorSighash: Uint8Array | null;
}

/** What is to be signed of a state of the bridge's. */
export interface CounterpartySigning {
  /** What both funding keys sign. */
  readonly sighash: Uint8Array;
  /** The keys inside, for a device that cannot derive them. */
  readonly keys: CommitmentKeys;
}

/** A commitment is built once, when LDK shows it: what its signatures must be valid for, and what is to be signed. */
export interface Built<Signing> {
  readonly checks: readonly SignatureCheck[];
  /** Absent in what a gateway has stored that did not keep it: then it has to be built again. */
  readonly signing?: Signing;
}

/** What a mutual close pays, sat; an output of 0 is left out. */
export interface ClosingContent {
  readonly toHolderSat: number;
  readonly toCounterpartySat: number;
  readonly holderScript: Uint8Array;
  readonly counterpartyScript: Uint8Array;
}

/** The unsigned funding transaction, and what its inputs to sign spend. */
export interface FundingContent {
  readonly transaction: Uint8Array;
  readonly inputs: readonly {
    readonly index: number;
    readonly amountSat: number;
    readonly witnessScript: Uint8Array;
  }[];
}

/**
 * Which key signs the input of a spend, and what for.
 * holder-htlc          HTLC key of our commitment `number`: an HTLC of ours that timed out or whose preimage we know
 * counterparty-htlc    HTLC key at `point`: the same on the bridge's commitment
 * justice-output,      revocation key made with the bridge's `secret`: the bridge has published a revoked state
 * justice-htlc
 * anchor               funding key: our anchor on our commitment
 */
export type SpendPurpose =
  | {
      readonly kind: "holder-htlc";
      readonly number: number;
      readonly point: Uint8Array;
      readonly htlc: Htlc;
    }
  | { readonly kind: "counterparty-htlc"; readonly point: Uint8Array; readonly htlc: Htlc }
  | { readonly kind: "justice-output"; readonly secret: Uint8Array }
  | { readonly kind: "justice-htlc"; readonly secret: Uint8Array; readonly htlc: Htlc }
  | { readonly kind: "anchor" };

/** An input to sign of a transaction after a force close. The amount is what it spends. */
export interface SpendContent {
  readonly purpose: SpendPurpose;
  readonly transaction: Uint8Array;
  readonly input: number;
  readonly amountSat: number;
  readonly sighashType: SighashType;
}

/** A state of ours, with what is to be signed of it (absent: see Built). */
export interface HolderPart extends HolderState {
  readonly id: string;
  readonly signing?: HolderSigning;
}

/** A state of the bridge's, with what is to be signed of it (absent: see Built). */
export interface CounterpartyPart extends CommitmentState {
  readonly id: string;
  /** Those of our next states (`HolderState`): it may come before them. */
  readonly preimages?: readonly Uint8Array[];
  readonly signing?: CounterpartySigning;
}

/** One question to the device, or one thing that it is told. */
export type SigningPart =
  | {
      readonly kind: "revocation";
      readonly id: string;
      readonly number: number;
      readonly secret: Uint8Array;
      /** The bridge's point for its commitment number + 2, if it was seen. */
      readonly nextPoint: Uint8Array | null;
    }
  | ({ readonly kind: "holder" } & HolderPart)
  | ({ readonly kind: "counterparty" } & CounterpartyPart)
  | ({ readonly kind: "closing"; readonly id: string; readonly sighash: Uint8Array } & ClosingContent)
  | ({
      readonly kind: "funding";
      readonly id: string;
      readonly sighashes: readonly Uint8Array[];
    } & FundingContent)
  | ({ readonly kind: "exit" } & HolderPart)
  | ({ readonly kind: "spend"; readonly id: string } & SpendContent);

/** The answer to the part of the same id. */
export interface SigningAnswer {
  readonly id: string;
  /** holder n ≥ 1: the secret of n−1. */
  readonly secret?: Uint8Array;
  /** Commitment points further on; welcome with any answer. */
  readonly points?: readonly NumberedPoint[];
  readonly signatures?: readonly Uint8Array[];
  /** The device will not: its code. The part is not asked for again. */
  readonly refused?: string;
}

/** Who has to ask again now that an answer is there. */
export type Unblocks = "nobody" | "manager" | "monitor";

/** False for what is only told and can wait for the next question. */
export function isQuestion(part: SigningPart): boolean {
  return part.kind !== "revocation";
}

/** The device behind some link. */
export interface SigningPeer {
  /** Parts that came up together, in the order in which they are to be processed. Must not throw. */
  ask(keysId: Uint8Array, parts: readonly SigningPart[]): void;
}
