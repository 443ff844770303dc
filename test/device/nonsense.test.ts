import { expect, test } from "@jest/globals";
import type { CommitmentSpec } from "../../src/channel/terms.ts";
import type { Step, ToDevice } from "../../src/messages/device.ts";
import { seeded } from "./cuts.ts";
import { derived } from "./dealer.ts";
import { BRIDGE, FUNDING, proposalWith } from "./parties.ts";
import { bridgePoint } from "./peer.ts";
import { Rig } from "./rig.ts";

/** A message of the right shape and of no sense: what the decoder lets through. */
function nonsense(random: () => number, rig: Rig): ToDevice {
  const below = (limit: number) => Math.floor(random() * limit);
  const pick = <T>(...from: T[]): T => from[below(from.length)]!;
  const maybe = <K extends string, T>(key: K, value: () => T): { [k in K]?: T } =>
    random() < 0.4 ? ({ [key]: value() } as { [k in K]: T }) : {};
  const bytes = (length: number) =>
    pick(derived(`${random()}`), new Uint8Array(99).fill(pick(0, 1, 255))).slice(0, length);
  const long = (length: number) =>
    new Uint8Array([...bytes(32), ...bytes(32), ...bytes(32)]).slice(0, length);
  const number = () =>
    pick(0, 1, 2, 3, 353, 354, 1000, 199_000, 200_000, 2 ** 32 - 1, 2 ** 48 - 1, 2 ** 48, 2 ** 53 - 1);
  const small = () => pick(0, 1, 2, 100, 65535);
  const uint32 = () => pick(0, 1, 253, 1500, 2 ** 31, 2 ** 32 - 1);
  const point = () => pick(bridgePoint(below(3)), FUNDING.point, new Uint8Array([2, ...bytes(32)]), long(33));
  const many = <T>(most: number, make: () => T): T[] => Array.from({ length: below(most + 1) }, make);
  const partial = () => ({ id: uint32(), scalar: bytes(32), mac: bytes(16) });
  const view = (): CommitmentSpec =>
    pick(rig.view(), {
      feeratePerKw: uint32(),
      holderSat: number(),
      counterpartySat: number(),
      htlcs: many(12, () => ({
        paymentHash: pick(rig.htlc("toll", 1).paymentHash, bytes(32)),
        amountMsat: number(),
        cltvExpiry: uint32(),
        ...(random() < 0.5 ? { incoming: pick(true, false) } : {}),
      })),
    });
  const proposal = () =>
    proposalWith({
      ...maybe("index", uint32),
      ...maybe("fundingKey", point),
      ...maybe("revocationBasepoint", () => pick(point(), BRIDGE.htlc.point)),
      ...maybe("delayedPaymentBasepoint", point),
      ...maybe("htlcBasepoint", point),
      ...maybe("deposits", () => many(8, () => ({ txid: bytes(32), vout: uint32(), valueSat: number() }))),
      ...maybe("channelSat", number),
      ...maybe("changeSat", number),
      ...maybe("holderDelay", small),
      ...maybe("counterpartyDelay", small),
      ...maybe("holderDustLimitSat", number),
      ...maybe("counterpartyDustLimitSat", number),
      ...maybe("reserveSat", number),
    });
  const step = (): Step => ({
    type: "step",
    id: uint32(),
    ...maybe("revoked", () => ({ number: number(), secret: bytes(32), ...maybe("nextPoint", point) })),
    ...maybe("proposal", proposal),
    ...maybe("holder", () => ({
      number: number(),
      signature: long(64),
      partial: partial(),
      ...maybe("view", view),
      ...maybe("htlcSignatures", () => many(12, () => long(64))),
      ...maybe("anchorPartial", partial),
    })),
    ...maybe("counterparty", () => ({ number: number(), ...maybe("point", point), ...maybe("view", view) })),
    ...maybe("fund", () => pick(true, false)),
    ...maybe("close", () => ({
      holderSat: number(),
      counterpartySat: number(),
      counterpartyScript: long(below(81)),
    })),
    ...(random() < 0.02 ? { leave: number() } : {}),
    ...(random() < 0.1
      ? {
          spend: {
            index: pick(1, 2),
            point: point(),
            inputs: many(5, () => ({ txid: bytes(32), vout: uint32(), sequence: uint32() })),
            input: small(),
            amountSat: number(),
            valueSat: number(),
            locktime: uint32(),
            ...maybe("secret", () => bytes(32)),
            ...maybe("htlc", () => ({ paymentHash: bytes(32), amountMsat: number(), cltvExpiry: uint32() })),
          },
        }
      : {}),
    ...maybe("paid", () => many(3, () => pick(rig.preimage("toll"), bytes(32)))),
  });
  return pick<() => ToDevice>(
    step,
    step,
    step,
    () => ({ type: "paid", preimage: pick(rig.preimage("toll"), bytes(32)) }),
    () => ({
      type: "failed",
      code: "x".repeat(below(65)),
      sentence: "y",
      ...maybe("paymentHash", () => bytes(32)),
    }),
    () => ({ type: "channel", index: uint32(), state: pick("ready", "closed", "?") }),
  )();
}

test("nothing of the right shape stops the device, in any phase, and nothing of it does harm", () => {
  let answered = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = seeded(seed);
    const rig = new Rig();
    if (seed % 4 > 0) rig.open();
    if (seed % 4 > 1) rig.pay("toll", 1000);
    if (seed % 4 > 2) rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    if (seed % 20 === 19) rig.app("open");
    for (let i = 0; i < 40; i++) {
      rig.say(nonsense(random, rig));
      answered++;
      expect(rig.harm()).toBeNull();
    }
    const state = rig.state;
    rig.box.restart();
    expect(rig.state).toEqual(state);
  }
  expect(answered).toBe(2400);
});
