/** P1's side of presigning: it begins, multiplies with its share, and completes signatures later. batch.ts tells the protocol. */
import { concat, equal, u32be } from "../../bytes/bytes.ts";
import { fromBigInt, N, toBigInt } from "../../crypto/scalar-bigint.ts";
import { lngateError } from "../../errors.ts";
import { tagged } from "../hash.ts";
import type { KeyShare } from "../keyshare.ts";
import {
  decodePoint,
  encodePoints,
  G,
  invert,
  multiply,
  POINT_BYTES,
  type Point,
  PROOF_BYTES,
  prove,
  randomScalar,
  verifyProofs,
  xsModN,
} from "../points.ts";
import type { Batch } from "../records.ts";
import { extendP1, extensionBytes, rowBytesFor } from "../transfer/extension.ts";
import { ensureSetupFor, guarded, kindByte } from "../transfer/setup.ts";
import { erasing, TRANSFERS_EACH } from "../transfer/transfers.ts";
import { transpose128 } from "../transfer/transpose.ts";
import { fieldsOf, type Random, type Sent, type Turn, turn } from "../turns.ts";
import {
  acknowledge,
  CORRECTION_BYTES,
  commitTo,
  ensureBatchSize,
  ensureKind,
  makeBatch,
  openSession,
  type Presigner,
  S2_EACH,
  S3_EACH,
  S5_EACH,
  type Session,
  u16be,
} from "./batch.ts";
import {
  asNumbers,
  batchMac,
  ensureMacs,
  ensureRunFor,
  MAC_CORRECTION_BYTES,
  type MacRun,
  receiveMacs,
} from "./mac.ts";
import { macKeys } from "./mac-keys.ts";
import { correct } from "./multiplication.ts";

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
  ensureKind(presigner.setup, "A");
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
  ensureKind(setup, "B");
  ensureRunFor(share, run);
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
            const fields = fieldsOf("S5", message, count * S5_EACH);
            const checked = session.ids.map((_, i) => ({
              nonce: nonces[i]!,
              r: rs[i]!,
              x1: kept[i]!.x1,
              keys: keys[i]!,
              claims: [decodePoint(fields.take(POINT_BYTES)), decodePoint(fields.take(POINT_BYTES))] as const,
            }));
            ensureMacs(run.alpha, share.joint, checked, random);
            return { batch: { ...makeBatch(session, records), mac: batchMac(run, key) } };
          }),
        ),
      };
    },
  );
}

/** What P1 keeps of one presignature between S2 and S4. */
interface Multiplied {
  readonly x1: bigint;
  readonly k1: bigint;
  readonly r1: bigint;
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
  ensureSetupFor(share, setup, "P1");
  ensureBatchSize(count);
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
        const fields = fieldsOf("S1", message, 32 + extensionBytes(columns) + 32 * count);
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
  const fields = fieldsOf("S3", message, count * each);
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
