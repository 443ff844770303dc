/**
 * OT extension: from 128 seeds to any number of correlated transfers (SoftSpoken OT, ePrint 2022/192, with k = 1,
 * checked as by Keller, Orsini, Scholl, ePrint 2015/546 with a real field multiplication).
 *
 * P2 picks a choice bit x_j per transfer. P1 ends with rows q_j, P2 with t_j, such that q_j = t_j ⊕ x_j·Δ: two
 * pads per transfer for P1 (from q_j and q_j ⊕ Δ), the chosen one for P2.
 */
import { concat, equal, u32be } from "../../bytes/bytes.ts";
import { lngateError } from "../../errors.ts";
import { RepeatedHash, tagged } from "../hash.ts";
import type { Random } from "../turns.ts";
import { combine, ELEMENT_BYTES, prepareWeights, type Weights } from "./field128.ts";
import { type OtSetup, TRANSFERS } from "./setup.ts";

/** Bytes that P2 sends for `columns` transfers: u, x̂ and t̂. `columns` is a multiple of 128. */
export function extensionBytes(columns: number): number {
  return TRANSFERS * rowBytesFor(columns) + ELEMENT_BYTES + TRANSFERS * ELEMENT_BYTES;
}

/** A row has one bit per transfer, and one field element more that hides the others in the check. */
export function rowBytesFor(columns: number): number {
  return columns / 8 + ELEMENT_BYTES;
}

/** A seed stretched to one row: SHA-256 in counter mode, bound to the batch and the row. */
function stretch(session: Uint8Array, i: number, seed: Uint8Array, out: Uint8Array): void {
  const key = tagged("ote-prg-key", session, u32be(i), seed);
  const counter = new Uint8Array(4);
  const stream = new RepeatedHash("ote-prg", key, counter);
  const counterAt = 32 + 4 + 4;
  const blockView = new DataView(stream.block.buffer);
  const whole = out.length - (out.length % 32);
  const view = new DataView(out.buffer, out.byteOffset, out.length);
  for (let at = 0, count = 0; at < whole; at += 32, count++) {
    blockView.setUint32(counterAt, count);
    stream.into(view, at);
  }
  if (whole < out.length) {
    const last = new Uint8Array(32);
    blockView.setUint32(counterAt, whole / 32);
    stream.into(new DataView(last.buffer), 0);
    out.set(last.subarray(0, out.length - whole), whole);
    last.fill(0);
  }
  stream.erase();
  key.fill(0);
}

/** χ_j from everything P2 has fixed by then. */
function weightsFor(session: Uint8Array, u: Uint8Array, columns: number): Weights {
  const transcript = tagged("ote-u", session, u);
  const count = columns / 128;
  const bytes = new Uint8Array(count * ELEMENT_BYTES);
  for (let j = 0; j < count; j++) {
    bytes.set(tagged("ote-chi", transcript, u32be(j)).subarray(0, ELEMENT_BYTES), j * ELEMENT_BYTES);
  }
  return prepareWeights(bytes, count);
}

/** What P2 gets out of an extension. */
export interface Extended {
  /** u ‖ x̂ ‖ t̂, for P1. */
  readonly message: Uint8Array;
  /** The choice bits, and 128 random ones. */
  readonly choices: Uint8Array;
  /** 128 rows of rowBytesFor(columns): the matrix whose columns are the t_j. Secret. */
  readonly matrix: Uint8Array;
}

/** P2's side, with fresh random choices. */
export function extendP2(setup: OtSetup, session: Uint8Array, columns: number, random: Random): Extended {
  const rowBytes = rowBytesFor(columns);
  const choices = random(rowBytes).slice();
  const matrix = new Uint8Array(TRANSFERS * rowBytes);
  const u = new Uint8Array(TRANSFERS * rowBytes);
  for (let i = 0; i < TRANSFERS; i++) {
    const row = matrix.subarray(i * rowBytes, (i + 1) * rowBytes);
    const masked = u.subarray(i * rowBytes, (i + 1) * rowBytes);
    stretch(session, i, setup.seed(i, 0), row);
    stretch(session, i, setup.seed(i, 1), masked);
    for (let at = 0; at < rowBytes; at++) masked[at] = masked[at]! ^ row[at]! ^ choices[at]!;
  }
  const weights = weightsFor(session, u, columns);
  const sums = [choices, ...rowsOf(matrix, rowBytes)].map(row => combine(weights, row));
  return { message: concat([u, ...sums]), choices, matrix };
}

/**
 * P1's side: the matrix whose columns are the q_j, 128 rows of rowBytesFor(columns).
 *
 * @param message u ‖ x̂ ‖ t̂, extensionBytes(columns) long
 * @throws `threshold-extension-check`: P2 did not use the same choices in all rows. This failure depends on Δ, and
 *   so tells P2 about it: the setup must be destroyed.
 */
export function extendP1(
  setup: OtSetup,
  session: Uint8Array,
  columns: number,
  message: Uint8Array,
): Uint8Array {
  const rowBytes = rowBytesFor(columns);
  const u = message.subarray(0, TRANSFERS * rowBytes);
  const xSum = message.subarray(u.length, u.length + ELEMENT_BYTES);
  const tSums = message.subarray(u.length + ELEMENT_BYTES);
  const delta = setup.delta;
  const matrix = new Uint8Array(TRANSFERS * rowBytes);
  const weights = weightsFor(session, u, columns);
  const expected = new Uint8Array(TRANSFERS * ELEMENT_BYTES);
  const found = new Uint8Array(TRANSFERS * ELEMENT_BYTES);
  for (let i = 0; i < TRANSFERS; i++) {
    const row = matrix.subarray(i * rowBytes, (i + 1) * rowBytes);
    const mask = -((delta[i >> 3]! >> (i & 7)) & 1);
    stretch(session, i, setup.seed(i), row);
    for (let at = 0; at < rowBytes; at++) row[at] = row[at]! ^ (mask & u[i * rowBytes + at]!);
    found.set(combine(weights, row), i * ELEMENT_BYTES);
    for (let at = 0; at < ELEMENT_BYTES; at++) {
      expected[i * ELEMENT_BYTES + at] = tSums[i * ELEMENT_BYTES + at]! ^ (mask & xSum[at]!);
    }
  }
  const consistent = equal(found, expected);
  found.fill(0);
  expected.fill(0);
  if (!consistent) {
    matrix.fill(0);
    throw lngateError("threshold-extension-check", "the rows of the OT extension do not agree");
  }
  return matrix;
}

function rowsOf(matrix: Uint8Array, rowBytes: number): Uint8Array[] {
  return Array.from({ length: TRANSFERS }, (_, i) => matrix.subarray(i * rowBytes, (i + 1) * rowBytes));
}
