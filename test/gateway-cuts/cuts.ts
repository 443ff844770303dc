/** Lives with the power failing: at every effect of one happening, and by seed. */
import { seeded } from "../device/cuts.ts";
import type { DeviceCut } from "./car.ts";
import { changesFeerate, closes, isRefused, opens, pays } from "./lives.ts";
import type { Cut } from "./power.ts";
import { type Plan, Street, World } from "./world.ts";

/** What happens to an open channel and leaves it open. */
const HAPPENINGS = { pays, isRefused, changesFeerate };
export type Happening = keyof typeof HAPPENINGS;

export interface Tally {
  /** Runs in which the power did fail, by the effect at which the gateway's did. */
  readonly cuts: Map<string, number>;
  runs: number;
  restarts: number;
  exits: number;
}

export function newTally(): Tally {
  return { cuts: new Map(), runs: 0, restarts: 0, exits: 0 };
}

/** An open channel; the name makes its keys. */
export async function openWorld(street: Street, name: string, random: () => number): Promise<World> {
  const world = await World.start(street, { name, random });
  await opens(world, []);
  return world;
}

/**
 * Lets it happen once undisturbed, and then once for each effect that it had then, the power failing there. Returns
 * how often it did fail: a message that was repeated the first time need not be repeated again.
 */
export async function everyCut(
  world: World,
  happening: Happening,
  at: Cut["at"],
  tally: Tally,
  { first = 0, step = 1 } = {},
): Promise<number> {
  await world.chargeIfNeeded();
  await oneRun(world, happening, [], tally);
  const effects = [...world.trace];
  let failures = 0;
  for (let index = first; index < effects.length; index += step) {
    const of = effects[index]!;
    const effect = effects.slice(0, index).filter(name => name === of).length;
    await world.chargeIfNeeded();
    if (await oneRun(world, happening, [{ of: "gateway", cut: { at, effect, of } }], tally)) failures++;
  }
  return failures;
}

/** False if no power failed: it was over before. */
export async function oneRun(
  world: World,
  happening: Happening | "opens" | "closes",
  plans: readonly Plan[],
  tally: Tally,
): Promise<boolean> {
  const starts = world.gatewayStarts + world.car.boots;
  const exits = world.exitsChecked;
  const what = { ...HAPPENINGS, opens, closes }[happening];
  try {
    await what(world, plans);
  } catch (error) {
    if (error instanceof Error) error.message = `${happening} ${JSON.stringify(plans)}: ${error.message}`;
    throw error;
  }
  const restarts = world.gatewayStarts + world.car.boots - starts;
  for (const name of world.takeFailures()) tally.cuts.set(name, (tally.cuts.get(name) ?? 0) + 1);
  tally.runs++;
  tally.restarts += restarts;
  tally.exits += world.exitsChecked - exits;
  return restarts > 0;
}

/** Flash operations and messages of a payment, about; a cut beyond the end is none. */
const DEVICE_OPERATIONS = 60;
const DEVICE_MESSAGES = 8;
const GATEWAY_EFFECTS = 36;

/** One to three failures of gateway and device. */
function randomPlans(random: () => number): Plan[] {
  const gatewayCut = (): Cut => ({
    at: random() < 0.5 ? "before" : "after",
    effect: Math.floor(random() * GATEWAY_EFFECTS),
  });
  const deviceCut = (): DeviceCut =>
    random() < 0.5
      ? { at: "flash", operation: Math.floor(random() * DEVICE_OPERATIONS) }
      : { at: random() < 0.5 ? "before" : "after", message: Math.floor(random() * DEVICE_MESSAGES) };
  const plans: Plan[] = [{ of: "gateway", cut: gatewayCut() }];
  if (random() < 0.7) plans.push({ of: "car", cut: deviceCut() });
  if (random() < 0.3) plans.push({ of: "gateway", cut: gatewayCut() });
  return plans;
}

/** A whole life by its seed: an open, some happenings and a close, nearly all of them disturbed. */
export async function randomLife(
  street: Street,
  seed: number,
  happenings: number,
  tally: Tally,
): Promise<void> {
  const random = seeded(seed);
  const world = await World.start(street, { name: `seed ${seed}`, random });
  const plans = () => (random() < 0.9 ? randomPlans(random) : []);
  try {
    await oneRun(world, "opens", plans(), tally);
    for (let i = 0; i < happenings; i++) {
      await world.chargeIfNeeded();
      const which = random();
      const happening: Happening = which < 0.6 ? "pays" : which < 0.85 ? "isRefused" : "changesFeerate";
      await oneRun(world, happening, plans(), tally);
    }
    await world.chargeIfNeeded();
    await oneRun(world, "closes", plans(), tally);
  } catch (error) {
    await world.abandon();
    throw error;
  }
  await world.stop();
}

/**
 * So many seeded lives, one after the other. What was random is what failed and when; the order in which LDK, the
 * sockets and the timers come is the machine's, so a seed repeats the plan and not every instant of it.
 */
export async function gatewayChaos(
  runs: number,
  seed: number,
  report: (line: string) => void,
): Promise<void> {
  const street = await Street.start();
  const tally = newTally();
  try {
    for (let i = 0; i < runs; i++) {
      await randomLife(street, seed + i, 4, tally).catch(error => {
        report(`seed ${seed + i}: again with --gateway --runs 1 --seed ${seed + i}`);
        throw error;
      });
      if ((i + 1) % Math.ceil(runs / 20) === 0 || i + 1 === runs) {
        report(
          `${i + 1} of ${runs} lives, ${tally.runs} happenings, ${tally.restarts} power cuts, ${tally.exits} exits taken by bitcoind: all is well`,
        );
      }
    }
  } finally {
    await street.stop();
  }
}
