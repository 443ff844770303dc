/** Where each bound is: the last value that is allowed, and the first that is not. */
import { expect, test } from "@jest/globals";
import { spendableMsat } from "../../device/channel/payments/balance.ts";
import { spendOf } from "./attacks.ts";
import { DEPOSIT, HEIGHT, NOW_MS, proposalWith, SERVICE_FEE } from "./parties.ts";
import { Rig, type RigOptions } from "./rig.ts";

/** A rule, what is bounded, the last value allowed, the first refused. */
type Bound = readonly [
  rule: string,
  what: string,
  last: number,
  first: number,
  act: (rig: Rig, value: number) => void,
  options?: (value: number) => RigOptions,
];

function proposed(changed: (value: number) => Parameters<typeof proposalWith>[0]): Bound[4] {
  return (rig, value) => {
    rig.app("open");
    rig.proposal = proposalWith(changed(value));
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
  };
}

const opened =
  (act: Bound[4]): Bound[4] =>
  (rig, value) =>
    act(rig.open(), value);

/** A payment of 1,000 sat has been paid, and is gone from both commitments. */
const paid = (act: Bound[4]) =>
  opened((rig, value) => {
    rig.pay("paid", 1000);
    rig.move(rig.view(0, [rig.htlc("paid", 1000)]));
    rig.paid("paid");
    rig.move(rig.view(1000));
    rig.step({ revoked: rig.revoked() });
    act(rig, value);
  });

const theirs = (rig: Rig, view = rig.view()) => rig.step({ counterparty: rig.counterparty(view) });
const ours = (rig: Rig, view = rig.view()) => rig.step({ holder: rig.holder(view) });
const payMsat = (rig: Rig, name: string, amountMsat: number, maxFeeMsat = 0) =>
  rig.pay(name, 0, { amountMsat, maxFeeMsat });

/** The fee and the anchors of a commitment without HTLCs at the usual feerate, sat. */
const COST = 1686 + 660;
const ALL_SAT = 21e14;
const HOUR_MS = 3_600_000;

const BOUNDS: readonly Bound[] = [
  ["channel-parameters", "our delay, longest", 2016, 2017, proposed(holderDelay => ({ holderDelay }))],
  ["channel-parameters", "our delay, shortest", 1, 0, proposed(holderDelay => ({ holderDelay }))],
  [
    "channel-parameters",
    "their delay, shortest",
    144,
    143,
    proposed(counterpartyDelay => ({ counterpartyDelay })),
  ],
  [
    "channel-parameters",
    "our dust limit, least",
    354,
    353,
    proposed(holderDustLimitSat => ({ holderDustLimitSat })),
  ],
  [
    "channel-parameters",
    "our dust limit, most",
    1000,
    1001,
    proposed(holderDustLimitSat => ({ holderDustLimitSat })),
  ],
  [
    "channel-parameters",
    "their dust limit, least",
    354,
    353,
    proposed(sat => ({ counterpartyDustLimitSat: sat })),
  ],
  [
    "channel-parameters",
    "their dust limit, most",
    1000,
    1001,
    proposed(sat => ({ counterpartyDustLimitSat: sat })),
  ],
  ["channel-parameters", "the reserve, a fiftieth", 4000, 4001, proposed(reserveSat => ({ reserveSat }))],
  [
    "channel-parameters",
    "the reserve of a small channel",
    1000,
    1001,
    proposed(reserveSat => ({ reserveSat, channelSat: 40_000, changeSat: 160_000 })),
  ],
  [
    "channel-parameters",
    "the funding's fee",
    25_000,
    25_001,
    proposed(feeSat => ({ channelSat: 101_000 - feeSat, changeSat: 100_000, reserveSat: 1000 })),
  ],
  [
    "channel-parameters",
    "the sum of the deposits, all the money there is",
    ALL_SAT,
    ALL_SAT + 1,
    proposed(sat => ({
      deposits: [
        { ...DEPOSIT, valueSat: ALL_SAT - 1000 },
        { ...DEPOSIT, vout: 2, valueSat: sat - ALL_SAT + 1000 },
      ],
      channelSat: 200_000,
      changeSat: sat - 201_000,
    })),
  ],
  ["channel-parameters", "the change", 354, 353, proposed(changeSat => ({ changeSat }))],
  [
    "feerate-range",
    "the bridge's lowest feerate",
    253,
    252,
    opened((rig, rate) => theirs(rig, rig.view(0, [], rate))),
  ],
  [
    "feerate-range",
    "the bridge's highest feerate",
    8000,
    8001,
    opened((rig, rate) => theirs(rig, rig.view(0, [], rate))),
  ],
  ["feerate-range", "our lowest feerate", 253, 252, opened((rig, rate) => ours(rig, rig.view(0, [], rate)))],
  [
    "feerate-range",
    "our highest feerate",
    8000,
    8001,
    opened((rig, rate) => ours(rig, rig.view(0, [], rate))),
  ],
  [
    "htlc-dust",
    "an HTLC in the bridge's commitment, msat",
    546_000,
    545_999,
    opened((rig, amountMsat) => {
      rig.pay("toll", 546);
      theirs(rig, rig.view(0, [rig.htlc("toll", 546, { amountMsat })]));
    }),
  ],
  [
    "htlc-dust",
    "an HTLC in our commitment, msat",
    354_000,
    353_999,
    opened((rig, amountMsat) => {
      rig.pay("toll", 354);
      ours(rig, rig.view(0, [rig.htlc("toll", 354, { amountMsat })]));
    }),
  ],
  [
    "htlc-limit",
    "an HTLC, msat",
    1_005_000,
    1_005_001,
    opened((rig, amountMsat) => {
      rig.pay("toll", 1000);
      theirs(rig, rig.view(0, [rig.htlc("toll", 1005, { amountMsat })]));
    }),
  ],
  [
    "htlc-limit",
    "two HTLCs of one payment, msat",
    1_505_000,
    1_505_001,
    opened((rig, amountMsat) => {
      rig.pay("toll", 1500);
      const second = rig.htlc("toll", 805, { amountMsat: amountMsat - 700_000 });
      theirs(rig, rig.view(0, [rig.htlc("toll", 700), second]));
    }),
  ],
  [
    "htlc-expiry",
    "an HTLC's expiry",
    HEIGHT + 2016,
    HEIGHT + 2017,
    opened((rig, cltvExpiry) => {
      rig.pay("toll", 1000);
      theirs(rig, rig.view(0, [rig.htlc("toll", 1000, { cltvExpiry })]));
    }),
  ],
  [
    "htlc-incoming",
    "HTLCs of the bridge's",
    5,
    6,
    opened((rig, count) => {
      rig.pay("toll", 4000);
      rig.move(rig.view(0, [rig.htlc("toll", 4000)]));
      rig.paid("toll");
      rig.move(rig.view(4000));
      const many = Array.from({ length: count }, (_, i) => rig.htlc(`unasked ${i}`, 400, { incoming: true }));
      ours(rig, rig.view(4000 - 400 * count, many));
    }),
  ],
  ["value", "the bridge's output in our commitment", 354, 353, paid((rig, sat) => ours(rig, rig.view(sat)))],
  [
    "value",
    "the bridge's output in its commitment",
    546,
    545,
    paid((rig, sat) => theirs(rig, rig.view(sat))),
  ],
  [
    "value",
    "outputs and fee",
    200_000,
    200_001,
    opened((rig, sat) => ours(rig, { ...rig.view(), holderSat: sat - COST })),
  ],
  [
    "value",
    "outputs, fee and an HTLC",
    200_000,
    200_001,
    opened((rig, sat) => {
      rig.pay("toll", 1000);
      const view = rig.view(0, [rig.htlc("toll", 1000)]);
      ours(rig, { ...view, holderSat: view.holderSat + sat - 200_000 });
    }),
  ],
  [
    "value",
    "our output",
    354,
    353,
    proposed(sat => ({
      channelSat: sat + COST,
      changeSat: 190_000,
      reserveSat: 1000,
      counterpartyDustLimitSat: 354,
    })),
  ],
  [
    "balance",
    "our balance",
    200_000,
    199_999,
    opened((rig, sat) => ours(rig, { ...rig.view(), holderSat: sat - COST })),
  ],
  [
    "balance",
    "our balance after a payment",
    199_000,
    198_999,
    paid((rig, sat) => ours(rig, { ...rig.view(1000), holderSat: sat - COST })),
  ],
  [
    "balance",
    "our balance less a tiny payment",
    199_895,
    199_894,
    opened((rig, sat) => {
      rig.pay("tiny", 100);
      ours(rig, { ...rig.view(), holderSat: sat - COST });
    }),
  ],
  ["close-balance", "what a close pays us", 175_000, 174_999, opened((rig, sat) => rig.close(sat, 0))],
  ["close-balance", "what a close pays the bridge", 1000, 1001, paid((rig, sat) => rig.close(190_000, sat))],
  [
    "close-balance",
    "what is collected of 100,000 sat",
    75_000,
    74_999,
    opened((rig, valueSat) => rig.step({ spend: spendOf(rig, { amountSat: 100_000, valueSat }) })),
  ],
  [
    "close-balance",
    "what is collected of little",
    1,
    0,
    opened((rig, valueSat) => rig.step({ spend: spendOf(rig, { valueSat }) })),
  ],
  [
    "close-balance",
    "the input to sign",
    0,
    1,
    opened((rig, input) => rig.step({ spend: spendOf(rig, { input }) })),
  ],
  [
    "close-state",
    "different closes",
    4,
    5,
    opened((rig, count) => {
      for (let i = 0; i < count; i++) rig.close(199_000 - i, 0);
    }),
  ],
  [
    "payment-limit",
    "a payment and its fee, msat",
    5_000_000,
    5_000_001,
    opened((rig, msat) => payMsat(rig, "toll", msat - 5000, 5000)),
  ],
  [
    "payment-limit",
    "a payment, its fee and the gateway's, msat",
    1_055_000,
    1_054_999,
    opened(rig => payMsat(rig, "toll", 1_000_000, 5000)),
    perPaymentMsat => ({ policy: { perPaymentMsat }, serviceFee: SERVICE_FEE }),
  ],
  [
    "velocity",
    "payments in an hour, msat",
    2_000_000,
    1_999_999,
    opened(rig => {
      payMsat(rig, "one", 1_000_000);
      payMsat(rig, "two", 1_000_000);
    }),
    perHourMsat => ({ policy: { perHourMsat } }),
  ],
  [
    "velocity",
    "payments in a day, msat",
    2_000_000,
    1_999_999,
    opened(rig => {
      payMsat(rig, "one", 1_000_000);
      rig.box.nowMs += HOUR_MS;
      payMsat(rig, "two", 1_000_000);
    }),
    perDayMsat => ({ policy: { perDayMsat } }),
  ],
  [
    "velocity",
    "an hour, s",
    3600,
    3599,
    opened((rig, seconds) => {
      payMsat(rig, "one", 1_000_000);
      rig.box.nowMs = NOW_MS + 1000 * seconds;
      payMsat(rig, "two", 1_000_000);
    }),
    () => ({ policy: { perHourMsat: 1_000_000 } }),
  ],
  [
    "velocity",
    "a day, s",
    86_400,
    86_399,
    opened((rig, seconds) => {
      payMsat(rig, "one", 1_000_000);
      rig.box.nowMs = NOW_MS + 1000 * seconds;
      payMsat(rig, "two", 1_000_000);
    }),
    () => ({ policy: { perDayMsat: 1_000_000 } }),
  ],
  [
    "dust-in-flight",
    "dust, sat",
    205,
    204,
    opened(rig => {
      payMsat(rig, "one", 100_000);
      payMsat(rig, "two", 100_000, 5000);
    }),
    maxDustSat => ({ policy: { maxDustSat } }),
  ],
  [
    "dust-in-flight",
    "a payment that is no dust, msat",
    546_000,
    545_999,
    opened((rig, msat) => payMsat(rig, "toll", msat)),
    () => ({ policy: { maxDustSat: 0 } }),
  ],
  [
    "service-fee",
    "a settlement, least, msat",
    200_000,
    199_999,
    opened((rig, msat) => {
      rig.pay("toll", 4000);
      rig.move(rig.view(0, [rig.htlc("toll", 4000)]));
      rig.paid("toll");
      rig.settle("fee", msat);
    }),
    () => ({ serviceFee: { ...SERVICE_FEE, settleFromMsat: 200_000 } }),
  ],
  [
    "service-fee",
    "a settlement, most, msat",
    200_000,
    200_001,
    opened((rig, msat) => {
      rig.pay("toll", 4000);
      rig.move(rig.view(0, [rig.htlc("toll", 4000)]));
      rig.paid("toll");
      rig.settle("fee", msat - 1000, 1000);
    }),
    () => ({ serviceFee: { ...SERVICE_FEE, settleFromMsat: 100_000 } }),
  ],
];

for (const [rule, what, last, first, act, options] of BOUNDS) {
  const refusals = (value: number) => {
    const rig = new Rig(options?.(value));
    act(rig, value);
    expect(rig.harm()).toBeNull();
    return rig.refusals;
  };
  test(`policy-${rule}: ${what}, ${last} and not ${first}`, () => {
    expect(refusals(last)).toEqual([]);
    expect(refusals(first)).toContain(`policy-${rule}`);
  });
}

test("balance-too-low: all that can be spent, and not an msat more", () => {
  const unlimited = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
  for (const more of [0, 1]) {
    const rig = new Rig({ policy: unlimited }).open();
    payMsat(rig, "first", 700_000);
    payMsat(rig, "all", spendableMsat(rig.state, rig.identity) + more);
    expect(rig.refusals).toEqual(more === 0 ? [] : ["balance-too-low"]);
  }
});

test("records-used-up: the records that payments in flight and a close need, and not one less", () => {
  for (const [payments, needed] of [
    [1, { A: 2 + 3, B: 4, H: 2 }],
    [2, { A: 4 + 3, B: 8, H: 6 }],
    [3, { A: 6 + 3, B: 12, H: 12 }],
  ] as const) {
    // What the open has used already, and what the last payment that was settled may still bring.
    const enough = { A: needed.A + 2 + 2, B: needed.B + 2 + 4, H: needed.H };
    for (const missing of [{}, { A: enough.A - 1 }, { B: enough.B - 1 }, { H: enough.H - 1 }]) {
      const rig = new Rig({ charge: { ...enough, ...missing } }).open();
      for (let i = 0; i < payments; i++) rig.pay(`toll ${i}`, 1000);
      expect(rig.refusals).toEqual(Object.keys(missing).length > 0 ? ["records-used-up"] : []);
    }
  }
});
