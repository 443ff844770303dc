import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type { Database } from "lmdb";
import { openStore } from "../../gateway/store/registry.ts";
import { askStatus } from "../../owner/client/channel.ts";
import type { Line, Program } from "../../scripts/program.ts";
import { World, waitFor } from "../e2e/world.ts";

const TOLL_MSAT = 1_000_000;

describe("What is wrong with one device keeps that one alone from being served", () => {
  let world: World;
  let gateway: Program;
  let sick: string;
  let well: string;
  const cars = new Map<string, Program>();

  beforeAll(async () => {
    world = await World.start();
    gateway = await world.runGatewayProgram();
    for (const name of ["sick", "well"]) {
      const deviceId = await world.makeDevice(name, {
        payments: 20,
        policy: { perHourMsat: 1e12, perDayMsat: 1e12 },
      });
      if (name === "sick") sick = deviceId;
      else well = deviceId;
      await world.deposit(deviceId, 500_000);
      const car = world.runCarProgram(deviceId);
      cars.set(deviceId, car);
      await world.mineUntil(car.line(line => line["event"] === "ready"));
    }
    // A block has a whole monitor stored, a payment what it has changed.
    for (let i = 0; i < 2; i++) for (const deviceId of [sick, well]) await pay(deviceId);
    expect(await stop()).toBe(0);
  });

  afterAll(async () => {
    await world?.stop();
  });

  let logged: number;
  beforeEach(() => {
    logged = world.log.length;
  });

  /** Pays once, as soon as the car has found the gateway and the gateway the bridge. */
  async function pay(deviceId: string): Promise<void> {
    const invoice = world.toll.invoice(TOLL_MSAT);
    const car = cars.get(deviceId)!;
    let answer: Line | undefined;
    await waitFor(`a payment of ${deviceId}`, async () => {
      car.write(`pay ${invoice}`);
      answer = await car.line(line => line["command"] === "pay");
      const error = answer["error"] as { code: string } | undefined;
      if (error) expect(["gateway-unreachable", "bridge-unreachable"]).toContain(error.code);
      return !error;
    });
    expect(world.toll.timesPaid(String(answer!["hash"]))).toBe(1);
  }

  function stop(): Promise<number | null> {
    return gateway.kill("SIGTERM");
  }

  /** Changes the store of a gateway that does not run; returns what undoes it. */
  async function changed(
    table: string,
    change: (rows: Database<Uint8Array, string>) => [key: string, value: Uint8Array | undefined],
  ): Promise<() => Promise<void>> {
    const withTable = async <T>(work: (rows: Database<Uint8Array, string>) => T) => {
      const store = openStore(world.config.dataDir);
      try {
        return work(store.openDB<Uint8Array, string>({ name: table, encoding: "binary" }));
      } finally {
        await store.close();
      }
    };
    const [key, before] = await withTable(rows => {
      const [key, value] = change(rows);
      const before = new Uint8Array(rows.get(key)!);
      if (value) rows.putSync(key, value);
      else rows.removeSync(key);
      return [key, before];
    });
    return () => withTable(rows => void rows.putSync(key, before));
  }

  const journal = () => join(world.config.dataDir, "records", sick);
  /** Does something to the journal of the sick device's records; returns what undoes it. */
  async function journalChanged(change: (file: string) => void): Promise<() => Promise<void>> {
    const whole = readFileSync(journal());
    change(journal());
    return async () => writeFileSync(journal(), whole);
  }

  const faults: [what: string, named: () => RegExp, make: () => Promise<() => Promise<void>>][] = [
    [
      // As two gateways on one folder leave it.
      "a monitor at which LDK panics, for all",
      () => /LDK breaks at the state that is stored of it/,
      () =>
        changed("lightning", rows => {
          const updates = [...rows.getKeys({ start: `${sick}/update/`, end: `${sick}/update/~` })];
          expect(updates.length).toBeGreaterThan(2);
          return [updates[0]!, undefined];
        }),
    ],
    [
      "an empty journal of its records",
      () => new RegExp(`journal of its records is damaged \\(${journal()}\\)`),
      () => journalChanged(file => writeFileSync(file, "")),
    ],
    [
      "a damaged journal of its records",
      () => new RegExp(`journal of its records is damaged \\(${journal()}\\)`),
      () =>
        journalChanged(file => {
          const bytes = readFileSync(file);
          bytes[bytes.length >> 1]! ^= 1;
          writeFileSync(file, bytes);
        }),
    ],
    [
      "a journal of its records that is gone",
      () => new RegExp(`journal of its records is gone \\(${journal()}\\)`),
      () => journalChanged(file => renameSync(file, `${file}.aside`)),
    ],
    [
      "a row in the registry that can't be read",
      () => new RegExp(`what is stored of the device ${sick} can't be read`),
      () => changed("devices", rows => [sick, new Uint8Array(rows.get(sick)!).slice(0, 50)]),
    ],
    [
      "a row of its channel that can't be read",
      () => /is not served, the others are: /,
      () => changed("channels", rows => [sick, new Uint8Array(rows.get(sick)!).slice(0, 50)]),
    ],
    [
      "a monitor of its channel that LDK does not read",
      () => /a channel's monitor in the store can't be read/,
      () =>
        changed("lightning", rows => {
          const [key] = [...rows.getKeys({ start: `${sick}/monitor/`, end: `${sick}/monitor/~` })];
          return [key!, new Uint8Array(rows.get(key!)!).slice(0, 200)];
        }),
    ],
  ];

  let undo: (() => Promise<void>) | undefined;
  afterEach(async () => {
    await stop();
    await undo?.();
    undo = undefined;
  });

  test.each(faults)("%s", async (_, named, make) => {
    undo = await make();
    gateway = await world.runGatewayProgram();
    await pay(well);
    const said = world.log.slice(logged).filter(line => / error /.test(line));
    const line = said.find(each => each.includes("is not served, the others are"));
    expect(line).toMatch(named());
    expect(line).toContain(sick);
    expect(line).toContain(world.config.dataDir);
    expect(line).toContain("lngate device exit");
    expect(said.filter(each => each.includes(well))).toEqual([]);
    // Where its keys can be read, its owner is told as well.
    if (named().source.startsWith("what is stored")) return;
    await expect(askStatus({ folder: world.ownerFolder, deviceId: sick })).rejects.toMatchObject({
      code: "device-not-served",
    });
  });

  test("and is served again as soon as that is mended", async () => {
    gateway = await world.runGatewayProgram();
    await pay(sick);
    await pay(well);
  });
});
