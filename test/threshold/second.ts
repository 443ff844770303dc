/**
 * The ceremonies a second time, for tests that must not believe the first: written from docs/threshold.md, plainly, and sharing
 * no code with src/. A party here is honest but for the values that a test names: there it lies, and goes on as if it had not.
 */
import { createHash, createHmac } from "node:crypto";
import { secp256k1, secp256k1_hasher } from "@noble/curves/secp256k1.js";

type Bytes = Uint8Array;
type Point = InstanceType<typeof secp256k1.Point>;
type Random = (length: number) => Bytes;

const { Point } = secp256k1;
export const ORDER = Point.Fn.ORDER;
const XI = 416;

// ── bytes, numbers, hashes ─────────────────────────────────────────────────────────────────────────────────────

export const joined = (parts: readonly Bytes[]): Bytes => new Uint8Array(Buffer.concat(parts));
const same = (a: Bytes, b: Bytes): boolean => Buffer.compare(a, b) === 0;
const hex = (bytes: Bytes): string => Buffer.from(bytes).toString("hex");
export const number = (bytes: Bytes): bigint => BigInt(`0x${hex(bytes)}`);
export const mod = (value: bigint): bigint => ((value % ORDER) + ORDER) % ORDER;
export const scalar = (value: bigint): Bytes =>
  new Uint8Array(Buffer.from(mod(value).toString(16).padStart(64, "0"), "hex"));
export const word = (value: number): Bytes =>
  new Uint8Array([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);
const byte = (value: number): Bytes => new Uint8Array([value]);
const text = (value: string): Bytes => new Uint8Array(Buffer.from(value));
const inverse = (value: bigint): bigint => Point.Fn.inv(mod(value));
const bit = (bytes: Bytes, at: number): number => (bytes[at >> 3]! >> (at & 7)) & 1;
const xor = (a: Bytes, b: Bytes): Bytes => a.map((each, i) => each ^ b[i]!);

const ofTags = new Map<string, Bytes>();

function hash(tag: string, ...fields: Bytes[]): Bytes {
  const ofTag = ofTags.get(tag) ?? createHash("sha256").update(`2pe/v1/${tag}`).digest();
  ofTags.set(tag, ofTag);
  const lengths = fields.flatMap(field => [word(field.length), field]);
  return new Uint8Array(
    createHash("sha256")
      .update(joined([ofTag, ofTag, ...lengths]))
      .digest(),
  );
}
export const hashScalar = (tag: string, ...fields: Bytes[]): bigint => mod(number(hash(tag, ...fields)));

export const times = (scalar: bigint, point: Point = Point.BASE): Point => point.multiplyUnsafe(mod(scalar));
const someScalar = (random: Random): bigint => mod(number(random(32)) % (ORDER - 1n)) + 1n;

/** Takes a message apart into fields of these lengths. */
function fields(message: Bytes, ...lengths: number[]): Bytes[] {
  let at = 0;
  const parts = lengths.map(length => {
    at += length;
    return message.slice(at - length, at);
  });
  need(at === message.length, "a message of another length");
  return parts;
}

function need(condition: boolean, sentence: string): void {
  if (!condition) throw new Error(sentence);
}

// ── lies ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a party says or uses in the place of an honest value, by the value's name. */
export type Lies = Readonly<Record<string, (value: bigint, i: number) => bigint>>;
export type ByteLies = Readonly<Record<string, (value: Bytes, i: number) => Bytes>>;

export interface Manner {
  readonly random: Random;
  readonly numbers?: Lies;
  readonly bytes?: ByteLies;
}

const num = ({ numbers }: Manner, name: string, value: bigint, i = 0): bigint =>
  numbers?.[name]?.(value, i) ?? value;
const raw = ({ bytes }: Manner, name: string, value: Bytes, i = 0): Bytes =>
  bytes?.[name]?.(value, i) ?? value;

// ── proofs of knowledge ────────────────────────────────────────────────────────────────────────────────────────

export function proof(sid: Bytes, role: string, x: bigint, point: Bytes, random: Random): Bytes {
  const a = someScalar(random);
  const commitment = times(a).toBytes();
  const e = hashScalar("pok", sid, text(role), point, commitment);
  return joined([commitment, scalar(a + e * x)]);
}

function proves(sid: Bytes, role: string, point: Bytes, given: Bytes): boolean {
  const [commitment, z] = fields(given, 33, 32) as [Bytes, Bytes];
  const e = hashScalar("pok", sid, text(role), point, commitment);
  return times(number(z)).equals(Point.fromBytes(commitment).add(times(e, Point.fromBytes(point))));
}

// ── key generation ─────────────────────────────────────────────────────────────────────────────────────────────

export interface Share {
  readonly sid: Bytes;
  readonly epoch: number;
  readonly x: bigint;
  readonly peer: Bytes;
  readonly joint: Bytes;
}

interface Names {
  readonly gateway: Bytes;
  readonly device: Bytes;
}

function keyCommitment(sid: Bytes, opened: Bytes, blind: Bytes): Bytes {
  return hash("com", sid, byte(0x4b), opened, blind);
}

function keySession(names: Names, nonceG: Bytes, nonceD: Bytes): Bytes {
  return hash("kg", byte(1), names.gateway, names.device, nonceG, nonceD);
}

function shared(sid: Bytes, x: bigint, peer: Bytes): Share & { confirmation: Bytes } {
  const joint = times(x).add(Point.fromBytes(peer)).toBytes();
  return { sid, epoch: 0, x, peer, joint, confirmation: hash("kgok", sid, joint) };
}

export class KeygenGateway {
  private readonly nonce: Bytes;
  /** Both nonces are known when it is. */
  sid!: Bytes;
  private x!: bigint;
  private opening!: Bytes;
  share!: Share & { confirmation: Bytes };
  private readonly names: Names;
  private readonly manner: Manner;

  constructor(names: Names, manner: Manner) {
    this.names = names;
    this.manner = manner;
    this.nonce = manner.random(32);
  }

  k0(): Bytes {
    return this.nonce;
  }

  k1(nonceD: Bytes): Bytes {
    const { random } = this.manner;
    this.sid = keySession(this.names, this.nonce, nonceD);
    this.x = someScalar(random);
    const point = raw(this.manner, "point", times(this.x).toBytes());
    const proven = raw(this.manner, "proof", proof(this.sid, "gateway", this.x, point, random));
    const blind = random(32);
    this.opening = joined([point, proven, blind]);
    return raw(this.manner, "commitment", keyCommitment(this.sid, joined([point, proven]), blind));
  }

  k3(k2: Bytes): Bytes {
    const [peer, proven] = fields(k2, 33, 65) as [Bytes, Bytes];
    need(proves(this.sid, "device", peer, proven), "the device's proof is false");
    this.share = shared(this.sid, this.x, peer);
    return raw(this.manner, "opening", this.opening);
  }

  k4(k4: Bytes): Bytes {
    need(same(k4, this.share.confirmation), "the device has another key");
    return raw(this.manner, "confirmation", this.share.confirmation);
  }
}

export class KeygenDevice {
  /** Both nonces are known when it is. */
  sid!: Bytes;
  private x!: bigint;
  private commitment!: Bytes;
  share!: Share & { confirmation: Bytes };
  private readonly names: Names;
  private readonly manner: Manner;

  constructor(names: Names, manner: Manner) {
    this.names = names;
    this.manner = manner;
  }

  k0(nonceG: Bytes): Bytes {
    const nonce = this.manner.random(32);
    this.sid = keySession(this.names, nonceG, nonce);
    return nonce;
  }

  k2(k1: Bytes): Bytes {
    this.commitment = k1;
    this.x = someScalar(this.manner.random);
    const point = raw(this.manner, "point", times(this.x).toBytes());
    const proven = proof(this.sid, "device", this.x, point, this.manner.random);
    return joined([point, raw(this.manner, "proof", proven)]);
  }

  k4(k3: Bytes): Bytes {
    const [peer, proven, blind] = fields(k3, 33, 65, 32) as [Bytes, Bytes, Bytes];
    need(same(keyCommitment(this.sid, joined([peer, proven]), blind), this.commitment), "K3 opens nothing");
    need(proves(this.sid, "gateway", peer, proven), "the gateway's proof is false");
    this.share = shared(this.sid, this.x, peer);
    return raw(this.manner, "confirmation", this.share.confirmation);
  }

  end(k4: Bytes): void {
    need(same(k4, this.share.confirmation), "the gateway has another key");
  }
}

// ── base transfers ─────────────────────────────────────────────────────────────────────────────────────────────

export type Kind = "A" | "B";

/** P1's half: Δ and one seed of each pair. P2's: both. */
export interface Chooser {
  readonly sid: Bytes;
  readonly delta: Bytes;
  readonly seeds: readonly Bytes[];
}
export interface Sender {
  readonly sid: Bytes;
  readonly seeds: readonly (readonly [Bytes, Bytes])[];
}

function setupSession({ sid, epoch }: Pick<Share, "sid" | "epoch">, kind: Kind): Bytes {
  return hash("ot", sid, word(epoch), text(kind));
}

function mask(sid: Bytes, i: number, c: number, other: Bytes): Point {
  const DST = `2pe/v1/eot-h2c-${c}_secp256k1_XMD:SHA-256_SSWU_RO_`;
  const { x, y } = secp256k1_hasher.hashToCurve(joined([sid, word(i), other]), { DST }).toAffine();
  return Point.fromAffine({ x, y });
}

const transferSeed = (sid: Bytes, i: number, c: number, point: Point): Bytes =>
  hash("eot-k", sid, word(i), byte(c), point.toBytes()).slice(0, 16);

/** P1 of the base transfers: E1, and what E2 makes of it. */
export function chooseTransfers(share: Share, kind: Kind, random: Random) {
  const sid = setupSession(share, kind);
  const delta = random(16);
  const secrets = Array.from({ length: 128 }, () => someScalar(random));
  const pairs = secrets.flatMap((t, i) => {
    const c = bit(delta, i);
    const other = times(someScalar(random)).toBytes();
    const own = times(t)
      .subtract(mask(sid, i, c, other))
      .toBytes();
    return c === 0 ? [own, other] : [other, own];
  });
  return {
    e1: joined(pairs),
    end(e2: Bytes): Chooser {
      const seeds = secrets.map((t, i) => {
        const c = bit(delta, i);
        const point = Point.fromBytes(e2.slice((2 * i + c) * 33, (2 * i + c + 1) * 33));
        return transferSeed(sid, i, c, times(t, point));
      });
      return { sid, delta, seeds };
    },
  };
}

/** P2 of the base transfers. */
export function sendTransfers(share: Share, kind: Kind, e1: Bytes, random: Random) {
  const sid = setupSession(share, kind);
  const all = Array.from({ length: 128 }, (_, i) => {
    const points = [0, 1].map(c => e1.slice((2 * i + c) * 33, (2 * i + c + 1) * 33));
    return [0, 1].map(c => {
      const sum = Point.fromBytes(points[c]!).add(mask(sid, i, c, points[1 - c]!));
      const b = someScalar(random);
      return { sent: times(b).toBytes(), seed: transferSeed(sid, i, c, times(b, sum)) };
    });
  });
  const setup: Sender = { sid, seeds: all.map(([zero, one]) => [zero!.seed, one!.seed] as const) };
  return { e2: joined(all.flat().map(({ sent }) => sent)), setup };
}

/** Transfers as a dealer who knows everything would make them, for ceremonies that begin after them. */
export function dealTransfers(
  share: Pick<Share, "sid" | "epoch">,
  kind: Kind,
  random: Random,
): { chooser: Chooser; sender: Sender } {
  const sid = setupSession(share, kind);
  const delta = random(16);
  const pairs = Array.from({ length: 128 }, () => [random(16), random(16)] as const);
  const seeds = pairs.map((pair, i) => pair[bit(delta, i)]!);
  return { chooser: { sid, delta, seeds }, sender: { sid, seeds: pairs } };
}

// ── the extension ──────────────────────────────────────────────────────────────────────────────────────────────

function stretched(session: Bytes, i: number, seed: Bytes, length: number): Bytes {
  const key = hash("ote-prg-key", session, word(i), seed);
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, k) => hash("ote-prg", key, word(k)));
  return joined(blocks).slice(0, length);
}

/** An element of the field of 2^128: bit k of the number is the coefficient of x^k. */
const element = (bytes: Bytes): bigint => number(bytes.slice().reverse());
const elementBytes = (value: bigint): Bytes =>
  new Uint8Array(Buffer.from(value.toString(16).padStart(32, "0"), "hex").reverse());

function product(a: bigint, b: bigint): bigint {
  let result = 0n;
  let shifted = a;
  for (let rest = b; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result ^= shifted;
    shifted <<= 1n;
    if (shifted >> 128n) shifted ^= (1n << 128n) | 0x87n;
  }
  return result;
}

function weights(session: Bytes, u: Bytes, columns: number): bigint[] {
  const transcript = hash("ote-u", session, u);
  return Array.from({ length: columns / 128 }, (_, j) =>
    element(hash("ote-chi", transcript, word(j)).slice(0, 16)),
  );
}

function weighed(chi: readonly bigint[], row: Bytes): Bytes {
  const at = (j: number) => element(row.slice(16 * j, 16 * j + 16));
  return elementBytes(chi.reduce((sum, weight, j) => sum ^ product(weight, at(j)), at(chi.length)));
}

/** Column j of 128 rows, as 16 bytes. */
function column(rows: readonly Bytes[], j: number): Bytes {
  const out = new Uint8Array(16);
  rows.forEach((row, i) => {
    out[i >> 3] = out[i >> 3]! | (bit(row, j) << (i & 7));
  });
  return out;
}

function extendSender({ seeds }: Sender, session: Bytes, columns: number, manner: Manner) {
  const length = columns / 8 + 16;
  const choices = manner.random(length);
  const rows = seeds.map(([zero], i) => stretched(session, i, zero, length));
  const u = joined(
    seeds.map(([, one], i) =>
      raw(manner, "u", xor(xor(rows[i]!, stretched(session, i, one, length)), choices), i),
    ),
  );
  const chi = weights(session, u, columns);
  const message = joined([
    u,
    raw(manner, "x̂", weighed(chi, choices)),
    ...rows.map((row, i) => raw(manner, "t̂", weighed(chi, row), i)),
  ]);
  return { message, choices, rows };
}

function extendChooser({ delta, seeds }: Chooser, session: Bytes, columns: number, message: Bytes): Bytes[] {
  const length = columns / 8 + 16;
  const [u, x, t] = fields(message, 128 * length, 16, 128 * 16) as [Bytes, Bytes, Bytes];
  const chi = weights(session, u, columns);
  return seeds.map((seed, i) => {
    const row = stretched(session, i, seed, length);
    const own = bit(delta, i) ? xor(row, u.slice(i * length, (i + 1) * length)) : row;
    const expected = t.slice(16 * i, 16 * i + 16);
    need(same(weighed(chi, own), bit(delta, i) ? xor(expected, x) : expected), "rows do not agree");
    return own;
  });
}

// ── runs of MACs ───────────────────────────────────────────────────────────────────────────────────────────────

export interface GatewayRun {
  readonly id: Bytes;
  readonly seeds: readonly (readonly [Bytes, Bytes])[];
}
export interface DeviceRun {
  readonly id: Bytes;
  readonly choices: Bytes;
  readonly seeds: readonly Bytes[];
}

const runSession = (setup: Bytes, nonceG: Bytes, nonceD: Bytes): Bytes =>
  hash("mac-run", setup, nonceG, nonceD);
const runSeed = (id: Bytes, j: number, row: Bytes): Bytes => hash("mac-seed", id, word(j), row).slice(0, 16);
const each416 = <T>(make: (j: number) => T): T[] => Array.from({ length: XI }, (_, j) => make(j));

export function runAsGateway(setup: Chooser, random: Random) {
  const nonce = random(32);
  return {
    m0: nonce,
    end(m1: Bytes): GatewayRun {
      const id = runSession(setup.sid, nonce, m1.slice(0, 32));
      const rows = extendChooser(setup, id, 512, m1.slice(32));
      const seeds = each416(j => {
        const row = column(rows, j);
        return [runSeed(id, j, row), runSeed(id, j, xor(row, setup.delta))] as const;
      });
      return { id, seeds };
    },
  };
}

export function runAsDevice(setup: Sender, m0: Bytes, manner: Manner): { m1: Bytes; run: DeviceRun } {
  const nonce = manner.random(32);
  const id = runSession(setup.sid, m0, nonce);
  const { message, choices, rows } = extendSender(setup, id, 512, manner);
  const seeds = each416(j => runSeed(id, j, column(rows, j)));
  return { m1: joined([nonce, message]), run: { id, choices: choices.slice(0, 52), seeds } };
}

export function alphaOf({ id, choices }: DeviceRun): bigint {
  return mod(
    each416(j => (bit(choices, j) ? hashScalar("mac-gadget", id, word(j)) : 0n)).reduce((a, b) => a + b),
  );
}

// ── presigning ─────────────────────────────────────────────────────────────────────────────────────────────────

const pad = (tag: string, sid: Bytes, j: number, k: number, row: Bytes): bigint =>
  hashScalar(tag, joined([sid, new Uint8Array(28)]), word(j), byte(k), row);
const gadget = (sid: Bytes): bigint[] => each416(j => hashScalar("gadget", sid, word(j)));
const nonceCommitment = (sid: Bytes, opened: Bytes, blind: Bytes): Bytes =>
  hash("com", sid, byte(0x53), opened, blind);
const xOf = (point: Point): bigint => mod(point.toAffine().x);
const S2_EACH = XI * 64 + 32 + 32 + 33 + 32 + 32 + 33 + 65;
const MACS_EACH = 2 * XI * 32;

function session(share: Share, kind: Kind, firstId: number, count: number, nonce1: Bytes, nonce2: Bytes) {
  const size = new Uint8Array([count >> 8, count & 255]);
  const id = hash("sid", share.sid, word(share.epoch), text(kind), word(firstId), size, nonce1, nonce2);
  return { id, ids: Array.from({ length: count }, (_, i) => hash("sid-i", id, word(i))) };
}

/** The party that completes signatures. */
export class P1 {
  readonly records: { r: bigint; kappa: bigint; c: bigint }[] = [];
  /** Of kind B: α, and the key of each record's two MACs. */
  readonly macs: { alpha: bigint; keys: [bigint, bigint][] } = { alpha: 0n, keys: [] };
  private nonce1!: Bytes;
  private firstId = 0;
  private count = 0;
  private id!: Bytes;
  private ids: Bytes[] = [];
  private commitments: Bytes[] = [];
  private own: { x1: bigint; k1: bigint; r1: bigint }[] = [];
  private nonces: Point[] = [];
  private readonly share: Share;
  private readonly kind: Kind;
  private readonly setup: Chooser;
  private readonly manner: Manner;
  private readonly run: DeviceRun | undefined;

  constructor(share: Share, kind: Kind, setup: Chooser, manner: Manner, run?: DeviceRun) {
    this.share = share;
    this.kind = kind;
    this.setup = setup;
    this.manner = manner;
    this.run = run;
  }

  s0(firstId: number, count: number): Bytes {
    this.nonce1 = this.manner.random(32);
    this.firstId = firstId;
    this.count = count;
    const size = new Uint8Array([count >> 8, count & 255]);
    return joined([this.nonce1, word(this.share.epoch), word(firstId), text(this.kind), size]);
  }

  s2(s1: Bytes): Bytes {
    const { count, manner, share } = this;
    const columns = XI * count;
    const [nonce2, extension, commitments] = fields(
      s1,
      32,
      128 * (columns / 8 + 16) + 16 + 2048,
      32 * count,
    ) as [Bytes, Bytes, Bytes];
    const { id, ids } = session(share, this.kind, this.firstId, count, this.nonce1, nonce2);
    this.id = id;
    this.ids = ids;
    this.commitments = ids.map((_, i) => commitments.slice(32 * i, 32 * i + 32));
    const rows = extendChooser(this.setup, id, columns, extension);
    return joined(
      ids.map((sid, i) => {
        const [x1, k1, r1, check] = [0, 0, 0, 0].map(() => someScalar(manner.random)) as [
          bigint,
          bigint,
          bigint,
          bigint,
        ];
        this.own.push({ x1, k1, r1 });
        const g = gadget(sid);
        const pads = each416(j => {
          const zero = column(rows, i * XI + j);
          const one = xor(zero, this.setup.delta);
          return {
            zero: [0, 1].map(k => pad("ote-pad", sid, j, k, zero)),
            one: [0, 1].map(k => pad("ote-pad", sid, j, k, one)),
          };
        });
        const corrections = joined(
          pads.flatMap(({ zero, one }, j) => [
            scalar(
              zero[0]! -
                one[0]! +
                num(manner, `x1' of column ${j}`, num(manner, "x1' of the corrections", x1, i), i),
            ),
            scalar(zero[1]! - one[1]! + num(manner, `â of column ${j}`, check, i)),
          ]),
        );
        const theta = hashScalar("theta", sid, corrections);
        const mu = hash("mu", sid, joined(pads.map(({ zero }) => scalar(zero[1]! + theta * zero[0]!))));
        const tA = -pads.reduce((sum, { zero }, j) => sum + g[j]! * zero[0]!, 0n);
        const point = raw(manner, "R1", times(k1).toBytes(), i);
        return joined([
          raw(manner, "Ã", corrections, i),
          scalar(num(manner, "η", check + theta * x1, i)),
          raw(manner, "μ", mu, i),
          raw(manner, "Q1'", times(x1).toBytes(), i),
          scalar(num(manner, "r1", r1, i)),
          scalar(num(manner, "cc", tA + x1 * r1 - num(manner, "x_P1", share.x, i), i)),
          point,
          raw(manner, "proof of R1", proof(sid, "P1", k1, point, manner.random), i),
        ]);
      }),
    );
  }

  s4(s3: Bytes): Bytes {
    const { manner, run } = this;
    const each = 130 + (this.kind === "B" ? MACS_EACH : 0);
    need(s3.length === each * this.count, "S3 has another length");
    const offsets: Bytes[] = [];
    this.ids.forEach((sid, i) => {
      const part = s3.slice(i * each, (i + 1) * each);
      const opened = part.slice(0, 98);
      need(same(nonceCommitment(sid, opened, part.slice(98, 130)), this.commitments[i]!), "S3 opens nothing");
      need(proves(sid, "P2", opened.slice(0, 33), opened.slice(33)), "the proof of R2 is false");
      const { x1, k1, r1 } = this.own[i]!;
      const nonce = Point.fromBytes(opened.slice(0, 33)).add(times(r1));
      this.nonces.push(nonce);
      const r = xOf(times(k1, nonce));
      const kappa = inverse(k1);
      this.records.push({ r, kappa, c: mod(kappa * r * x1) });
      if (run === undefined) return;
      const keys = [number(manner.random(32)), number(manner.random(32))].map(mod) as [bigint, bigint];
      this.macs.keys.push(keys);
      const corrections = part.slice(130);
      for (const which of [0, 1] as const) {
        const sum = each416(j => {
          const at = 32 * (which * XI + j);
          const own = pad("mac-pad", sid, j, which, run.seeds[j]!);
          const received = bit(run.choices, j) ? own + number(corrections.slice(at, at + 32)) : own;
          return hashScalar("mac-gadget", run.id, word(j)) * received;
        }).reduce((a, b) => a + b);
        // b is −sum; what makes it the key that is wanted is sent.
        offsets.push(scalar(num(manner, which ? "offset of v" : "offset of w", keys[which] + sum, i)));
      }
    });
    const ack = hash("ack", this.id, ...this.records.map(({ r }) => scalar(r)));
    return joined([raw(manner, "ack", ack), ...offsets]);
  }

  /** Of kind B: every MAC is the one of the w and v that belong to the signature. */
  end(s5: Bytes): void {
    const alpha = alphaOf(this.run!);
    this.macs.alpha = alpha;
    need(s5.length === 66 * this.count, "S5 has another length");
    const joint = Point.fromBytes(this.share.joint);
    this.records.forEach(({ r }, i) => {
      const [ofW, ofV] = [0, 33].map(at => Point.fromBytes(s5.slice(66 * i + at, 66 * i + at + 33)));
      const T = this.nonces[i]!;
      const [keyW, keyV] = this.macs.keys[i]!;
      need(ofW!.equals(times(alpha).add(times(keyW, T))), "the MAC of w is wrong");
      const v = joint.subtract(times(this.own[i]!.x1, T));
      need(ofV!.equals(times(alpha * r, v).add(times(keyV, T))), "the MAC of v is wrong");
    });
  }
}

/** The party that answers. */
export class P2 {
  /** w, v, and of kind B the MACs of both. */
  readonly records: { w: bigint; v: bigint; macs: [bigint, bigint] }[] = [];
  /** What P2 sees of P1's corrections, for tests that know Δ. */
  readonly rows: Bytes[] = [];
  choices!: Bytes;
  id!: Bytes;
  ids: Bytes[] = [];
  private chosen: { k2: bigint; opening: Bytes }[] = [];
  private nonces: bigint[] = [];
  private ack!: Bytes;
  private readonly share: Share;
  private readonly kind: Kind;
  private readonly setup: Sender;
  private readonly manner: Manner;
  private readonly run: GatewayRun | undefined;

  constructor(share: Share, kind: Kind, setup: Sender, manner: Manner, run?: GatewayRun) {
    this.share = share;
    this.kind = kind;
    this.setup = setup;
    this.manner = manner;
    this.run = run;
  }

  s1(s0: Bytes): Bytes {
    const { manner } = this;
    const [nonce1, epoch, first, kind, size] = fields(s0, 32, 4, 4, 1, 2) as Bytes[];
    need(same(epoch!, word(this.share.epoch)) && same(kind!, text(this.kind)), "S0 of another epoch or kind");
    const count = Number(number(size!));
    const nonce2 = manner.random(32);
    const { id, ids } = session(this.share, this.kind, Number(number(first!)), count, nonce1!, nonce2);
    this.id = id;
    this.ids = ids;
    const { message, choices, rows } = extendSender(this.setup, id, XI * count, manner);
    this.choices = choices;
    for (let j = 0; j < XI * count; j++) this.rows.push(column(rows, j));
    const commitments = ids.map((sid, i) => {
      const k2 = mod(gadget(sid).reduce((sum, g, j) => (bit(choices, i * XI + j) ? sum + g : sum), 0n));
      const point = raw(manner, "R2", times(k2).toBytes(), i);
      const proven = raw(manner, "proof of R2", proof(sid, "P2", k2, point, manner.random), i);
      const blind = manner.random(32);
      this.chosen.push({ k2, opening: joined([point, proven, blind]) });
      return raw(manner, "commitment", nonceCommitment(sid, joined([point, proven]), blind), i);
    });
    return joined([nonce2, message, ...commitments]);
  }

  s3(s2: Bytes): Bytes {
    const { manner, share, run } = this;
    need(s2.length === S2_EACH * this.ids.length, "S2 has another length");
    const rs: bigint[] = [];
    const parts = this.ids.map((sid, i) => {
      const [corrections, eta, mu, q1, r1, cc, R1, proven] = fields(
        s2.slice(i * S2_EACH, (i + 1) * S2_EACH),
        XI * 64,
        32,
        32,
        33,
        32,
        32,
        33,
        65,
      ) as [Bytes, Bytes, Bytes, Bytes, Bytes, Bytes, Bytes, Bytes];
      const theta = hashScalar("theta", sid, corrections);
      const received = each416(j => {
        const beta = BigInt(bit(this.choices, i * XI + j));
        const own = (k: number) =>
          pad("ote-pad", sid, j, k, this.rows[i * XI + j]!) +
          beta * number(corrections.slice(64 * j + 32 * k, 64 * j + 32 * k + 32));
        return { beta, first: own(0), second: own(1) };
      });
      const all = received.map(({ beta, first, second }) =>
        scalar(second + theta * first - beta * number(eta)),
      );
      need(same(hash("mu", sid, joined(all)), mu), "μ is wrong");
      const g = gadget(sid);
      const tB = received.reduce((sum, { first }, j) => sum + g[j]! * first, 0n);
      const nonce = mod(this.chosen[i]!.k2 + number(r1));
      const left = times(tB + number(cc)).add(Point.fromBytes(share.peer));
      need(left.equals(times(nonce, Point.fromBytes(q1))), "P1 has used another share");
      need(proves(sid, "P1", R1, proven), "the proof of R1 is false");
      const r = xOf(times(nonce, Point.fromBytes(R1)));
      rs.push(r);
      this.nonces.push(nonce);
      const w = inverse(nonce);
      const record = { w, v: mod(w * r * (share.x - tB - number(cc))), macs: [0n, 0n] as [bigint, bigint] };
      this.records.push(record);
      const opening = raw(manner, "opening", this.chosen[i]!.opening, i);
      if (run === undefined) return opening;
      const corrected = ([0, 1] as const).map(which => {
        const value = which ? record.v : record.w;
        let sum = 0n;
        const columns = each416(j => {
          const [zero, one] = run.seeds[j]!.map(seed => pad("mac-pad", sid, j, which, seed)) as [
            bigint,
            bigint,
          ];
          sum += hashScalar("mac-gadget", run.id, word(j)) * zero;
          return scalar(
            zero - one + num(manner, which ? "v of the corrections" : "w of the corrections", value, i),
          );
        });
        record.macs[which] = mod(-sum);
        return joined(columns);
      });
      return joined([opening, ...corrected]);
    });
    this.ack = hash("ack", this.id, ...rs.map(scalar));
    return joined(parts);
  }

  /** S4 of kind A ends it; of kind B there is an answer. */
  s5(s4: Bytes): Bytes {
    need(same(s4.slice(0, 32), this.ack), "P1 has other nonces");
    if (this.kind === "A") return new Uint8Array(0);
    return joined(
      this.records.flatMap((record, i) =>
        ([0, 1] as const).map(which => {
          const at = 32 + 64 * i + 32 * which;
          record.macs[which] = mod(record.macs[which] + number(s4.slice(at, at + 32)));
          const name = which ? "t_v" : "t_w";
          return times(num(this.manner, name, record.macs[which], i) * this.nonces[i]!).toBytes();
        }),
      ),
    );
  }
}

// ── online ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** s2, and of kind B the low half of its MAC. */
export function answered(record: P2["records"][number], sighash: Bytes): { s2: Bytes; mac: Bytes } {
  const z = number(sighash);
  const [ofW, ofV] = record.macs;
  return { s2: scalar(record.w * z + record.v), mac: scalar(z * ofW + ofV).slice(16) };
}

export function signed({ r, kappa, c }: P1["records"][number], s2: Bytes): Bytes {
  const s = mod(kappa * number(s2) + c);
  return joined([scalar(r), scalar(s > ORDER / 2n ? ORDER - s : s)]);
}

/** The keys of record `id`'s MACs, of the key of its batch. */
export function recordKeys(key: Bytes, id: number): [bigint, bigint] {
  return [0, 1].map(which =>
    mod(number(new Uint8Array(createHmac("sha256", key).update(word(id)).update(byte(which)).digest()))),
  ) as [bigint, bigint];
}
