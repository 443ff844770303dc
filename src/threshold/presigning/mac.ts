/**
 * MACs of the gateway's records of kind B. Online the gateway answers s2 = w·z + v; whoever has no curve could not
 * tell a wrong answer from a right one, and a wrong answer can be chosen so that the finished signature is one of
 * another hash. So the device's side gets, when presigning, a one-time MAC t = α·x + b of each x = w and x = v, under
 * keys α, b that the gateway does not know; z·t_w + t_v then is the MAC of s2, and three multiplications check it.
 * docs/threshold.md, section 4, tells what it proves and which shortcuts break it.
 *
 * α belongs to a *run*: 416 random transfers in which the device's side chooses, made by an extension of kind A.
 *
 *     gateway                                   device
 *       │ M0   nonce (32)                         │
 *       │ ─────────────────────────────────────▶ │
 *       │     nonce, OT extension (12,336)    M1 │
 *       │ ◀───────────────────────────────────── │
 */
import { concat, equal, u32be } from "../../bytes/bytes.ts";
import { fromBigInt, N, readScalar, toBigInt, writeScalar } from "../../crypto/scalar-bigint.ts";
import { lngateError } from "../../errors.ts";
import { tagged } from "../hash.ts";
import type { KeyShare, Role } from "../keyshare.ts";
import { decodePoint, G, type Point, randomWeight, sumOfProducts } from "../points.ts";
import { extendP1, extendP2, extensionBytes, rowBytesFor } from "../transfer/extension.ts";
import { ensureSetupFor, guarded, type OtSetup } from "../transfer/setup.ts";
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
} from "../transfer/transfers.ts";
import { transpose128 } from "../transfer/transpose.ts";
import { fieldsOf, type Random, type Sent, type Turn, turn } from "../turns.ts";

/** Of the extension; what is more than 416 is thrown away. */
const COLUMNS = 512;
const SEEDS_BYTES = TRANSFERS_EACH * ROW_BYTES;
const CHOICE_BYTES = TRANSFERS_EACH / 8;
const SECRET_BYTES = { gateway: 2 * SEEDS_BYTES, device: CHOICE_BYTES + SEEDS_BYTES };
const HEAD_BYTES = 1 + 1 + 4 + 32 + 32;
const VERSION = 1;

/** Bytes of the corrections for one record: 416 scalars for w, and as many for v. */
export const MAC_CORRECTION_BYTES = 2 * TRANSFERS_EACH * 32;

/**
 * One side's half of a run. It serves the batches of kind B of its epoch until a check fails: then it is destroyed,
 * and the next run has another α, for each further try would tell the gateway one bit more.
 */
export class MacRun {
  readonly side: Role;
  readonly epoch: number;
  /** The key it belongs to, 32 bytes. */
  readonly sid: Uint8Array;
  /** Names the run on both sides, 32 bytes. */
  readonly id: Uint8Array;
  private readonly secret: Uint8Array;
  private elements: readonly bigint[] | undefined;
  private gone = false;

  constructor(side: Role, epoch: number, sid: Uint8Array, id: Uint8Array, secret: Uint8Array) {
    if (sid.length !== 32 || id.length !== 32 || secret.length !== SECRET_BYTES[side])
      throw lngateError("bad-mac-run", "a run of MACs has other lengths");
    this.side = side;
    this.epoch = epoch;
    this.sid = sid;
    this.id = id;
    this.secret = secret;
  }

  /** The gateway's seed of transfer j for `choice`, or the device's only one. */
  seed(j: number, choice: 0 | 1 = 0): Uint8Array {
    const at = this.side === "gateway" ? (2 * j + choice) * ROW_BYTES : CHOICE_BYTES + j * ROW_BYTES;
    return this.secret.subarray(at, at + ROW_BYTES);
  }

  /** The device's choice bits. */
  get choices(): Uint8Array {
    return this.secret.subarray(0, CHOICE_BYTES);
  }

  /** g_j, public. */
  get gadget(): readonly bigint[] {
    this.elements ??= gadgetOf("mac-gadget", this.id);
    return this.elements;
  }

  /** α, which the device's side alone knows. */
  get alpha(): bigint {
    this.ensureAlive("device");
    return subsetSum(this.gadget, this.choices) % N;
  }

  /** Throws `threshold-setup-destroyed`, and `bad-mac-run` for the other side's half. */
  ensureAlive(side: Role): void {
    if (this.gone)
      throw lngateError("threshold-setup-destroyed", "this run of MACs was destroyed after a failed check");
    if (this.side !== side) throw lngateError("bad-mac-run", `this is not the ${side}'s half of a run`);
  }

  /** RESET: overwrites the seeds and, on the device's side, what α was made of. The stored copy has to go as well. */
  destroy(): void {
    this.secret.fill(0);
    this.gone = true;
  }

  get destroyed(): boolean {
    return this.gone;
  }

  /** For storage; never part of a backup. Throws `threshold-setup-destroyed`. */
  toBytes(): Uint8Array {
    this.ensureAlive(this.side);
    const head = new Uint8Array([VERSION, this.side === "gateway" ? 0 : 1]);
    return concat([head, u32be(this.epoch), this.sid, this.id, this.secret]);
  }

  /** Reads toBytes' bytes. Throws `bad-mac-run` for anything else. */
  static fromBytes(bytes: Uint8Array): MacRun {
    const side = bytes[1] === 0 ? "gateway" : bytes[1] === 1 ? "device" : undefined;
    if (bytes[0] !== VERSION || side === undefined || bytes.length !== HEAD_BYTES + SECRET_BYTES[side])
      throw lngateError("bad-mac-run", "these bytes are not a run of MACs of a known version");
    const fields = fieldsOf("run of MACs", bytes, bytes.length);
    fields.take(2);
    const epoch = fields.number(4);
    const [sid, id, secret] = [32, 32, SECRET_BYTES[side]].map(length => fields.take(length).slice());
    return new MacRun(side, epoch, sid!, id!, secret!);
  }
}

/** Throws `threshold-old-epoch`, `bad-mac-run` or `threshold-setup-destroyed` unless the run was made for this share. */
export function ensureRunFor(share: KeyShare, run: MacRun): void {
  run.ensureAlive(share.role);
  if (run.epoch !== share.epoch)
    throw lngateError("threshold-old-epoch", "the run of MACs belongs to another epoch than the share");
  if (!equal(run.sid, share.sid)) throw lngateError("bad-mac-run", "the run of MACs belongs to another key");
}

/** What a party brings: its half of kind A's transfers. */
export interface RunMaker {
  readonly share: KeyShare;
  readonly setup: OtSetup;
  readonly random: Random;
}

function ensureKindA(setup: OtSetup): void {
  if (setup.kind !== "A") throw lngateError("bad-ot-setup", "a run of MACs is made of kind A's transfers");
}

function runId(setup: OtSetup, nonceG: Uint8Array, nonceD: Uint8Array): Uint8Array {
  return tagged("mac-run", setup.sid, nonceG, nonceD);
}

function seedFrom(id: Uint8Array, j: number, row: Uint8Array): Uint8Array {
  return tagged("mac-seed", id, u32be(j), row).subarray(0, ROW_BYTES);
}

function rowsOf(matrix: Uint8Array): Uint8Array[] {
  const rows = transpose128(matrix, rowBytesFor(COLUMNS), 0, TRANSFERS_EACH);
  return Array.from({ length: TRANSFERS_EACH }, (_, j) => rows.subarray(j * ROW_BYTES, (j + 1) * ROW_BYTES));
}

/**
 * The gateway's side of a new run; it begins. A batch in flight on the same transfers is cut off.
 *
 * @throws at once `threshold-old-epoch`, `bad-ot-setup`, `threshold-setup-destroyed`; from M1 on also
 *   `threshold-extension-check` (RESET of kind A), `threshold-bad-message`
 */
export function macRunGateway({ share, setup, random }: RunMaker): Sent<Turn<"M1", MacRun>> {
  ensureSetupFor(share, setup, "P1");
  ensureKindA(setup);
  const batch = setup.beginBatch();
  const nonceG = random(32).slice();
  return {
    send: nonceG,
    next: turn("M1", message =>
      guarded(setup, batch, () => {
        const fields = fieldsOf("M1", message, 32 + extensionBytes(COLUMNS));
        const id = runId(setup, nonceG, fields.take(32));
        const matrix = extendP1(setup, id, COLUMNS, fields.take(extensionBytes(COLUMNS)));
        return erasing([matrix], () => {
          const seeds = rowsOf(matrix).flatMap((zero, j) => {
            const one = zero.map((byte, at) => byte ^ setup.delta[at]!);
            const pair = [seedFrom(id, j, zero), seedFrom(id, j, one)];
            zero.fill(0);
            one.fill(0);
            return pair;
          });
          return new MacRun("gateway", share.epoch, share.sid, id, concat(seeds));
        });
      }),
    ),
  };
}

/** The device's side. `run` is to be stored before `send` is sent. */
export function macRunDevice({
  share,
  setup,
  random,
}: RunMaker): Turn<"M0", { readonly send: Uint8Array; readonly run: MacRun }> {
  ensureSetupFor(share, setup, "P2");
  ensureKindA(setup);
  const batch = setup.beginBatch();
  return turn("M0", message =>
    guarded(setup, batch, () => {
      const nonceG = fieldsOf("M0", message, 32).take(32);
      const nonceD = random(32).slice();
      const id = runId(setup, nonceG, nonceD);
      const { message: extension, choices, matrix } = extendP2(setup, id, COLUMNS, random);
      const run = erasing([choices, matrix], () => {
        const seeds = rowsOf(matrix).map((row, j) => {
          const seed = seedFrom(id, j, row);
          row.fill(0);
          return seed;
        });
        return new MacRun(
          "device",
          share.epoch,
          share.sid,
          id,
          concat([choices.subarray(0, CHOICE_BYTES), ...seeds]),
        );
      });
      return { send: concat([nonceD, extension]), run };
    }),
  );
}

/** w and v of one record, or what belongs to them. */
export type Both = readonly [bigint, bigint];

/** −value mod n, for value ≥ 0. */
function minus(value: bigint): bigint {
  return (N - (value % N)) % N;
}

/**
 * The gateway's part for one record: fills in the corrections c_j = p_j⁰ − p_j¹ + x, and returns −Σ g_j·p_j⁰ for both
 * values: their MACs, up to the offsets that the device's side sends.
 *
 * @param sessionId of the presignature: no other has the same pads
 * @param corrections MAC_CORRECTION_BYTES
 */
export function sendMacs(run: MacRun, sessionId: Uint8Array, values: Both, corrections: Uint8Array): Both {
  const pads = new PadHash("mac-pad", sessionId);
  const out = viewOf(corrections);
  const sums = [0n, 0n];
  for (let j = 0; j < TRANSFERS_EACH; j++) {
    pads.row(j, run.seed(j, 0));
    const zeros = [pads.pad(0), pads.pad(1)];
    pads.row(j, run.seed(j, 1));
    const ones = [pads.pad(0), pads.pad(1)];
    for (const which of [0, 1] as const) {
      const at = 32 * (which * TRANSFERS_EACH + j);
      writeScalar(out, at, (zeros[which]! + values[which] + N - ones[which]!) % N);
      sums[which]! += run.gadget[j]! * zeros[which]!;
    }
  }
  pads.erase();
  return [minus(sums[0]!), minus(sums[1]!)];
}

/**
 * The device's part for one record: b with t = α·x + b for both values, where t is what sendMacs returned.
 *
 * @throws `threshold-bad-message`: a correction is not below n. All are looked at, whatever was chosen.
 */
export function receiveMacs(run: MacRun, sessionId: Uint8Array, corrections: Uint8Array): Both {
  const pads = new PadHash("mac-pad", sessionId);
  const input = viewOf(corrections);
  const sums = [0n, 0n];
  for (let j = 0; j < TRANSFERS_EACH; j++) {
    const chosen = maskOf(bitOf(run.choices, j));
    pads.row(j, run.seed(j));
    for (const which of [0, 1] as const) {
      const correction = readScalar(input, 32 * (which * TRANSFERS_EACH + j));
      if (correction >= N) throw lngateError("threshold-bad-message", "a correction is not below n");
      sums[which]! += run.gadget[j]! * ((pads.pad(which) + (correction & chosen)) % N);
    }
  }
  pads.erase();
  return [minus(sums[0]!), minus(sums[1]!)];
}

/** What the device's side knows of one record when it checks its MACs. */
export interface Checked {
  /** T = (k2 + r1)·G, so that w·T = G and v·T = r·(Q − x1'·T). */
  readonly nonce: Point;
  readonly r: bigint;
  readonly x1: bigint;
  /** b_w and b_v as they will be used. */
  readonly keys: Both;
  /** The gateway's t_w·T and t_v·T. */
  readonly claims: readonly [Point, Point];
}

/**
 * t_w·T = α·G + b_w·T and t_v·T = α·r·(Q − x1'·T) + b_v·T for all records: the gateway's MACs are those of the very
 * w and v that complete the signatures. All equations at once, each under a weight of its own that nobody can foresee:
 * under weights that the gateway foresees, errors in two records cancel out.
 *
 * @throws `threshold-mac-check`, which tells the gateway about α: the run must be destroyed
 */
export function ensureMacs(
  alpha: bigint,
  joint: Uint8Array,
  records: readonly Checked[],
  random: Random,
): void {
  let [ofG, ofQ] = [0n, 0n];
  const points: Point[] = [];
  const scalars: bigint[] = [];
  for (const { nonce, r, x1, keys, claims } of records) {
    const [first, second] = [randomWeight(random), randomWeight(random)];
    const ofV = (second * r) % N;
    ofG += first;
    ofQ += ofV;
    points.push(...claims, nonce);
    const ofT = first * keys[0] + second * keys[1] + N * N - ((alpha * ofV) % N) * x1;
    scalars.push(first, second, minus(ofT));
  }
  const shared = (sum: bigint) => minus(alpha * (sum % N));
  const difference = sumOfProducts(
    [G, decodePoint(joint), ...points],
    [shared(ofG), shared(ofQ), ...scalars],
  );
  if (!difference.is0())
    throw lngateError("threshold-mac-check", "the gateway's MACs are not those of its records");
}

/** α ‖ key, what goes into the device's flash beside the records of a batch. */
export function batchMac(run: MacRun, key: Uint8Array): Uint8Array {
  return concat([fromBigInt(run.alpha), key]);
}

/** Both keys of a record as numbers. */
export function asNumbers(keys: Uint8Array): Both {
  return [toBigInt(keys.subarray(0, 32)) % N, toBigInt(keys.subarray(32)) % N];
}
