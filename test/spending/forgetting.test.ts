/** Rows are forgotten a few at a time: by what they are then, and not by what they were when the looking through began. */
import { expect, test } from "@jest/globals";
import { toHex } from "../../src/bytes/bytes.ts";
import { bytesOf, Desk, hashOf } from "../service-fee/desk.ts";
import { storeTable } from "../store-table.ts";

const table = storeTable("payments");

/** It is among the first rows: whoever makes an invoice chooses its hash. */
let name = "toll";
for (let i = 0; hashOf(name)[0]! > 20; i++) name = `toll ${i}`;
const hash = hashOf(name);

/** One payment that failed, and then so many others that its row is to go. */
function crowded(): Desk {
  const desk = new Desk(table);
  desk.pay(hash, 4_000_000);
  desk.fails(hash);
  // Refused at once, and free: more than a payment may be.
  for (let i = 0; i < 250; i++) {
    desk.nowMs += 1;
    desk.pay(hashOf(`junk ${i}`), 400_000_000);
  }
  desk.failures.splice(0);
  return desk;
}

test("a payment that is begun again earns its fee, and its receipt is told", () => {
  const desk = crowded();
  desk.pay(hash, 4_000_000, 1);
  desk.arrives(bytesOf(name), 1);
  expect(desk.fees.owedMsat).toBe(200_000);
  expect(desk.receipts).toEqual([toHex(hash)]);
});

test("one that is begun again while rows are looked through is kept: it earns its fee, its receipt is told, and it is paid once", async () => {
  const desk = crowded();
  const looking = desk.payments.prune(0);
  await new Promise(resolve => setImmediate(resolve));
  desk.pay(hash, 4_000_000, 1);
  await looking;
  expect(desk.payments.mayBeUnderWay(hash)).toBe(true);
  const before = desk.begun.get(toHex(hash));
  desk.pay(hash, 4_000_000, 1);
  expect(desk.begun.get(toHex(hash))).toBe(before);
  desk.arrives(bytesOf(name), 1);
  expect(desk.fees.owedMsat).toBe(200_000);
  expect(desk.receipts).toEqual([toHex(hash)]);
});
