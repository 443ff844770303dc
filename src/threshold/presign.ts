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
import { concat, equal, u32be } from "../bytes/bytes.ts";
import { fromBigInt, N, readScalar, toBigInt, writeScalar } from "../crypto/scalar-bigint.ts";
import { lngateError } from "../errors.ts";
import { extendP1, extendP2, extensionBytes, rowBytesFor } from "./extension.ts";
import { tagged, taggedScalar } from "./hash.ts";
import type { KeyShare } from "./keyshare.ts";
import {
  asNumbers,
  type Both,
  batchMac,
  MAC_CORRECTION_BYTES,
  type MacRun,
  needMacs,
  needRunFor,
  receiveMacs,
  sendMacs,
} from "./mac.ts";
import { macKeys } from "./mac-keys.ts";
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
import { guarded, type Kind, kindByte, needSetupFor, type OtSetup } from "./setup.ts";
import {
  bitOf,
  erasing,
  gadgetOf,
  maskOf,
  PadHash,
  ROW_BYTES,
  subsetSum,
  TRANSFERS_EACH,
  viewOf,
} from "./transfers.ts";
import { transpose128 } from "./transpose.ts";
import { Fields, type Random, type Sent, type Turn, turn } from "./turns.ts";

/** The largest batch. Sizes are multiples of 4, so that a batch fills whole field elements. */
export const MAX_BATCH = 64;
const BATCH_STEP = 4;

const S0_BYTES = 32 + 4 + 4 + 1 + 2;
const CORRECTION_BYTES = TRANSFERS_EACH * 64;
const S2_EACH = CORRECTION_BYTES + 32 + 32 + POINT_BYTES + 32 + 32 + POINT_BYTES + PROOF_BYTES;
const S3_EACH = POINT_BYTES + PROOF_BYTES + 32;
const MAC_OFFSET_BYTES = 2 * 32;
const S5_EACH = 2 * POINT_BYTES;

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

/** P1's side of kind A: its batch is final with the message S4, which must be sent after the batch was stored. */
export type P1 = Sent<Turn<"S1", Sent<Turn<"S3", { readonly send: Uint8Array; readonly batch: Batch }>>>>;
/** P1's side of kind B: its batch is final when the MACs of S5 are right. */
export type P1WithMacs = Sent<Turn<"S1", Sent<Turn<"S3", Sent<Turn<"S5", { readonly batch: Batch }>>>>>>;

/**
 * P1's side of kind A; it begins.
 *
 * @param firstId id of the first record, from the record store's `reserve`
 * @param count multiple of 4, at most 64
 * @throws at once `threshold-wrong-batch`, `threshold-old-epoch`, `bad-ot-setup`, `threshold-setup-destroyed`;
 *   later what abort.ts lists
 */
export function presignP1(presigner: Presigner, firstId: number, count: number): P1 {
  needKind(presigner.setup, "A");
  return beginP1(presigner, firstId, count, S3_EACH, opened => {
    const { session, rs, records } = opened;
    return { send: acknowledge(session, rs), batch: makeBatch(session, records) };
  });
}

/**
 * P1's side of kind B. `firstId` must be above every id that was ever begun with: S0 makes them used, and what is
 * used has to be written down before S0 is sent. Throws as `presignP1` does, and `bad-mac-run`.
 */
export function presignP1WithMacs(
  presigner: Presigner & { readonly run: MacRun },
  firstId: number,
  count: number,
): P1WithMacs {
  const { share, setup, run, random } = presigner;
  needKind(setup, "B");
  needRunFor(share, run);
  const each = S3_EACH + MAC_CORRECTION_BYTES;
  return beginP1(
    presigner,
    firstId,
    count,
    each,
    ({ session, s3, nonces, rs, records, rest, kept, step }) => {
      // Of everything that the gateway has said: the same key never meets two values, even where `random` repeats itself.
      const key = tagged("mac-key", random(32), session.id, s3);
      const keys = session.ids.map((_, i) => asNumbers(macKeys(key, firstId + i)));
      const offsets = rest.map((corrections, i) => {
        const own = receiveMacs(run, session.ids[i]!, corrections);
        return concat(keys[i]!.map((wanted, which) => fromBigInt((wanted + N - own[which]!) % N)));
      });
      return {
        send: concat([acknowledge(session, rs), ...offsets]),
        next: turn("S5", message =>
          step(() => {
            const fields = new Fields("S5", message, count * S5_EACH);
            const checked = session.ids.map((_, i) => ({
              nonce: nonces[i]!,
              r: rs[i]!,
              x1: kept[i]!.x1,
              keys: keys[i]!,
              claims: [decodePoint(fields.take(POINT_BYTES)), decodePoint(fields.take(POINT_BYTES))] as const,
            }));
            needMacs(run.alpha, share.joint, checked, random);
            return { batch: { ...makeBatch(session, records), mac: batchMac(run, key) } };
          }),
        ),
      };
    },
  );
}

function needKind(setup: OtSetup, kind: Kind): void {
  if (setup.kind !== kind) throw lngateError("bad-ot-setup", `these transfers are of kind ${setup.kind}`);
}

/** What P1 has when it has read S3. */
interface Opened {
  readonly session: Session;
  readonly s3: Uint8Array;
  readonly kept: readonly Multiplied[];
  /** (k2 + r1)·G. */
  readonly nonces: readonly Point[];
  readonly rs: readonly bigint[];
  readonly records: readonly (readonly bigint[])[];
  /** What S3 carries per presignature behind its opening. */
  readonly rest: readonly Uint8Array[];
  /** Runs a later step of the batch. */
  step<Result>(work: () => Result): Result;
}

function beginP1<Next>(
  { share, setup, random, run }: Presigner & { readonly run?: MacRun },
  firstId: number,
  count: number,
  s3Each: number,
  finish: (opened: Opened) => Next,
): Sent<Turn<"S1", Sent<Turn<"S3", Next>>>> {
  needSetupFor(share, setup, "P1");
  needBatchSize(count);
  const batch = setup.beginBatch();
  const step = <Result>(work: () => Result) => guarded(setup, batch, work, run);
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
      step(() => {
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
          next: turn("S3", s3 =>
            step(() => {
              const opened = openP1(session, s3, s3Each, commitments, kept, random);
              return finish({ session, s3, kept, step, ...opened });
            }),
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

/** Reads S3, and makes P1's records. */
function openP1(
  session: Session,
  message: Uint8Array,
  each: number,
  commitments: readonly Uint8Array[],
  kept: readonly Multiplied[],
  random: Random,
): Pick<Opened, "nonces" | "rs" | "records" | "rest"> {
  const { count, ids } = session;
  const fields = new Fields("S3", message, count * each);
  const rest: Uint8Array[] = [];
  const claims = ids.map((sid, i) => {
    const opened = fields.take(POINT_BYTES + PROOF_BYTES);
    if (!equal(commitTo(sid, opened, fields.take(32)), commitments[i]!)) {
      throw lngateError("threshold-bad-commitment", "S3 does not open what S1 committed to");
    }
    rest.push(fields.take(each - S3_EACH));
    const point = opened.subarray(0, POINT_BYTES);
    return { sid, role: "P2", point, decoded: decodePoint(point), proof: opened.subarray(POINT_BYTES) };
  });
  verifyProofs(claims, random);
  // r1 is known to both sides, and may be multiplied with in any time.
  const nonces = claims.map(({ decoded }, i) => decoded.add(G.multiplyUnsafe(kept[i]!.r1)));
  const rs = xsModN(nonces.map((nonce, i) => multiply(nonce, kept[i]!.k1)));
  const records = kept.map(({ x1, k1 }, i) => {
    const kappa = invert(k1);
    return [rs[i]!, kappa, (((kappa * rs[i]!) % N) * x1) % N];
  });
  return { nonces, rs, records, rest };
}

/** What P2 keeps of one presignature between S1 and S3. */
interface Chosen {
  readonly k2: bigint;
  readonly gadget: readonly bigint[];
  /** R2 ‖ proof ‖ ρ. */
  readonly opening: Uint8Array;
}

/** P2's side after S0: what it sends, and the ids that the batch takes up to. */
export interface Begun<Next> extends Sent<Next> {
  /** The id after the batch's last record: to be written down before S1 is sent. */
  readonly end: number;
}
/** P2's side of kind A: its batch is final when S4 has come. */
export type P2 = Turn<"S0", Begun<Turn<"S2", Sent<Turn<"S4", { readonly batch: Batch }>>>>>;
/** P2's side of kind B: its batch is to be stored before S5 is sent, and used only when P1 has stored its own. */
export type P2WithMacs = Turn<
  "S0",
  Begun<Turn<"S2", Sent<Turn<"S4", { readonly send: Uint8Array; readonly batch: Batch }>>>>
>;

/**
 * P2's side of kind A.
 *
 * @param nextId the least record id that the own store takes; S0 must not name an earlier one
 * @throws at once `threshold-old-epoch`, `bad-ot-setup`, `threshold-setup-destroyed`; later what abort.ts lists
 */
export function presignP2(presigner: Presigner, nextId: number): P2 {
  needKind(presigner.setup, "A");
  return beginP2(presigner, nextId, ({ session, openings, ack, records }) => ({
    send: concat(openings),
    next: (message, needAck) => {
      needAck(new Fields("S4", message, ack.length).take(ack.length));
      return { batch: makeBatch(session, records) };
    },
  }));
}

/** P2's side of kind B. Throws as `presignP2` does, and `bad-mac-run`. */
export function presignP2WithMacs(
  presigner: Presigner & { readonly run: MacRun },
  nextId: number,
): P2WithMacs {
  const { share, setup, run } = presigner;
  needKind(setup, "B");
  needRunFor(share, run);
  return beginP2(presigner, nextId, ({ session, openings, ack, nonces, records }) => {
    const macs: Both[] = [];
    const parts = openings.map((opening, i) => {
      const corrections = new Uint8Array(MAC_CORRECTION_BYTES);
      macs.push(sendMacs(run, session.ids[i]!, [records[i]![0]!, records[i]![1]!], corrections));
      return concat([opening, corrections]);
    });
    return {
      send: concat(parts),
      next: (message, needAck) => {
        const fields = new Fields("S4", message, ack.length + session.count * MAC_OFFSET_BYTES);
        needAck(fields.take(ack.length));
        const whole = macs.map((own, i) => {
          const shifted = own.map(mac => (mac + decodeScalar(fields.take(32))) % N);
          return [...records[i]!, ...shifted];
        });
        // t·T = (t·(k2 + r1))·G, which is one multiplication of the base point.
        const points = whole.flatMap(([, , ofW, ofV], i) =>
          [ofW!, ofV!].map(mac => G.multiply((mac * nonces[i]!) % N)),
        );
        return { send: concat(encodePoints(points)), batch: makeBatch(session, whole) };
      },
    };
  });
}

/** What P2 has when it has read S2. */
interface Answering {
  readonly session: Session;
  /** R2 ‖ proof ‖ ρ of each. */
  readonly openings: readonly Uint8Array[];
  /** What S4 begins with. */
  readonly ack: Uint8Array;
  /** k2 + r1. */
  readonly nonces: readonly bigint[];
  /** w, v. */
  readonly records: readonly (readonly bigint[])[];
}

/** Throws unless S4 has the same nonces. */
type NeedAck = (found: Uint8Array) => void;

function beginP2<Done>(
  { share, setup, random, run }: Presigner & { readonly run?: MacRun },
  nextId: number,
  finish: (answering: Answering) => {
    send: Uint8Array;
    next: (message: Uint8Array, needAck: NeedAck) => Done;
  },
): Turn<"S0", Begun<Turn<"S2", Sent<Turn<"S4", Done>>>>> {
  needSetupFor(share, setup, "P2");
  const batch = setup.beginBatch();
  const step = <Result>(work: () => Result) => guarded(setup, batch, work, run);
  return turn("S0", message =>
    step(() => {
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
        end: firstId + count,
        next: turn("S2", message =>
          step(() => {
            const answering = erasing([choices, matrix], () =>
              finishP2(session, share, message, choices, matrix, chosen, random),
            );
            const { send, next } = finish(answering);
            return {
              send,
              next: turn("S4", message =>
                step(() =>
                  next(message, found => {
                    if (equal(found, answering.ack)) return;
                    throw lngateError("threshold-bad-confirmation", "P1 has other nonces than P2");
                  }),
                ),
              ),
            };
          }),
        ),
      };
    }),
  );
}

/** S1: the random choice bits add up to k2; commits to R2 = k2·G. */
function choose(session: Session, choices: Uint8Array, random: Random): Chosen[] {
  const gadgets = session.ids.map(id => gadgetOf("gadget", id));
  const secrets = gadgets.map((gadget, i) => subsetSum(gadget, choices, i * TRANSFERS_EACH) % N);
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

/** Reads S2, and makes P2's records, and what S4 must be. */
function finishP2(
  session: Session,
  share: KeyShare,
  message: Uint8Array,
  choices: Uint8Array,
  matrix: Uint8Array,
  chosen: readonly Chosen[],
  random: Random,
): Answering {
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
    session,
    openings: chosen.map(({ opening }) => opening),
    ack: acknowledge(session, rs),
    nonces,
    records,
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
