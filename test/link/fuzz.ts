/**
 * Feeds the link with generated and mutated bytes, as many as asked for: message decoders, frames from a broker
 * that lies, and frames with the right keys whose content is hostile. `fuzzLink` throws when something else
 * happens than a delivery of what was sent or a refusal with a known code.
 *
 * What to mutate is chosen by novelty: an input whose outcome (the refusal's place and reason) was not seen
 * before is kept and varied further, so the fuzzer works its way into every message by itself.
 */

import { concat, equal, toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { DATA, handshakeKey, sealAck, sealData, sealHello, sessionKeys } from "../../src/link/envelope.ts";
import { type LinkEffect, LinkServer, QUEUE, WINDOW } from "../../src/link/session.ts";
import { type ToDevice, toDevice, toGateway } from "../../src/messages/device.ts";
import { fromOwner, toOwner } from "../../src/messages/owner.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { type Cbor, type CborMap, decodeCbor, encodeCbor } from "../cbor.ts";
import { World } from "./world.ts";

export interface FuzzReport {
  readonly runs: number;
  /** Messages that were decoded, and frames whose message was delivered. */
  accepted: number;
  /** Refusals by code. */
  readonly refused: Record<string, number>;
  /** Different places and reasons of refusal, and kinds of message decoded. */
  outcomes: number;
  readonly decodedTypes: Record<string, number>;
  slowestMs: number;
  peakHeapMb: number;
}

type Target = { run(bytes: Uint8Array): string };

/** Pseudo-random numbers by a seed (xorshift32). */
class Chance {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0 || 1;
  }

  below(limit: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) % limit;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  bytes(length: number): Uint8Array {
    return new Uint8Array(length).map(() => this.below(256));
  }
}

const KNOWN_CODE = /^(cbor|message|link)-[a-z-]+$/;
const LENGTHS = [0, 1, 4, 16, 20, 32, 33, 64, 65, 98, 8448];
const NUMBERS = [0, 1, 2, 23, 24, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];
const CORPUS = 3000;

export function fuzzLink(runs: number, seed: number): FuzzReport {
  const chance = new Chance(seed);
  const report = emptyReport(runs);
  const decoders = Object.entries({ toGateway, toDevice, fromOwner, toOwner }).map(
    ([name, protocol]) => new MessageFuzz(chance, messageTarget(name, protocol, report)),
  );
  const broker = new BrokerFuzz(chance, report);
  const insider = new InsiderFuzz(chance, report);
  for (let i = 0; i < runs; i++) {
    const started = performance.now();
    if (i % 8 === 6) {
      broker.step();
    } else if (i % 8 === 7) {
      insider.step();
    } else {
      chance.pick(decoders).step();
    }
    report.slowestMs = Math.max(report.slowestMs, performance.now() - started);
    if (i % 4096 === 0) {
      report.peakHeapMb = Math.max(report.peakHeapMb, Math.round(process.memoryUsage().heapUsed / 2 ** 20));
    }
  }
  for (const { seen } of decoders) report.outcomes += seen.size;
  return report;
}

function emptyReport(runs: number): FuzzReport {
  return {
    runs,
    accepted: 0,
    refused: {},
    outcomes: 0,
    decodedTypes: {},
    slowestMs: 0,
    peakHeapMb: 0,
  };
}

/** What a gateway without manners sends a device: good and bad messages, found as above. */
export function messagesToDevice(runs: number, seed: number): Uint8Array[] {
  const hash = new Uint8Array(32);
  const examples: ToDevice[] = [
    { type: "step", id: 1, revoked: { number: 1, secret: hash } },
    { type: "paid", preimage: hash },
    { type: "failed", paymentHash: hash, code: "no-route", sentence: "there is no way" },
    { type: "channel", index: 1, state: "ready" },
    { type: "settle", paymentHash: hash, amountMsat: 1_000_000, maxFeeMsat: 1_000 },
  ];
  const fuzz = new MessageFuzz(
    new Chance(seed),
    messageTarget("toDevice", toDevice, emptyReport(runs)),
    examples.map(toDevice.encode),
  );
  return Array.from({ length: runs }, () => fuzz.step());
}

/** Inputs for one decoder, the next always a variation of one that was new. */
class MessageFuzz {
  readonly seen = new Set<string>();
  private readonly corpus: Uint8Array[];
  private readonly chance: Chance;
  private readonly target: Target;

  constructor(chance: Chance, target: Target, first = [encodeCbor({ 0: 1 })]) {
    this.chance = chance;
    this.target = target;
    this.corpus = first;
  }

  step(): Uint8Array {
    const { chance, corpus, seen } = this;
    // Half of the time among the newest, which got furthest.
    const oldest = chance.below(2) === 0 ? 0 : Math.max(0, corpus.length - 30);
    const input = mutate(corpus[oldest + chance.below(corpus.length - oldest)]!, chance);
    const outcome = this.target.run(input);
    if (!seen.has(outcome) && corpus.length < CORPUS) {
      seen.add(outcome);
      corpus.push(input);
    }
    return input;
  }
}

/** A decoder: refuses with a code, or gives a message whose encoding is exactly the input. */
function messageTarget(
  name: string,
  protocol: { encode(value: never): Uint8Array; decode(bytes: Uint8Array): { readonly type: string } },
  report: FuzzReport,
): Target {
  return {
    run(bytes) {
      let decoded: { readonly type: string };
      try {
        decoded = protocol.decode(bytes);
      } catch (error) {
        count(report, codeOf(error) ?? `no code: ${error}`, bytes);
        return (error as Error).message.replace(/\d+/g, "#");
      }
      if (!equal(protocol.encode(decoded as never), bytes)) {
        throw new Error(`${name} reads ${toHex(bytes)} as something that is encoded differently`);
      }
      report.accepted++;
      report.decodedTypes[decoded.type] = (report.decodedTypes[decoded.type] ?? 0) + 1;
      return `${decoded.type} ${Object.keys(decoded).join()}`;
    },
  };
}

function count(report: FuzzReport, code: string, bytes: Uint8Array): void {
  if (!KNOWN_CODE.test(code)) throw new Error(`${code} for ${toHex(bytes)}`);
  report.refused[code] = (report.refused[code] ?? 0) + 1;
}

// ── mutation ─────────────────────────────────────────────────────────────────────────────────────────────

/** Mostly changes the value that the bytes stand for, sometimes the bytes themselves. */
function mutate(bytes: Uint8Array, chance: Chance): Uint8Array {
  if (chance.below(8) > 0) {
    const value = decodable(bytes);
    if (value !== undefined) return encodeCbor(mutateValue(value, chance, 4));
  }
  const changed = bytes.slice();
  const at = chance.below(changed.length + 1);
  const how = chance.below(4);
  if (how === 0) return changed.subarray(0, at);
  if (how === 1)
    return concat([changed.subarray(0, at), chance.bytes(1 + chance.below(4)), changed.subarray(at)]);
  if (how === 2) return concat([changed.subarray(0, at), changed.subarray(at + 1 + chance.below(4))]);
  if (at < changed.length) changed[at]! ^= 1 << chance.below(8);
  return changed;
}

function decodable(bytes: Uint8Array): Cbor | undefined {
  try {
    return decodeCbor(bytes);
  } catch {
    return undefined;
  }
}

function mutateValue(value: Cbor, chance: Chance, depth: number): Cbor {
  if (Array.isArray(value)) {
    const items = (value as readonly Cbor[]).slice();
    const at = chance.below(items.length + 1);
    const how = chance.below(4);
    if (how === 0) items.splice(at, 1);
    else if (how === 1 || items.length === 0) items.splice(at, 0, items[0] ?? anyValue(chance, depth));
    else items[at % items.length] = mutateValue(items[at % items.length]!, chance, depth - 1);
    return items;
  }
  if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) {
    const map: { [key: number]: Cbor } = { ...(value as CborMap) };
    const keys = Object.keys(map).map(Number);
    const how = chance.below(16);
    if (how === 0) delete map[chance.pick(keys) ?? 0];
    else if (how < 7) map[chance.below(11)] = anyValue(chance, depth);
    else if (how === 7) map[0] = chance.below(40);
    else if (keys.length > 0) {
      const key = chance.pick(keys);
      map[key] = mutateValue(map[key]!, chance, depth - 1);
    }
    return map;
  }
  return anyValue(chance, depth);
}

function anyValue(chance: Chance, depth: number): Cbor {
  const kind = chance.below(depth > 0 ? 9 : 6);
  if (kind < 2) return chance.below(2) === 0 ? chance.pick(NUMBERS) : chance.below(70);
  if (kind < 4) return chance.bytes(chance.below(4) === 0 ? chance.below(100) : chance.pick(LENGTHS));
  if (kind === 4) return chance.pick(["", "A", "S0", "ready", "zwölf", "x".repeat(65)]);
  if (kind === 5) return chance.pick([true, true, false, null]);
  if (kind === 6) return { 1: anyValue(chance, depth - 1) };
  if (kind === 7) return [];
  return [anyValue(chance, depth - 1)];
}

// ── frames ───────────────────────────────────────────────────────────────────────────────────────────────

/** Frames that a broker changes, repeats or invents; the world notices every false delivery. */
class BrokerFuzz {
  private readonly chance: Chance;
  private readonly report: FuzzReport;
  private world = new World();
  private steps = 0;

  constructor(chance: Chance, report: FuzzReport) {
    this.chance = chance;
    this.report = report;
  }

  step(): void {
    const { chance } = this;
    if (this.steps++ % 400 === 0) this.world = new World();
    const { world } = this;
    const side = chance.pick(["client", "server"] as const);
    const before = world.deliveries;
    const how = chance.below(16);
    if (how < 3) world.apply({ kind: "flow", frames: chance.below(8) });
    else if (how < 5) world.send(side, chance.below(40));
    else if (how < 6) world.apply({ kind: "replay", side, at: chance.below(1000) });
    else if (how < 7) world.apply({ kind: "reflect", side, at: chance.below(1000) });
    else if (how < 8) world.wait(chance.below(1000));
    else {
      const recorded = world.recorded[side];
      const frame = recorded.length > 0 ? chance.pick(recorded).slice() : new Uint8Array(0);
      if (how < 12 && frame.length > 0) {
        for (let i = 0; i <= chance.below(3); i++) frame[chance.below(frame.length)]! ^= 1 << chance.below(8);
        world.apply({ kind: "invent", side, bytes: frame });
      } else {
        const kind = new Uint8Array([0x10 + chance.below(7)]);
        const session = frame.subarray(1, chance.below(2) === 0 ? 5 : 1);
        const length = chance.below(20) === 0 ? 1000 : chance.below(60);
        world.apply({ kind: "invent", side, bytes: concat([kind, session, chance.bytes(length)]) });
      }
    }
    this.report.accepted += world.deliveries - before;
    for (const code of Object.keys(world.rejected)) {
      if (!KNOWN_CODE.test(code)) throw new Error(`the link refused a frame with ${code}`);
      this.report.refused[code] = (this.report.refused[code] ?? 0) + world.rejected[code]!;
      delete world.rejected[code];
    }
  }
}

/** A client that holds the link key and sends what it likes: wrong counters, wrong acknowledgements, any message. */
class InsiderFuzz {
  private readonly chance: Chance;
  private readonly report: FuzzReport;
  private readonly linkKey = new Uint8Array(32).fill(9);
  private server = this.newServer();
  private now = 0;
  private next = 0;
  private nonceG: Uint8Array = new Uint8Array(16);

  constructor(chance: Chance, report: FuzzReport) {
    this.chance = chance;
    this.report = report;
  }

  step(): void {
    const { chance } = this;
    if (chance.below(300) === 0) this.server = this.newServer();
    const nonceD = new Uint8Array(16);
    const { up, session } = sessionKeys(this.linkKey, nonceD, this.nonceG);
    const how = chance.below(20);
    let frame: Uint8Array;
    if (how === 0 || !this.server.isUp()) {
      this.nonceG = chance.bytes(16);
      this.server.receive(sealHello(handshakeKey(this.linkKey), nonceD), this.now);
      const fresh = sessionKeys(this.linkKey, nonceD, this.nonceG);
      frame = sealData(nodeLinkCrypto, fresh.up, fresh.session, 0, 0, new Uint8Array(0));
      this.next = 0;
    } else {
      const counter = chance.below(3) > 0 ? this.next : chance.below(2 ** 24);
      const ack = chance.below(3) > 0 ? 0 : chance.below(chance.pick([4, WINDOW, 2 ** 24]));
      frame =
        how < 3
          ? sealAck(up, session, ack)
          : sealData(nodeLinkCrypto, up, session, counter, ack, chance.bytes(chance.below(120)));
    }
    const effects = this.server.receive(frame, this.now);
    this.judge(effects, frame);
    if (frame[0] === DATA && !effects.some(({ kind }) => kind === "rejected")) this.next++;
    this.now += chance.below(400);
    this.judge(this.server.tick(this.now), frame);
    try {
      if (chance.below(4) === 0)
        this.judge(this.server.send(chance.bytes(1 + chance.below(100)), this.now), frame);
    } catch (error) {
      count(this.report, codeOf(error) ?? `no code: ${error}`, frame);
    }
  }

  private judge(effects: readonly LinkEffect[], frame: Uint8Array): void {
    if (effects.length > WINDOW + QUEUE)
      throw new Error(`one frame has ${effects.length} effects: ${toHex(frame)}`);
    for (const effect of effects) {
      if (effect.kind === "rejected" || effect.kind === "lost") count(this.report, effect.code, frame);
      if (effect.kind !== "deliver") continue;
      this.report.accepted++;
      try {
        toGateway.decode(effect.message);
      } catch (error) {
        count(this.report, codeOf(error) ?? `no code: ${error}`, effect.message);
      }
    }
  }

  private newServer(): LinkServer {
    const crypto = { ...nodeLinkCrypto, random: () => this.nonceG };
    return new LinkServer({ crypto, linkKey: this.linkKey, maxMessageBytes: 100 });
  }
}
