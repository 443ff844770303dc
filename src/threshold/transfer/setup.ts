/**
 * The oblivious transfers under all presignatures of one kind: 128 of them, by Endemic OT (Masny, Rindal,
 * ePrint 2019/706, figure 8) in the random oracle model. P1, which completes signatures, gets 128 choice bits Δ and
 * one seed per bit; P2, which answers, gets both seeds of each pair and does not learn the bits.
 *
 *     P1                                        P2
 *       │ E1   128 × (r0, r1) (8,448)             │
 *       │ ─────────────────────────────────────▶ │
 *       │         128 × (b0·G, b1·G) (8,448)  E2 │
 *       │ ◀───────────────────────────────────── │
 */
import { ascii, concat, equal, u32be } from "../../bytes/bytes.ts";
import { lngateError } from "../../errors.ts";
import { consequenceOf } from "../abort.ts";
import { tagged } from "../hash.ts";
import type { KeyShare, Role } from "../keyshare.ts";
import { decodePoint, encodePoints, G, hashToCurve, multiply, POINT_BYTES, randomScalar } from "../points.ts";
import { fieldsOf, type Random, type Sent, type Turn, turn } from "../turns.ts";

/**
 * What presignatures are for. A: the gateway completes (the bridge's commitments). B: the device completes (its
 * own exit, which the gateway must never see).
 */
export type Kind = "A" | "B";
/** P1 completes signatures, P2 answers. */
export type Side = "P1" | "P2";

/** Base transfers, and bits of a row of the extension (the parameter λc). */
export const TRANSFERS = 128;
/** Bytes of a seed. */
const SEED_BYTES = 16;
const DELTA_BYTES = TRANSFERS / 8;
const SECRET_BYTES = { P1: DELTA_BYTES + TRANSFERS * SEED_BYTES, P2: 2 * TRANSFERS * SEED_BYTES };
const HEAD_BYTES = 1 + 1 + 1 + 4 + 32;
const VERSION = 1;
const DOMAINS = [0, 1].map(c => ascii(`2pe/v1/eot-h2c-${c}_secp256k1_XMD:SHA-256_SSWU_RO_`)) as [
  Uint8Array,
  Uint8Array,
];

/** The side that `role` takes in presignatures of `kind`. */
export function sideOf(role: Role, kind: Kind): Side {
  return (role === "gateway") === (kind === "A") ? "P1" : "P2";
}

/** A kind as one byte of a message. */
export function kindByte(kind: Kind): number {
  return kind.charCodeAt(0);
}

/**
 * One side's finished transfers for one kind and epoch. It serves one batch at a time: beginning a batch cuts off
 * whatever batch was in flight. Once destroyed (RESET) it serves none.
 */
export class OtSetup {
  readonly kind: Kind;
  readonly side: Side;
  readonly epoch: number;
  /** Names the key, the epoch and the kind, 32 bytes. */
  readonly sid: Uint8Array;
  private readonly secret: Uint8Array;
  private batch = 0;
  private gone = false;

  constructor(kind: Kind, side: Side, epoch: number, sid: Uint8Array, secret: Uint8Array) {
    if (sid.length !== 32 || secret.length !== SECRET_BYTES[side]) {
      throw lngateError("bad-ot-setup", "an OT setup has other lengths");
    }
    this.kind = kind;
    this.side = side;
    this.epoch = epoch;
    this.sid = sid;
    this.secret = secret;
  }

  /** P1's choice bits, 16 bytes, bit i of the string for transfer i. */
  get delta(): Uint8Array {
    this.ensureSide("P1");
    return this.secret.subarray(0, DELTA_BYTES);
  }

  /** The seed of transfer i: P1's only one, or P2's for `choice`. 16 bytes. */
  seed(i: number, choice: 0 | 1 = 0): Uint8Array {
    const at = this.side === "P1" ? DELTA_BYTES + i * SEED_BYTES : (2 * i + choice) * SEED_BYTES;
    return this.secret.subarray(at, at + SEED_BYTES);
  }

  /** Starts a batch and returns its number, to be shown at every later step. Throws `threshold-setup-destroyed`. */
  beginBatch(): number {
    this.ensureAlive();
    this.batch++;
    return this.batch;
  }

  /** Throws `threshold-setup-destroyed`, or `threshold-batch-abandoned` if another batch has begun since. */
  ensureBatch(batch: number): void {
    this.ensureAlive();
    if (batch !== this.batch) {
      throw lngateError("threshold-batch-abandoned", "another batch has begun on this OT setup");
    }
  }

  /** RESET: overwrites Δ and all seeds. The stored copy has to go as well. */
  destroy(): void {
    this.secret.fill(0);
    this.gone = true;
  }

  get destroyed(): boolean {
    return this.gone;
  }

  /** For storage. As secret as the share itself; never part of a backup. Throws `threshold-setup-destroyed`. */
  toBytes(): Uint8Array {
    this.ensureAlive();
    const head = new Uint8Array([VERSION, kindByte(this.kind), this.side === "P1" ? 1 : 2]);
    return concat([head, u32be(this.epoch), this.sid, this.secret]);
  }

  /** Reads toBytes' bytes. Throws `bad-ot-setup` for anything else. */
  static fromBytes(bytes: Uint8Array): OtSetup {
    const kind = bytes[1] === kindByte("A") ? "A" : bytes[1] === kindByte("B") ? "B" : undefined;
    const side = bytes[2] === 1 ? "P1" : bytes[2] === 2 ? "P2" : undefined;
    if (bytes[0] !== VERSION || kind === undefined || side === undefined) {
      throw lngateError("bad-ot-setup", "these bytes are no OT setup of a known version");
    }
    if (bytes.length !== HEAD_BYTES + SECRET_BYTES[side]) {
      throw lngateError("bad-ot-setup", "an OT setup has another length");
    }
    const fields = fieldsOf("OT setup", bytes, bytes.length);
    fields.take(3);
    const epoch = fields.number(4);
    return new OtSetup(kind, side, epoch, fields.take(32).slice(), fields.take(SECRET_BYTES[side]).slice());
  }

  private ensureAlive(): void {
    if (this.gone) {
      throw lngateError("threshold-setup-destroyed", "this OT setup was destroyed after a failed check");
    }
  }

  private ensureSide(side: Side): void {
    if (this.side !== side) throw lngateError("bad-ot-setup", `this is not ${side}'s half of an OT setup`);
  }
}

/**
 * Runs a step; a failed check that depends on secrets destroys the setup, and the run of MACs that the batch uses, before
 * anyone hears of it.
 */
export function guarded<Result>(
  setup: OtSetup,
  batch: number,
  step: () => Result,
  run?: { destroy(): void },
): Result {
  setup.ensureBatch(batch);
  try {
    return step();
  } catch (error) {
    if (consequenceOf(error) === "reset") {
      setup.destroy();
      run?.destroy();
    }
    throw error;
  }
}

function setupId(share: KeyShare, kind: Kind): Uint8Array {
  return tagged("ot", share.sid, u32be(share.epoch), new Uint8Array([kindByte(kind)]));
}

function ensureSide(share: KeyShare, kind: Kind, side: Side): void {
  if (sideOf(share.role, kind) !== side) {
    throw lngateError("bad-key-share", `the ${share.role} is not ${side} for kind ${kind}`);
  }
}

/** `zero` if bit is 0, `one` if it is 1, without a branch on it. */
function select(bit: number, zero: Uint8Array, one: Uint8Array): Uint8Array {
  return zero.map((byte, i) => byte ^ (-bit & (byte ^ one[i]!)));
}

/** The two points that hide the sums: the hash of the other one's encoding, in each one's own domain. */
function maskFor(sid: Uint8Array, i: number, other: Uint8Array, domain: Uint8Array) {
  return hashToCurve(concat([sid, u32be(i), other]), domain);
}

function seedFrom(sid: Uint8Array, i: number, choice: number, point: Uint8Array): Uint8Array {
  return tagged("eot-k", sid, u32be(i), new Uint8Array([choice]), point).subarray(0, SEED_BYTES);
}

/** P1's side; it begins. */
export function setupP1(share: KeyShare, kind: Kind, random: Random): Sent<Turn<"E2", OtSetup>> {
  ensureSide(share, kind, "P1");
  const sid = setupId(share, kind);
  const delta = random(DELTA_BYTES).slice();
  const bits = Array.from({ length: TRANSFERS }, (_, i) => (delta[i >> 3]! >> (i & 7)) & 1);
  const secrets = bits.map(() => randomScalar(random));
  const others = encodePoints(bits.map(() => G.multiply(randomScalar(random))));
  const chosen = encodePoints(
    secrets.map((t, i) => {
      const domain = select(bits[i]!, DOMAINS[0], DOMAINS[1]);
      return G.multiply(t).subtract(maskFor(sid, i, others[i]!, domain));
    }),
  );
  const pairs = bits.flatMap((bit, i) => [
    select(bit, chosen[i]!, others[i]!),
    select(bit, others[i]!, chosen[i]!),
  ]);
  return {
    send: concat(pairs),
    next: turn("E2", message => {
      const fields = fieldsOf("E2", message, 2 * TRANSFERS * POINT_BYTES);
      const products = encodePoints(
        secrets.map((t, i) => {
          const [zero, one] = [fields.take(POINT_BYTES), fields.take(POINT_BYTES)];
          // Both are decoded, so that a bad one tells nothing about which was wanted.
          decodePoint(zero);
          decodePoint(one);
          return multiply(decodePoint(select(bits[i]!, zero, one)), t);
        }),
      );
      const seeds = products.map((point, i) => seedFrom(sid, i, bits[i]!, point));
      return new OtSetup(kind, "P1", share.epoch, sid, concat([delta, ...seeds]));
    }),
  };
}

/** P2's side. */
export function setupP2(
  share: KeyShare,
  kind: Kind,
  random: Random,
): Turn<"E1", { readonly send: Uint8Array; readonly setup: OtSetup }> {
  ensureSide(share, kind, "P2");
  const sid = setupId(share, kind);
  return turn("E1", message => {
    const fields = fieldsOf("E1", message, 2 * TRANSFERS * POINT_BYTES);
    const secrets: bigint[] = [];
    const keys = encodePoints(
      Array.from({ length: TRANSFERS }, (_, i) => {
        const [zero, one] = [fields.take(POINT_BYTES), fields.take(POINT_BYTES)];
        const sums = [
          decodePoint(zero).add(maskFor(sid, i, one, DOMAINS[0])),
          decodePoint(one).add(maskFor(sid, i, zero, DOMAINS[1])),
        ];
        return sums.map(sum => {
          const secret = randomScalar(random);
          secrets.push(secret);
          return multiply(sum, secret);
        });
      }).flat(),
    );
    const seeds = keys.map((point, at) => seedFrom(sid, at >> 1, at & 1, point));
    return {
      send: concat(encodePoints(secrets.map(secret => G.multiply(secret)))),
      setup: new OtSetup(kind, "P2", share.epoch, sid, concat(seeds)),
    };
  });
}

/** Throws `threshold-old-epoch` or `bad-ot-setup` unless the setup was made for this share and side. */
export function ensureSetupFor(share: KeyShare, setup: OtSetup, side: Side): void {
  if (setup.epoch !== share.epoch) {
    throw lngateError("threshold-old-epoch", "the OT setup belongs to another epoch than the share");
  }
  if (setup.side !== side || sideOf(share.role, setup.kind) !== side) {
    throw lngateError("bad-ot-setup", `the ${share.role} is not ${side} on this OT setup`);
  }
  if (!equal(setup.sid, setupId(share, setup.kind))) {
    throw lngateError("bad-ot-setup", "the OT setup belongs to another key");
  }
}
