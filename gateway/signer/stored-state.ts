/** The signer's book of one channel as plain data (numbers, strings, byte arrays, lists), for any codec. */
import { EMPTY_SECRET_STORE, type SecretStore } from "../../src/lightning/shachain.ts";
import type {
  Built,
  ClosingContent,
  CommitmentState,
  CounterpartySigning,
  FundingContent,
  HolderSigning,
  HolderState,
  NumberedPoint,
  SignatureCheck,
  SpendContent,
} from "./parts.ts";

/** What is stored of a channel: all that SigningState (state.ts) knows. */
export interface StoredSigningState {
  readonly version: 1;
  refusal: string | null;
  /** Ascending, from the first number whose secret is not released. */
  points: NumberedPoint[];
  secrets: SecretStore;
  holder: HolderEntry[];
  counterparty: CounterpartyEntry[];
  /** All the bridge's commitments below are revoked. */
  counterpartyRevokedBelow: number;
  revocations: Revocation[];
  closings: SignedEntry<ClosingContent>[];
  funding: SignedEntry<FundingContent> | null;
  spends: SignedEntry<SpendContent>[];
  refused: { readonly id: string; readonly code: string }[];
}

/** A state of ours, as far as it has got. */
export interface HolderEntry extends HolderState, Built<HolderSigning> {
  readonly txid: Uint8Array;
  /** LDK has stored this state and asked for the secret of the one before (state 0: nothing to wait for). */
  asked: boolean;
  /** The device holds this state completely signed and has released the secret of the one before. */
  answered: boolean;
  exitAsked: boolean;
  exitSignature: Uint8Array | null;
}

/** Something to sign, and its signatures once they are there: one for each check. */
export interface SignedEntry<Content> {
  readonly id: string;
  readonly content: Content;
  readonly checks: readonly SignatureCheck[];
  signatures: readonly Uint8Array[] | null;
}

/** A state of the bridge's. */
interface CounterpartyEntry extends SignedEntry<CommitmentState>, Built<CounterpartySigning> {
  readonly txid: Uint8Array;
}

/** The secret of a state that the bridge has revoked. */
interface Revocation {
  readonly number: number;
  readonly secret: Uint8Array;
  readonly nextPoint: Uint8Array | null;
}

/** The book of a new channel. */
export const emptyBook = (points: readonly NumberedPoint[]): StoredSigningState => ({
  version: 1,
  refusal: null,
  points: [...points],
  secrets: EMPTY_SECRET_STORE,
  holder: [],
  counterparty: [],
  counterpartyRevokedBelow: 0,
  revocations: [],
  closings: [],
  funding: null,
  spends: [],
  refused: [],
});

/** A copy that shares nothing, with plain byte arrays in the place of what a codec or LDK made of them. */
export function copied<T>(value: T): T {
  if (value instanceof Uint8Array) return new Uint8Array(value) as T;
  if (Array.isArray(value)) return value.map(copied) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, copied(each)])) as T;
}
