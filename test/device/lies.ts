/**
 * A gateway and a bridge that try anything, in any order: random steps around what would be honest, most of them wrong
 * in one thing or another, all signed as well as they can be. Nothing that is accepted may do harm.
 */
import type { CommitmentSpec } from "../../src/channel/terms.ts";
import { codeOf } from "../../src/errors.ts";
import type { Step } from "../../src/messages/device.ts";
import { Violation } from "./audit.ts";
import { seeded } from "./cuts.ts";
import { derived } from "./dealer.ts";
import { HEIGHT } from "./parties.ts";
import { bridgePoint } from "./peer.ts";
import { Rig } from "./rig.ts";

const SERVICE_FEE = { ratePpm: 50_000, baseMsat: 100, settleFromMsat: 60_000, creditMsat: 5_000_000 };
const CHARGE = { A: 150, B: 200, H: 200 };

export interface Lies {
  readonly rig: Rig;
  readonly accepted: number;
}

/** One random sequence of lies. Throws a Violation if one of them does harm. */
export function lie(seed: number, steps = 40): Lies {
  const random = seeded(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const often = (probability: number) => random() < probability;
  const rig = new Rig({ charge: CHARGE, serviceFee: SERVICE_FEE }).open();
  const names: string[] = [];
  const said: Omit<Step, "type" | "id">[] = [];
  let accepted = 0;

  function someView(): CommitmentSpec {
    const base = often(0.5) ? rig.state.holder!.view : rig.state.counterparty!.view;
    let { htlcs, counterpartySat } = base;
    if (often(0.5)) htlcs = htlcs.filter(() => often(0.6));
    if (names.length > 0 && often(0.6)) {
      const name = names[below(names.length)]!;
      const amount = rig.amounts.get(name)! + (often(0.3) ? below(9) - 4 : 0);
      const expiry = often(0.05) ? { cltvExpiry: HEIGHT + 3000 } : {};
      htlcs = [...htlcs, rig.htlc(often(0.05) ? "unknown" : name, amount, expiry)];
    }
    if (often(0.1)) htlcs = [...htlcs, rig.htlc(`unasked ${below(5)}`, 400 + below(300), { incoming: true })];
    if (often(0.3)) counterpartySat += [1, 360, 546, 700, 1000, 5000, -1, -600][below(8)]!;
    if (names.length > 0 && often(0.3)) counterpartySat += rig.amounts.get(names[below(names.length)]!)!;
    const feeratePerKw = often(0.1) ? [1, 253, 1500, 3000, 20_000, 90_000][below(6)]! : base.feeratePerKw;
    const view = rig.view(Math.max(0, counterpartySat), htlcs.slice(0, 13), feeratePerKw);
    const off = often(0.15) ? [-1, 1, -330, 660, -2000, 2000][below(6)]! : 0;
    return { ...view, holderSat: Math.max(0, view.holderSat + off) };
  }

  function someStep(): Omit<Step, "type" | "id"> {
    const which = below(10);
    const around = (number: number) => Math.max(0, number + (often(0.15) ? below(4) - 2 : 0));
    const newest = rig.state.counterparty!.number;
    if (which < 4) {
      const part = rig.counterparty(someView(), around(newest + 1));
      return { counterparty: often(0.05) ? { ...part, point: bridgePoint(below(5)) } : part };
    }
    if (which < 7) {
      const part = rig.holder(someView(), around(rig.state.holder!.number + 1));
      if (often(0.05)) return { holder: { ...part, signature: rig.state.holder!.ownSignature } };
      if (often(0.05))
        return { holder: { ...part, partial: { ...part.partial, scalar: derived(`${seed}`) } } };
      return { holder: part };
    }
    if (which < 9) {
      if (often(0.1)) return { revoked: { number: newest - (newest > 0 ? 1 : 0), secret: derived("wrong") } };
      return newest > 0 ? { revoked: rig.revoked() } : { fund: true };
    }
    if (often(0.3))
      return {
        close: {
          holderSat: 190_000 + below(10_000),
          counterpartySat: below(9000),
          counterpartyScript: new Uint8Array(22),
        },
      };
    return said.length > 0 ? said[below(said.length)]! : { fund: true };
  }

  for (let i = 0; i < steps; i++) {
    const which = below(20);
    if (which < 3) {
      const name = often(0.2) && names.length > 0 ? names[below(names.length)]! : `payment ${names.length}`;
      const amount = often(0.4) ? 50 + below(600) : 600 + below(2000);
      const before = rig.refusals.length;
      rig.pay(name, amount);
      if (rig.refusals.length === before) {
        rig.amounts.set(name, amount);
        if (!names.includes(name)) names.push(name);
      }
    } else if (which === 3 && names.length > 0) rig.paid(names[below(names.length)]!);
    else if (which === 4 && names.length > 0) rig.failed(names[below(names.length)]!);
    else if (which === 7 && often(0.5)) {
      const name = `fee ${below(4)}`;
      const owed = rig.state.books.owedMsat ?? 0;
      const amountMsat = often(0.5) ? owed : below(2 * owed + 1000);
      const before = rig.refusals.length;
      rig.settle(name, amountMsat, often(0.3) ? below(2000) : 0);
      if (rig.refusals.length === before) {
        rig.amounts.set(name, Math.ceil(amountMsat / 1000));
        if (!names.includes(name)) names.push(name);
      }
    } else if (which === 5 && often(0.3)) rig.box.restart();
    else if (which === 6 && often(0.2)) rig.say({ type: "channel", index: 1, state: "closed" });
    else {
      let step: Omit<Step, "type" | "id">;
      try {
        step = someStep();
      } catch (error) {
        // A commitment that cannot even be built cannot be asked for.
        if (codeOf(error) === undefined) throw error;
        continue;
      }
      said.push(step);
      if (!rig.step(step).refused) accepted++;
    }
    const harm = rig.harm();
    if (harm !== null) throw new Violation(`after ${i + 1} steps: ${harm}`);
  }
  return { rig, accepted };
}
