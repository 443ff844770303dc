/**
 * A key, its transfers and a run of MACs as a dealer who knows everything makes them, for our code and for the second one: what
 * is tested begins after them, and costs no more than it has to.
 */
import { toHex } from "../../src/bytes/bytes.ts";
import { type KeyShare, makeKeyShare, type Role } from "../../src/threshold/keyshare.ts";
import { decodePoint } from "../../src/threshold/points.ts";
import { MacRun } from "../../src/threshold/presigning/mac.ts";
import { OtSetup } from "../../src/threshold/transfer/setup.ts";
import type { Random } from "../../src/threshold/turns.ts";
import {
  type Chooser,
  type DeviceRun,
  dealTransfers,
  type GatewayRun,
  joined,
  type Kind,
  mod,
  number,
  type Sender,
  type Share,
  times,
} from "./second.ts";

export interface Dealt {
  readonly shares: Readonly<Record<Role, Share>>;
  readonly transfers: Readonly<Record<Kind, { readonly chooser: Chooser; readonly sender: Sender }>>;
  readonly run: { readonly gateway: GatewayRun; readonly device: DeviceRun };
}

export function deal(random: Random): Dealt {
  const sid = random(32);
  const [xG, xD] = [number(random(32)), number(random(32))].map(mod) as [bigint, bigint];
  const joint = times(xG + xD).toBytes();
  const shares = {
    gateway: { sid, epoch: 0, x: xG, peer: times(xD).toBytes(), joint },
    device: { sid, epoch: 0, x: xD, peer: times(xG).toBytes(), joint },
  };
  const transfers = {
    A: dealTransfers(shares.gateway, "A", random),
    B: dealTransfers(shares.device, "B", random),
  };
  const [id, choices] = [random(32), random(52)];
  const pairs = Array.from({ length: 416 }, () => [random(16), random(16)] as const);
  const seeds = pairs.map((pair, j) => pair[(choices[j >> 3]! >> (j & 7)) & 1]!);
  return { shares, transfers, run: { gateway: { id, seeds: pairs }, device: { id, choices, seeds } } };
}

/** The side that learns the signature. */
export const completing = (kind: Kind): Role => (kind === "A" ? "gateway" : "device");
export const answering = (kind: Kind): Role => (kind === "A" ? "device" : "gateway");

/** The same in our code's form; fresh copies, which a failed check may destroy. */
export const ours = {
  share({ shares }: Dealt, role: Role): KeyShare {
    const { sid, epoch, x, peer, joint } = shares[role];
    return makeKeyShare(role, sid, epoch, x, decodePoint(peer), decodePoint(joint));
  },
  chooser({ sid, delta, seeds }: Chooser, kind: Kind): OtSetup {
    return new OtSetup(kind, "P1", 0, sid, joined([delta, ...seeds]));
  },
  sender({ sid, seeds }: Sender, kind: Kind): OtSetup {
    return new OtSetup(kind, "P2", 0, sid, joined(seeds.flat()));
  },
  run({ shares, run }: Dealt, role: Role): MacRun {
    const { id, choices, seeds } = run.device;
    const secret = role === "device" ? joined([choices, ...seeds]) : joined(run.gateway.seeds.flat());
    return new MacRun(role, 0, shares[role].sid, id, secret);
  },
};

/** Bytes as a file of expectations has them: whole, or what they begin with and their hash. */
export function shown(bytes: Uint8Array, sha256: (bytes: Uint8Array) => Uint8Array): string {
  if (bytes.length <= 200) return toHex(bytes);
  return `${bytes.length} bytes, ${toHex(bytes.subarray(0, 24))}…, sha256 ${toHex(sha256(bytes))}`;
}
