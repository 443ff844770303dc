/**
 * The one multiplication of secrets in presigning, x1·k2: the random vector OLE of DKLs23 (ePrint 2023/765, protocol 5.2)
 * over OT extension. P1 corrects pads by its input, P2 takes its choices of them; each gets an additive share, and P2 can
 * check that it was one input.
 */
import { N, readScalar, writeScalar } from "../../crypto/scalar-bigint.ts";
import { lngateError } from "../../errors.ts";
import { tagged, taggedScalar } from "../hash.ts";
import { randomScalar } from "../points.ts";
import {
  bitOf,
  gadgetOf,
  maskOf,
  PadHash,
  ROW_BYTES,
  TRANSFERS_EACH,
  viewOf,
} from "../transfer/transfers.ts";
import type { Random } from "../turns.ts";

/**
 * P1's half of the random vector OLE (DKLs23, protocol 5.2) on input x1: fills in the corrections Ã, and returns
 * P1's additive share tA of x1·k2 and what P2 checks the corrections by.
 */
export function correct(
  sessionId: Uint8Array,
  rows: Uint8Array,
  delta: Uint8Array,
  x1: bigint,
  corrections: Uint8Array,
  random: Random,
): { eta: bigint; mu: Uint8Array; tA: bigint } {
  const gadget = gadgetOf("gadget", sessionId);
  const pads = new PadHash("ote-pad", sessionId);
  const check = randomScalar(random);
  const out = viewOf(corrections);
  const first: bigint[] = [];
  const second: bigint[] = [];
  const row = new Uint8Array(ROW_BYTES);
  let sum = 0n;
  for (let j = 0; j < TRANSFERS_EACH; j++) {
    const zero = rows.subarray(j * ROW_BYTES, (j + 1) * ROW_BYTES);
    pads.row(j, zero);
    const pad0 = pads.pad(0);
    const pad1 = pads.pad(1);
    for (let at = 0; at < ROW_BYTES; at++) row[at] = zero[at]! ^ delta[at]!;
    pads.row(j, row);
    writeScalar(out, j * 64, (pad0 + x1 + N - pads.pad(0)) % N);
    writeScalar(out, j * 64 + 32, (pad1 + check + N - pads.pad(1)) % N);
    sum += gadget[j]! * pad0;
    first.push(pad0);
    second.push(pad1);
  }
  row.fill(0);
  pads.erase();
  const theta = taggedScalar("theta", sessionId, corrections);
  const all = new Uint8Array(TRANSFERS_EACH * 32);
  const allView = viewOf(all);
  for (let j = 0; j < TRANSFERS_EACH; j++) {
    writeScalar(allView, j * 32, (second[j]! + theta * first[j]!) % N);
  }
  const mu = tagged("mu", sessionId, all);
  all.fill(0);
  return { eta: (check + theta * x1) % N, mu, tA: N - (sum % N) };
}

/** P2's half of the random vector OLE: its additive share tB of x1·k2, and what μ must be. Throws `threshold-bad-message`. */
export function receive(
  sessionId: Uint8Array,
  rows: Uint8Array,
  bits: Uint8Array,
  gadget: readonly bigint[],
  corrections: Uint8Array,
  eta: bigint,
): { tB: bigint; mu: Uint8Array } {
  const pads = new PadHash("ote-pad", sessionId);
  const theta = taggedScalar("theta", sessionId, corrections);
  const input = viewOf(corrections);
  const all = new Uint8Array(TRANSFERS_EACH * 32);
  const allView = viewOf(all);
  let sum = 0n;
  for (let j = 0; j < TRANSFERS_EACH; j++) {
    const first = readScalar(input, j * 64);
    const second = readScalar(input, j * 64 + 32);
    if (first >= N || second >= N) {
      throw lngateError("threshold-bad-message", "a correction is not below n");
    }
    const chosen = maskOf(bitOf(bits, j));
    pads.row(j, rows.subarray(j * ROW_BYTES, (j + 1) * ROW_BYTES));
    const d0 = (pads.pad(0) + (first & chosen)) % N;
    const d1 = pads.pad(1) + (second & chosen);
    sum += gadget[j]! * d0;
    writeScalar(allView, j * 32, (d1 + theta * d0 + ((N - eta) & chosen)) % N);
  }
  pads.erase();
  const mu = tagged("mu", sessionId, all);
  all.fill(0);
  return { tB: sum % N, mu };
}
