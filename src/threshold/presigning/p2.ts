/** P2's side of presigning: it chooses its nonces, checks what P1 has multiplied, and answers when signatures are made. batch.ts tells the protocol. */
import { concat, equal } from "../../bytes/bytes.ts";
import { N, toBigInt } from "../../crypto/scalar-bigint.ts";
import { lngateError } from "../../errors.ts";
import type { KeyShare } from "../keyshare.ts";
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
  randomWeight,
  sumOfProducts,
  verifyProofs,
  xsModN,
} from "../points.ts";
import type { Batch } from "../records.ts";
import { extendP2, rowBytesFor } from "../transfer/extension.ts";
import { ensureSetupFor, guarded, kindByte } from "../transfer/setup.ts";
import { erasing, gadgetOf, subsetSum, TRANSFERS_EACH } from "../transfer/transfers.ts";
import { transpose128 } from "../transfer/transpose.ts";
import { fieldsOf, type Random, type Sent, type Turn, turn } from "../turns.ts";
import {
  acknowledge,
  CORRECTION_BYTES,
  commitTo,
  ensureBatchSize,
  ensureKind,
  MAC_OFFSET_BYTES,
  makeBatch,
  openSession,
  type Presigner,
  S0_BYTES,
  S2_EACH,
  S3_EACH,
  type Session,
} from "./batch.ts";
import { type Both, ensureRunFor, MAC_CORRECTION_BYTES, type MacRun, sendMacs } from "./mac.ts";
import { receive } from "./multiplication.ts";

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
  ensureKind(presigner.setup, "A");
  return beginP2(presigner, nextId, ({ session, openings, ack, records }) => ({
    send: concat(openings),
    next: (message, ensureAck) => {
      ensureAck(fieldsOf("S4", message, ack.length).take(ack.length));
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
  ensureKind(setup, "B");
  ensureRunFor(share, run);
  return beginP2(presigner, nextId, ({ session, openings, ack, nonces, records }) => {
    const macs: Both[] = [];
    const parts = openings.map((opening, i) => {
      const corrections = new Uint8Array(MAC_CORRECTION_BYTES);
      macs.push(sendMacs(run, session.ids[i]!, [records[i]![0]!, records[i]![1]!], corrections));
      return concat([opening, corrections]);
    });
    return {
      send: concat(parts),
      next: (message, ensureAck) => {
        const fields = fieldsOf("S4", message, ack.length + session.count * MAC_OFFSET_BYTES);
        ensureAck(fields.take(ack.length));
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

/** What P2 keeps of one presignature between S1 and S3. */
interface Chosen {
  readonly k2: bigint;
  readonly gadget: readonly bigint[];
  /** R2 ‖ proof ‖ ρ. */
  readonly opening: Uint8Array;
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
    next: (message: Uint8Array, ensureAck: NeedAck) => Done;
  },
): Turn<"S0", Begun<Turn<"S2", Sent<Turn<"S4", Done>>>>> {
  ensureSetupFor(share, setup, "P2");
  const batch = setup.beginBatch();
  const step = <Result>(work: () => Result) => guarded(setup, batch, work, run);
  return turn("S0", message =>
    step(() => {
      const fields = fieldsOf("S0", message, S0_BYTES);
      const nonce1 = fields.take(32);
      const epoch = fields.number(4);
      const firstId = fields.number(4);
      const kind = fields.number(1);
      const count = fields.number(2);
      if (epoch !== share.epoch) {
        throw lngateError("threshold-old-epoch", `S0 names epoch ${epoch}, this is epoch ${share.epoch}`);
      }
      ensureBatchSize(count);
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
  const fields = fieldsOf("S2", message, count * S2_EACH);
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
  ensureConsistency(
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

/**
 * (tB + cc)·G + Q_P1 = (k2 + r1)·Q1' for every presignature: P1 has used its own share and the x1' of its
 * corrections. All equations at once, each under a fresh random weight (which also hides the scalars from a clock).
 */
function ensureConsistency(
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
