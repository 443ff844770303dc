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
 * The number of a batch is the id of its first record; ids never come twice within an epoch.
 */
import { concat, equal, u32be } from "../bytes/bytes.ts";
import { fromBigInt, N, readScalar, toBigInt, writeScalar } from "../bytes/scalar-bigint.ts";
import { lngateError } from "../errors.ts";
import { consequenceOf } from "./abort.ts";
import { extendP1, extendP2, extensionBytes, rowBytesFor } from "./extension.ts";
import { RepeatedHash, tagged, taggedScalar } from "./hash.ts";
import type { KeyShare } from "./keyshare.ts";
import {
  decodePoint,
  decodeScalar,
  encodePoints,
  G,
  invert,
  multiply,
  POINT_BYTES,
  type Point,
  PROOF_BYTES,
  prove,
  randomScalar,
  randomWeight,
  sumOfProducts,
  verifyProofs,
  xsModN,
} from "./points.ts";
import type { Batch } from "./records.ts";
import { type Kind, kindByte, needSetupFor, type OtSetup } from "./setup.ts";
import { Fields, type Random, type Sent, type Turn, turn } from "./steps.ts";
import { transpose128 } from "./transpose.ts";

/** Transfers per multiplication: ξ = κ + 2·λs = 256 + 2·80. */
const TRANSFERS_EACH = 416;
/** The largest batch. Sizes are multiples of 4, so that a batch fills whole field elements. */
export const MAX_BATCH = 64;
const BATCH_STEP = 4;

const S0_BYTES = 32 + 4 + 4 + 1 + 2;
const CORRECTION_BYTES = TRANSFERS_EACH * 64;
const S2_EACH = CORRECTION_BYTES + 32 + 32 + POINT_BYTES + 32 + 32 + POINT_BYTES + PROOF_BYTES;
const S3_EACH = POINT_BYTES + PROOF_BYTES + 32;
const ROW_BYTES = 16;

/** What a party brings to a batch. */
export interface Presigner {
  readonly share: KeyShare;
  readonly setup: OtSetup;
  readonly random: Random;
}

/** One presignature's place in a batch. */
interface Session {
  readonly kind: Kind;
  readonly epoch: number;
  readonly firstId: number;
  readonly count: number;
  /** Binds every hash of the batch. */
  readonly id: Uint8Array;
  /** The same per presignature. */
  readonly ids: readonly Uint8Array[];
}

function needBatchSize(count: number): void {
  if (!(Number.isInteger(count) && count > 0 && count <= MAX_BATCH && count % BATCH_STEP === 0)) {
    throw lngateError(
      "threshold-wrong-batch",
      `a batch has a multiple of ${BATCH_STEP} presignatures, at most ${MAX_BATCH}`,
    );
  }
}

function u16be(value: number): Uint8Array {
  return new Uint8Array([value >> 8, value & 255]);
}

function openSession(
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

/** The gadget: 416 public scalars g_j, whose subset sums are P2's multiplicands. */
function gadgetOf(sessionId: Uint8Array): bigint[] {
  const hash = new RepeatedHash("gadget", sessionId, new Uint8Array(4));
  const view = new DataView(hash.block.buffer);
  return Array.from({ length: TRANSFERS_EACH }, (_, j) => {
    view.setUint32(40, j);
    return hash.scalar();
  });
}

/** Makes pads out of rows: pad(j, k, row) = Hs("ote-pad", session, j, k, row). */
class PadHash {
  private readonly hash: RepeatedHash;
  private readonly view: DataView;

  constructor(sessionId: Uint8Array) {
    // The session's id is padded to 60 bytes, so that it fills a block with its length, and a pad costs one block.
    const padded = concat([sessionId, new Uint8Array(28)]);
    this.hash = new RepeatedHash("ote-pad", padded, new Uint8Array(4), new Uint8Array(1), new Uint8Array(16));
    this.view = new DataView(this.hash.block.buffer);
  }

  row(j: number, row: Uint8Array): void {
    this.view.setUint32(4, j);
    this.hash.block.set(row, 17);
  }

  pad(k: 0 | 1): bigint {
    this.hash.block[12] = k;
    return this.hash.scalar();
  }

  erase(): void {
    this.hash.erase();
  }
}

/** −1n or 0n: selects a number by a bit without branching on it. */
function maskOf(bit: number): bigint {
  return -BigInt(bit);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Runs a step; a failed check that depends on secrets destroys the setup before anyone hears of it. */
function guarded<Result>(setup: OtSetup, batch: number, step: () => Result): Result {
  setup.needBatch(batch);
  try {
    return step();
  } catch (error) {
    if (consequenceOf(error) === "reset") setup.destroy();
    throw error;
  }
}

/** Runs a step and overwrites what it was given, whatever comes of it. */
function erasing<Result>(secrets: readonly Uint8Array[], step: () => Result): Result {
  try {
    return step();
  } finally {
    for (const secret of secrets) secret.fill(0);
  }
}

function commitTo(sessionId: Uint8Array, opened: Uint8Array, blind: Uint8Array): Uint8Array {
  return tagged("com", sessionId, new Uint8Array([0x53]), opened, blind);
}

function acknowledge(session: Session, rs: readonly bigint[]): Uint8Array {
  return tagged("ack", session.id, ...rs.map(fromBigInt));
}

function makeBatch(session: Session, records: readonly (readonly bigint[])[]): Batch {
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

/** What P1 keeps of one presignature between S2 and S4. */
interface Multiplied {
  readonly x1: bigint;
  readonly k1: bigint;
  readonly r1: bigint;
}

/**
 * P1's side; it begins. Its batch is final with the message S4, which must be sent after the batch was stored.
 *
 * @param firstId id of the first record, from the record store's `reserve`
 * @param count multiple of 4, at most 64
 * @throws at once `threshold-wrong-batch`, `threshold-old-epoch`, `bad-ot-setup`, `threshold-setup-destroyed`;
 *   later what abort.ts lists
 */
export function presignP1(
  { share, setup, random }: Presigner,
  firstId: number,
  count: number,
): Sent<Turn<"S1", Sent<Turn<"S3", { readonly send: Uint8Array; readonly batch: Batch }>>>> {
  needSetupFor(share, setup, "P1");
  needBatchSize(count);
  const batch = setup.beginBatch();
  const nonce1 = random(32).slice();
  return {
    send: concat([
      nonce1,
      u32be(share.epoch),
      u32be(firstId),
      new Uint8Array([kindByte(setup.kind)]),
      u16be(count),
    ]),
    next: turn("S1", message =>
      guarded(setup, batch, () => {
        const columns = TRANSFERS_EACH * count;
        const fields = new Fields("S1", message, 32 + extensionBytes(columns) + 32 * count);
        const nonce2 = fields.take(32);
        const session = openSession(setup, share, firstId, count, nonce1, nonce2);
        const matrix = extendP1(setup, session.id, columns, fields.take(extensionBytes(columns)));
        const commitments = session.ids.map(() => fields.take(32).slice());
        const { send, kept } = erasing([matrix], () =>
          multiplyP1(session, share, matrix, setup.delta, random),
        );
        return {
          send,
          next: turn("S3", message =>
            guarded(setup, batch, () => finishP1(session, message, commitments, kept, random)),
          ),
        };
      }),
    ),
  };
}

/** S2: per presignature the corrections that turn pads into a product, and P1's nonce point. */
function multiplyP1(
  session: Session,
  share: KeyShare,
  matrix: Uint8Array,
  delta: Uint8Array,
  random: Random,
): { send: Uint8Array; kept: Multiplied[] } {
  const { count, ids } = session;
  const kept = ids.map(() => ({
    x1: randomScalar(random),
    k1: randomScalar(random),
    r1: randomScalar(random),
  }));
  const points = encodePoints(kept.flatMap(({ x1, k1 }) => [G.multiply(x1), G.multiply(k1)]));
  const proofs = prove(
    kept.map(({ k1 }, i) => ({ sid: ids[i]!, role: "P1", point: points[2 * i + 1]!, secret: k1 })),
    random,
  );
  const send = new Uint8Array(count * S2_EACH);
  const xP1 = toBigInt(share.secret);
  for (let i = 0; i < count; i++) {
    const { x1, r1 } = kept[i]!;
    const own = send.subarray(i * S2_EACH, (i + 1) * S2_EACH);
    const rows = transpose128(
      matrix,
      rowBytesFor(TRANSFERS_EACH * count),
      i * TRANSFERS_EACH,
      TRANSFERS_EACH,
    );
    const { eta, mu, tA } = correct(ids[i]!, rows, delta, x1, own.subarray(0, CORRECTION_BYTES), random);
    rows.fill(0);
    const cc = (tA + x1 * r1 + N - xP1) % N;
    own.set(
      concat([
        fromBigInt(eta),
        mu,
        points[2 * i]!,
        fromBigInt(r1),
        fromBigInt(cc),
        points[2 * i + 1]!,
        proofs[i]!,
      ]),
      CORRECTION_BYTES,
    );
  }
  return { send, kept };
}

/**
 * P1's half of the random vector OLE (DKLs23, protocol 5.2) on input x1: fills in the corrections Ã, and returns
 * P1's additive share tA of x1·k2 and what P2 checks the corrections by.
 */
function correct(
  sessionId: Uint8Array,
  rows: Uint8Array,
  delta: Uint8Array,
  x1: bigint,
  corrections: Uint8Array,
  random: Random,
): { eta: bigint; mu: Uint8Array; tA: bigint } {
  const gadget = gadgetOf(sessionId);
  const pads = new PadHash(sessionId);
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

/** Reads S3, and makes P1's records and S4. */
function finishP1(
  session: Session,
  message: Uint8Array,
  commitments: readonly Uint8Array[],
  kept: readonly Multiplied[],
  random: Random,
): { send: Uint8Array; batch: Batch } {
  const { count, ids } = session;
  const fields = new Fields("S3", message, count * S3_EACH);
  const claims = ids.map((sid, i) => {
    const opened = fields.take(POINT_BYTES + PROOF_BYTES);
    if (!equal(commitTo(sid, opened, fields.take(32)), commitments[i]!)) {
      throw lngateError("threshold-bad-commitment", "S3 does not open what S1 committed to");
    }
    const point = opened.subarray(0, POINT_BYTES);
    return { sid, role: "P2", point, decoded: decodePoint(point), proof: opened.subarray(POINT_BYTES) };
  });
  verifyProofs(claims, random);
  const rs = xsModN(
    // r1 is known to both sides, and may be multiplied with in any time.
    claims.map(({ decoded }, i) => multiply(decoded.add(G.multiplyUnsafe(kept[i]!.r1)), kept[i]!.k1)),
  );
  const records = kept.map(({ x1, k1 }, i) => {
    const kappa = invert(k1);
    return [rs[i]!, kappa, (((kappa * rs[i]!) % N) * x1) % N];
  });
  return { send: acknowledge(session, rs), batch: makeBatch(session, records) };
}

/** What P2 keeps of one presignature between S1 and S3. */
interface Chosen {
  readonly k2: bigint;
  readonly gadget: readonly bigint[];
  /** R2 ‖ proof ‖ ρ. */
  readonly opening: Uint8Array;
}

/**
 * P2's side. Its batch is final when S4 has come.
 *
 * @param nextId the least record id that the own store takes; S0 must not name an earlier one
 * @throws at once `threshold-old-epoch`, `bad-ot-setup`, `threshold-setup-destroyed`; later what abort.ts lists
 */
export function presignP2(
  { share, setup, random }: Presigner,
  nextId: number,
): Turn<"S0", Sent<Turn<"S2", Sent<Turn<"S4", { readonly batch: Batch }>>>>> {
  needSetupFor(share, setup, "P2");
  const batch = setup.beginBatch();
  return turn("S0", message =>
    guarded(setup, batch, () => {
      const fields = new Fields("S0", message, S0_BYTES);
      const nonce1 = fields.take(32);
      const epoch = fields.number(4);
      const firstId = fields.number(4);
      const kind = fields.number(1);
      const count = fields.number(2);
      if (epoch !== share.epoch) {
        throw lngateError("threshold-old-epoch", `S0 names epoch ${epoch}, this is epoch ${share.epoch}`);
      }
      needBatchSize(count);
      if (kind !== kindByte(setup.kind) || firstId < nextId || firstId + count > 0xffffffff) {
        throw lngateError("threshold-wrong-batch", "S0 names another kind, or a batch that has been");
      }
      const nonce2 = random(32).slice();
      const session = openSession(setup, share, firstId, count, nonce1, nonce2);
      const columns = TRANSFERS_EACH * count;
      const { message: extension, choices, matrix } = extendP2(setup, session.id, columns, random);
      const chosen = choose(session, choices, random);
      const commitments = chosen.map(({ opening }, i) =>
        commitTo(session.ids[i]!, opening.subarray(0, S3_EACH - 32), opening.subarray(S3_EACH - 32)),
      );
      return {
        send: concat([nonce2, extension, ...commitments]),
        next: turn("S2", message =>
          guarded(setup, batch, () => {
            const {
              send,
              batch: records,
              ack,
            } = erasing([choices, matrix], () =>
              finishP2(session, share, message, choices, matrix, chosen, random),
            );
            return {
              send,
              next: turn("S4", message => {
                setup.needBatch(batch);
                if (!equal(new Fields("S4", message, 32).take(32), ack)) {
                  records.records.fill(0);
                  throw lngateError("threshold-bad-confirmation", "P1 has other nonces than P2");
                }
                return { batch: records };
              }),
            };
          }),
        ),
      };
    }),
  );
}

/** S1: the random choice bits add up to k2; commits to R2 = k2·G. */
function choose(session: Session, choices: Uint8Array, random: Random): Chosen[] {
  const gadgets = session.ids.map(gadgetOf);
  const secrets = gadgets.map((gadget, i) => {
    let sum = 0n;
    for (let j = 0; j < TRANSFERS_EACH; j++)
      sum += gadget[j]! & maskOf(bitOf(choices, i * TRANSFERS_EACH + j));
    return sum % N;
  });
  const points = encodePoints(secrets.map(k2 => G.multiply(k2)));
  const proofs = prove(
    secrets.map((secret, i) => ({ sid: session.ids[i]!, role: "P2", point: points[i]!, secret })),
    random,
  );
  return secrets.map((k2, i) => ({
    k2,
    gadget: gadgets[i]!,
    opening: concat([points[i]!, proofs[i]!, random(32)]),
  }));
}

function bitOf(bytes: Uint8Array, at: number): number {
  return (bytes[at >> 3]! >> (at & 7)) & 1;
}

/** Reads S2, and makes P2's records, S3, and what S4 must be. */
function finishP2(
  session: Session,
  share: KeyShare,
  message: Uint8Array,
  choices: Uint8Array,
  matrix: Uint8Array,
  chosen: readonly Chosen[],
  random: Random,
): { send: Uint8Array; batch: Batch; ack: Uint8Array } {
  const { count, ids } = session;
  const fields = new Fields("S2", message, count * S2_EACH);
  const parts = ids.map(sid => {
    const corrections = fields.take(CORRECTION_BYTES);
    const eta = decodeScalar(fields.take(32));
    const mu = fields.take(32);
    const product = decodePoint(fields.take(POINT_BYTES));
    const r1 = decodeScalar(fields.take(32));
    const cc = decodeScalar(fields.take(32));
    const point = fields.take(POINT_BYTES);
    const proof = fields.take(PROOF_BYTES);
    const claim = { sid, role: "P1", point, decoded: decodePoint(point), proof };
    return { corrections, eta, mu, product, r1, cc, claim };
  });
  const rowBytes = rowBytesFor(TRANSFERS_EACH * count);
  const shares = parts.map(({ corrections, eta, mu }, i) => {
    const rows = transpose128(matrix, rowBytes, i * TRANSFERS_EACH, TRANSFERS_EACH);
    const bits = choices.subarray((i * TRANSFERS_EACH) / 8, ((i + 1) * TRANSFERS_EACH) / 8);
    const result = receive(ids[i]!, rows, bits, chosen[i]!.gadget, corrections, eta);
    rows.fill(0);
    return { ...result, fits: equal(result.mu, mu) };
  });
  if (!shares.every(({ fits }) => fits)) {
    throw lngateError("threshold-multiplication-check", "the corrections of S2 are not of one number");
  }
  const nonces = parts.map(({ r1 }, i) => (chosen[i]!.k2 + r1) % N);
  const sums = parts.map(({ cc }, i) => (shares[i]!.tB + cc) % N);
  needConsistency(
    share,
    sums,
    nonces,
    parts.map(part => part.product),
    random,
  );
  verifyProofs(
    parts.map(part => part.claim),
    random,
  );
  const xP2 = toBigInt(share.secret);
  const rs = xsModN(parts.map(({ claim }, i) => multiply(claim.decoded, nonces[i]!)));
  const records = nonces.map((nonce, i) => {
    const w = invert(nonce);
    return [w, (((w * rs[i]!) % N) * (xP2 + N - sums[i]!)) % N];
  });
  return {
    send: concat(chosen.map(({ opening }) => opening)),
    batch: makeBatch(session, records),
    ack: acknowledge(session, rs),
  };
}

/** P2's half of the random vector OLE: its additive share tB of x1·k2, and what μ must be. */
function receive(
  sessionId: Uint8Array,
  rows: Uint8Array,
  bits: Uint8Array,
  gadget: readonly bigint[],
  corrections: Uint8Array,
  eta: bigint,
): { tB: bigint; mu: Uint8Array } {
  const pads = new PadHash(sessionId);
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

/**
 * (tB + cc)·G + Q_P1 = (k2 + r1)·Q1' for every presignature: P1 has used its own share and the x1' of its
 * corrections. All equations at once, each under a fresh random weight (which also hides the scalars from a clock).
 */
function needConsistency(
  share: KeyShare,
  sums: readonly bigint[],
  nonces: readonly bigint[],
  products: readonly Point[],
  random: Random,
): void {
  const weights = sums.map(() => randomWeight(random));
  const total = (values: readonly bigint[]) =>
    values.reduce((sum, value, i) => (sum + value * weights[i]!) % N, 0n);
  const difference = sumOfProducts(
    [G, decodePoint(share.peer), ...products.map(point => point.negate())],
    [total(sums), total(sums.map(() => 1n)), ...nonces.map((nonce, i) => (nonce * weights[i]!) % N)],
  );
  if (!difference.is0()) {
    throw lngateError("threshold-share-check", "P1 has not used its own share of the key");
  }
}
