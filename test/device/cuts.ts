/**
 * Power cuts: a life is lived once undisturbed, to know how it ends and how many instants it has; then again and again
 * with the power failing at chosen instants. The end must be the same.
 */
import { isDeepStrictEqual } from "node:util";
import type { Cut as GatewayCut } from "../gateway-cuts/power.ts";
import { Violation } from "./audit.ts";
import type { Cut } from "./box.ts";
import { LIFE, type Wish, World, type WorldOptions } from "./world.ts";

/** Numbers from 0 up to 1; the seed decides all of them (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface Undisturbed {
  readonly wishes: readonly Wish[];
  readonly outcome: ReturnType<World["outcome"]>;
  /** Flash operations and effects of the device in the whole life, and effects of the gateway. */
  readonly operations: number;
  readonly effects: number;
  readonly gatewayEffects: number;
}

export function undisturbed(wishes: readonly Wish[] = LIFE, options: WorldOptions = {}): Undisturbed {
  const world = new World(options).live(wishes);
  return {
    wishes,
    outcome: world.outcome(),
    operations: world.box.operations + world.box.flash.operations(),
    effects: world.box.effects,
    gatewayEffects: world.peer.effects,
  };
}

/** Every instant at which the power can fail in an undisturbed life. */
export function everyCut({ operations, effects }: Undisturbed): Cut[] {
  const cuts: Cut[] = [];
  for (let operation = 0; operation < operations; operation++) cuts.push({ at: "flash", operation });
  for (let effect = 0; effect < effects; effect++)
    cuts.push({ at: "before", effect }, { at: "after", effect });
  return cuts;
}

/** The same of the gateway's power. */
export function everyGatewayCut({ gatewayEffects }: Undisturbed): GatewayCut[] {
  return Array.from({ length: gatewayEffects }, (_, effect) => [
    { at: "before" as const, effect },
    { at: "after" as const, effect },
  ]).flat();
}

export function instantsOf(life: Undisturbed): number {
  return everyCut(life).length + everyGatewayCut(life).length;
}

/** The power fails once: the device's, or from some instant on the gateway's. */
export function cutAt(life: Undisturbed, instant: number): WorldOptions {
  const cuts = everyCut(life);
  const random = seeded(instant);
  return instant < cuts.length
    ? { cuts: [cuts[instant]!], random }
    : { gatewayCuts: [everyGatewayCut(life)[instant - cuts.length]!], random };
}

/** Lives a life with these disturbances. Throws a Violation if it ends differently than it should. */
export function disturbed(expected: Undisturbed, options: WorldOptions): World {
  const world = new World(options).live(expected.wishes);
  if (!isDeepStrictEqual(comparable(world.outcome()), comparable(expected.outcome))) {
    throw new Violation(
      `it ended differently: ${JSON.stringify(world.outcome())} instead of ${JSON.stringify(expected.outcome)}`,
    );
  }
  return world;
}

/** Payments may be in other slots: what was asked for together may have been authorised in another order. */
function comparable({ payments, ...rest }: Undisturbed["outcome"]) {
  const byHash = (a: { hash: string } | null, b: { hash: string } | null) =>
    (a?.hash ?? "") < (b?.hash ?? "") ? -1 : 1;
  return { ...rest, payments: [...payments].sort(byHash) };
}

/** Orders in which wishes come: each costs a thread that meets it an undisturbed life. */
const ORDERS = 200;

/** An open, some of what can happen in between in any order, and a close. */
function someWishes(random: () => number): Wish[] {
  const middle = LIFE.slice(1, -1);
  for (let i = middle.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [middle[i], middle[j]] = [middle[j]!, middle[i]!];
  }
  return [LIFE[0]!, ...middle.slice(0, 1 + Math.floor(random() * middle.length)), LIFE[LIFE.length - 1]!];
}

/** A random life: up to three cuts of device and gateway each, sessions that break, messages that come twice, wishes in another order. */
export function chaos(seed: number, lives: Map<string, Undisturbed>, options: WorldOptions = {}): World {
  const random = seeded(seed);
  const wishes = someWishes(seeded(Math.floor(random() * ORDERS)));
  const name = JSON.stringify(wishes);
  const expected = lives.get(name) ?? undisturbed(wishes);
  lives.set(name, expected);
  const cuts: Cut[] = [];
  for (let count = Math.floor(random() * 4); count > 0; count--) {
    const which = random();
    if (which < 0.5) cuts.push({ at: "flash", operation: Math.floor(random() * expected.operations) });
    else
      cuts.push({ at: which < 0.75 ? "before" : "after", effect: Math.floor(random() * expected.effects) });
  }
  cuts.sort((a, b) => position(a) - position(b));
  const gatewayCuts: GatewayCut[] = [];
  for (let count = Math.floor(random() * 4); count > 0; count--) {
    const effect = Math.floor(random() * expected.gatewayEffects);
    gatewayCuts.push({ at: random() < 0.5 ? "before" : "after", effect });
  }
  gatewayCuts.sort((a, b) => a.effect - b.effect);
  return disturbed(expected, {
    ...options,
    cuts,
    gatewayCuts,
    random,
    breaks: random() < 0.5 ? 0.03 : 0,
    repeats: random() < 0.5 ? 0.05 : 0,
  });
}

function position(cut: Cut): number {
  return cut.at === "flash" ? cut.operation : cut.effect;
}
