/** The state as it is in flash: whole, whatever is in it, and secret where an old value would be poison. */
import { expect, test } from "@jest/globals";
import {
  type Change,
  type ChannelState,
  changesBetween,
  EMPTY,
  KEY,
  readState,
} from "../../device/channel/state.ts";
import { Rig } from "./rig.ts";

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);

/** A journal in memory. */
function journalOf(changes: readonly Change[], values = new Map<number, Uint8Array>()) {
  for (const { key, value } of changes) {
    if (value === null) values.delete(key);
    else values.set(key, value);
  }
  return {
    values,
    keys: () => [...values.keys()].sort((a, b) => a - b),
    get: (key: number) => values.get(key) ?? null,
  };
}

/** A channel in the middle of a payment, and everything else that there can be. */
function fullState(): ChannelState {
  const rig = new Rig().open();
  rig.pay("toll", 4000);
  rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 4000)])) });
  const { books, parameters, holder, counterparty, payments } = rig.state;
  expect(counterparty!.previous).toBeDefined();
  const window = (serial: number) => ({
    serial,
    startedAt: 2 ** 40 + serial,
    boot: 3,
    ticks: 4,
    spentMsat: 5,
  });
  const payment = { ...payments.find(each => each !== null)!, counted: { hour: 6, day: 7 }, feeMsat: 8 };
  const secrets = [filled(32, 1), filled(32, 2)];
  return {
    books: {
      ...books,
      hour: window(9),
      day: window(10),
      due: { holder: 11, counterparty: 12 },
      forgotten: 13,
      owedMsat: 14,
    },
    parameters,
    holder,
    counterparty,
    former: [
      { index: 1, proposal: parameters!.proposal, holder: holder!, counterparty: counterparty!, secrets },
    ],
    collected: {
      count: 15,
      answers: [{ sighash: filled(32, 3), own: filled(64, 4) }],
      sums: [{ transaction: filled(8, 5), sat: 16 }],
    },
    paid: [filled(12, 6)],
    secrets,
    payments: [null, payment, null, payment],
  };
}

test("an empty journal is the empty state", () => {
  expect(readState(journalOf([]))).toStrictEqual(EMPTY);
  expect([EMPTY.secrets, EMPTY.payments]).toEqual([[], []]);
});

test("what was written is read, each part of it, with free slots between payments", () => {
  const state = fullState();
  expect(readState(journalOf(changesBetween(EMPTY, state)))).toEqual(state);
});

test("what is no longer there is removed, and only what has changed is written", () => {
  const state = fullState();
  const { values } = journalOf(changesBetween(EMPTY, state));
  expect(changesBetween(state, state)).toEqual([]);
  const [, second] = state.payments;
  const less: ChannelState = { ...state, paid: null, secrets: [filled(32, 1)], payments: [null, second!] };
  const changes = changesBetween(state, { ...less, secrets: state.secrets.slice(0, 1) });
  expect(changes.map(({ key, value }) => [key, value])).toEqual([
    [KEY.paid, null],
    [KEY.secrets + 1, null],
    [KEY.payments + 3, null],
  ]);
  expect(readState(journalOf(changes, values))).toEqual(less);
});

test("only our own newest commitment is cleared once it is superseded", () => {
  const secret = changesBetween(EMPTY, fullState()).filter(change => change.secret);
  expect(secret.map(({ key }) => key)).toEqual([KEY.holder]);
});
