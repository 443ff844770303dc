/**
 * Presigning: everything of a signature that does not depend on the message, in batches of up to 64.
 *
 * The protocol is that of Xue, Au, Xie, Yuen and Cui (ePrint 2022/318), its one multiplication of secrets done by
 * the random vector OLE of DKLs23 (ePrint 2023/765, protocol 5.2) over OT extension. docs/threshold.md tells why it
 * works and what differs from the papers.
 *
 *     P1 (completes)                            P2 (answers)
 *       │ S0  nonce, epoch, number, kind, B (43)  │
 *       │ ─────────────────────────────────────▶ │
 *       │     nonce, OT extension, B commitments  │
 *       │                 (6,688·B + 4,144)   S1 │
 *       │ ◀───────────────────────────────────── │
 *       │ S2  B × multiplication and R1 (26,883)  │
 *       │ ─────────────────────────────────────▶ │
 *       │          B × opening of R2 (130)    S3 │
 *       │ ◀───────────────────────────────────── │
 *       │ S4  hash of all r (32)                  │
 *       │ ─────────────────────────────────────▶ │
 *
 * In kind B the device (P1) cannot always verify what it completes, so that its side gets MACs of P2's records (mac.ts):
 *
 *       │     besides, B × corrections (26,624)   │
 *       │                          (26,754·B) S3 │
 *       │ ◀───────────────────────────────────── │
 *       │ S4  besides, B × offsets (64·B + 32)    │
 *       │ ─────────────────────────────────────▶ │
 *       │        B × (t_w·T, t_v·T) (66·B)    S5 │
 *       │ ◀───────────────────────────────────── │
 *
 * The number of a batch is the id of its first record; ids never come twice within an epoch.
 */
import { u32be } from "../../bytes/bytes.ts";
import { fromBigInt, writeScalar } from "../../crypto/scalar-bigint.ts";
import { lngateError } from "../../errors.ts";
import { tagged } from "../hash.ts";
import type { KeyShare } from "../keyshare.ts";
import { POINT_BYTES, PROOF_BYTES } from "../points.ts";
import type { Batch } from "../records.ts";
import { type Kind, kindByte, type OtSetup } from "../transfer/setup.ts";
import { TRANSFERS_EACH, viewOf } from "../transfer/transfers.ts";
import type { Random } from "../turns.ts";

/** The largest batch. Sizes are multiples of 4, so that a batch fills whole field elements. */
export const MAX_BATCH = 64;
const BATCH_STEP = 4;

/** Bytes of the messages S0, and per presignature of S2, S3 and S5; of what kind B adds to S4 for each. */
export const S0_BYTES = 32 + 4 + 4 + 1 + 2;
export const CORRECTION_BYTES = TRANSFERS_EACH * 64;
export const S2_EACH = CORRECTION_BYTES + 32 + 32 + POINT_BYTES + 32 + 32 + POINT_BYTES + PROOF_BYTES;
export const S3_EACH = POINT_BYTES + PROOF_BYTES + 32;
export const MAC_OFFSET_BYTES = 2 * 32;
export const S5_EACH = 2 * POINT_BYTES;

/** What a party brings to a batch. */
export interface Presigner {
  readonly share: KeyShare;
  readonly setup: OtSetup;
  readonly random: Random;
}

/** One batch, as both parties see it. */
export interface Session {
  readonly kind: Kind;
  readonly epoch: number;
  readonly firstId: number;
  readonly count: number;
  /** Binds every hash of the batch. */
  readonly id: Uint8Array;
  /** The same per presignature. */
  readonly ids: readonly Uint8Array[];
}

/** Throws `bad-ot-setup` unless the transfers are of this kind. */
export function ensureKind(setup: OtSetup, kind: Kind): void {
  if (setup.kind !== kind) throw lngateError("bad-ot-setup", `these transfers are of kind ${setup.kind}`);
}

/** Throws `threshold-wrong-batch` for a size that no batch has. */
export function ensureBatchSize(count: number): void {
  if (!(Number.isInteger(count) && count > 0 && count <= MAX_BATCH && count % BATCH_STEP === 0)) {
    throw lngateError(
      "threshold-wrong-batch",
      `a batch has a multiple of ${BATCH_STEP} presignatures, at most ${MAX_BATCH}`,
    );
  }
}

/** The session of a batch, of both parties' nonces. */
export function openSession(
  setup: OtSetup,
  share: KeyShare,
  firstId: number,
  count: number,
  nonce1: Uint8Array,
  nonce2: Uint8Array,
): Session {
  const { kind, epoch } = setup;
  const head = [u32be(epoch), new Uint8Array([kindByte(kind)]), u32be(firstId), u16be(count)];
  const id = tagged("sid", share.sid, ...head, nonce1, nonce2);
  const ids = Array.from({ length: count }, (_, i) => tagged("sid-i", id, u32be(i)));
  return { kind, epoch, firstId, count, id, ids };
}

/** P2's commitment to its nonce point, which S3 opens. */
export function commitTo(sessionId: Uint8Array, opened: Uint8Array, blind: Uint8Array): Uint8Array {
  return tagged("com", sessionId, new Uint8Array([0x53]), opened, blind);
}

/** P1's word on the nonces that it has: S4 begins with it. */
export function acknowledge(session: Session, rs: readonly bigint[]): Uint8Array {
  return tagged("ack", session.id, ...rs.map(fromBigInt));
}

/** A batch of these records, each a list of scalars. */
export function makeBatch(session: Session, records: readonly (readonly bigint[])[]): Batch {
  const each = records[0]!.length * 32;
  const bytes = new Uint8Array(records.length * each);
  const view = viewOf(bytes);
  records.forEach((record, i) => {
    record.forEach((scalar, at) => {
      writeScalar(view, i * each + at * 32, scalar);
    });
  });
  return {
    kind: session.kind,
    epoch: session.epoch,
    firstId: session.firstId,
    count: session.count,
    records: bytes,
  };
}

/** A big-endian number of two bytes. */
export function u16be(value: number): Uint8Array {
  return new Uint8Array([value >> 8, value & 255]);
}
