import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Database, RootDatabase } from "lmdb";
import { KEPT_FAILURES } from "../../gateway/device/payment-rows.ts";
import { Payments } from "../../gateway/device/payments.ts";
import { ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { openStore } from "../../gateway/store/registry.ts";
import { ascii, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { packInvoice } from "../../src/lightning/bolt11.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import { PresignatureJournal } from "../../src/threshold/records.ts";
import { codeThrownBy } from "../thrown.ts";

const DAY_MS = 24 * 3600 * 1000;

describe("What the gateway keeps of payments", () => {
  const folder = mkdtempSync(join(tmpdir(), "lngate-growth-"));
  let store: RootDatabase<unknown, string>;
  let table: Database<Uint8Array, string>;
  let devices = 0;
  let nowMs: number;
  let payments: Payments;
  let deviceId: string;
  let told: string[];
  let isUnderWay: boolean;
  let refusal: string | undefined;

  beforeAll(() => {
    store = openStore(folder);
    table = store.openDB({ name: "payments", encoding: "binary" });
  });
  afterAll(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  beforeEach(() => {
    nowMs = 1_800_000_000_000;
    deviceId = `device${"abcdefgh"[devices++]}a`;
    told = [];
    isUnderWay = false;
    refusal = undefined;
    const now = () => nowMs;
    const fees = new ServiceFees({
      deviceId,
      table,
      log: createLog("error", () => {}),
      send: () => true,
      soon: () => {},
      now,
    });
    payments = new Payments({
      log: createLog("error", () => {}),
      deviceId,
      network: "regtest",
      table,
      fees,
      limits: () => undefined,
      failed: (_, code) => void told.push(code),
      paid: () => void told.push("paid"),
      start: () => {
        if (refusal) throw lngateError(refusal, "not now");
      },
      underWay: () => isUnderWay,
      now,
    });
  });

  const preimageOf = (name: string) => sha256(ascii(name));
  function ask(
    name: string,
    { expirySeconds = 3600, network = "regtest" as "regtest" | "mainnet" } = {},
  ): void {
    const text = encodeInvoice(
      {
        network,
        amountMsat: 1000,
        timestamp: nowMs / 1000,
        paymentHash: sha256(preimageOf(name)),
        paymentSecret: preimageOf("secret"),
        description: "",
        features: [8, 14],
        expirySeconds,
      },
      preimageOf("payee"),
      nobleCurve,
    );
    payments.asked(packInvoice(text), { maxFeeMsat: 1000 }, 0);
  }
  function pay(name: string, options = {}): void {
    ask(name, options);
    payments.sent(sha256(preimageOf(name)), preimageOf(name), 0);
  }
  const rows = () => [...table.getKeys({ start: `${deviceId}/`, end: `${deviceId}/~` })].length;

  test("goes a month after it was decided, and a session of the device's later", async () => {
    for (let i = 0; i < 250; i++) pay(`paid ${i}`);
    const paidAt = nowMs;
    nowMs += 29 * DAY_MS;
    expect(await payments.prune(nowMs)).toBe(0);
    nowMs += 2 * DAY_MS;
    pay("of today");
    // The device has not been here since: it may not have its receipts.
    expect([await payments.prune(paidAt - 1), rows()]).toEqual([0, 251]);
    expect([await payments.prune(paidAt + 1), rows()]).toEqual([250, 1]);
  });

  test("stays as long as its invoice could be paid once more", async () => {
    pay("for a year", { expirySeconds: 365 * 24 * 3600 });
    nowMs += 300 * DAY_MS;
    expect(await payments.prune(nowMs)).toBe(0);
    nowMs += 66 * DAY_MS;
    expect(await payments.prune(nowMs)).toBe(1);
  });

  test("stays as long as LDK is at it", async () => {
    ask("held");
    nowMs += 40 * DAY_MS;
    isUnderWay = true;
    expect(await payments.prune(nowMs)).toBe(0);
    isUnderWay = false;
    expect(await payments.prune(nowMs)).toBe(1);
  });

  test("is nothing at all where an invoice can never be paid, however often it is asked for", () => {
    for (let i = 0; i < 20; i++) ask(`elsewhere ${i}`, { network: "mainnet" });
    expect([told, rows()]).toEqual([Array(20).fill("invoice-wrong-network"), 0]);
  });

  test("is the latest hundred of those that have failed", async () => {
    refusal = "no-route";
    for (let i = 0; i < KEPT_FAILURES + 20; i++) {
      ask(`failed ${i}`);
      nowMs += 1000;
    }
    expect(rows()).toBe(KEPT_FAILURES + 20);
    expect([await payments.prune(nowMs), rows()]).toEqual([20, KEPT_FAILURES]);
    const has = (name: string) => table.get(`${deviceId}/${toHex(sha256(preimageOf(name)))}`) !== undefined;
    expect([has("failed 19"), has("failed 20")]).toEqual([false, true]);
  });
});

describe("What is kept of used records", () => {
  const sid = new Uint8Array(32);
  const message = (n: number) => sha256(ascii(`message ${n}`));
  const BATCH = 500;

  function usedUp(batches: number): { book: PresignatureJournal; journal: Uint8Array[] } {
    const journal: Uint8Array[] = [];
    const book = new PresignatureJournal(sid, 0, { append: event => void journal.push(event.slice()) });
    for (let i = 0; i < batches; i++) {
      book.activate({
        kind: "A",
        epoch: 0,
        firstId: i * BATCH,
        count: BATCH,
        records: new Uint8Array(BATCH * 64).fill(1),
      });
      for (let n = i * BATCH; n < (i + 1) * BATCH; n++) book.take("A", message(n), () => message(n));
    }
    return { book, journal };
  }
  const stored = (book: PresignatureJournal) =>
    [...book.events()].reduce((sum, event) => sum + event.length, 0);

  test("does not grow with the payments that were made", () => {
    const some = stored(usedUp(6).book);
    const many = stored(usedUp(26).book);
    expect(many).toBeLessThan(1.5 * some);
  });

  test("is what can be asked for again; what is forgotten answers nothing else, also after a restart", () => {
    const { book, journal } = usedUp(10);
    for (const each of [
      book,
      new PresignatureJournal(sid, 0, undefined, journal),
      new PresignatureJournal(sid, 0, undefined, book.events()),
    ]) {
      const last = 10 * BATCH - 1;
      for (const n of [last, last - 900])
        expect(each.take("A", message(n), () => new Uint8Array(32))).toEqual({ id: n, answer: message(n) });
      expect(codeThrownBy(() => each.use("A", 0, message(0), () => message(0)))).toBe("record-unknown");
      expect(codeThrownBy(() => each.use("A", 0, message(-1), () => message(0)))).toBe("record-unknown");
      expect(codeThrownBy(() => each.take("A", message(-1), () => message(0)))).toBe("records-exhausted");
      expect(each.nextId("A")).toBe(10 * BATCH);
    }
    const again = { kind: "A" as const, epoch: 0, firstId: 5, count: 1, records: new Uint8Array(64).fill(1) };
    expect(codeThrownBy(() => book.activate(again))).toBe("record-ids-taken");
  });
});
