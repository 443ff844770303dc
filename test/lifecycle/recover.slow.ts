/** `lngate owner recover` as a program: gateway, bridge and device are gone, what is left are the words and a file. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Line, Program } from "../../scripts/program.ts";
import { EsploraServer } from "./esplora.ts";
import {
  carOf,
  homeScript,
  Ledger,
  payTolls,
  type Scene,
  startScene,
  stopScene,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 250_000;
const UNUSED_SAT = 70_000;
const DELAY = 144;

interface Plan extends Line {
  readonly exits: readonly { readonly action: string; readonly feeSat: number; readonly txid: string }[];
  readonly collections: readonly {
    readonly inSat: number;
    readonly feeSat: number;
    readonly what: string[];
  }[];
  readonly waiting: readonly { readonly valueSat: number; readonly atHeight: number | null }[];
  readonly home: readonly { readonly sat: number; readonly coin: string }[];
  readonly published: readonly string[];
  readonly remarks: readonly string[];
  readonly finished: boolean;
}

describe("nothing is left but the words and the exit", () => {
  let scene: Scene;
  let ledger: Ledger;
  let esplora: EsploraServer;
  let safe: string;
  let exitFile: string;
  let home: string;
  let paidMsat = 0;
  let inFolder = "";

  async function lngate(...args: string[]): Promise<Line> {
    return new Program(args.slice(0, 2).join(" "), ["dist/lngate.mjs", ...args, "--json"]).result();
  }

  async function recover(...args: string[]): Promise<Plan> {
    const program = new Program("recover", [
      "dist/lngate.mjs",
      "owner",
      "recover",
      "--data",
      join(safe, "none"),
      ...args,
      "--json",
    ]);
    program.write(scene.words);
    return (await program.result()) as Plan;
  }
  const atEsplora = (...args: string[]) => recover("--esplora", esplora.url, ...args);
  const atBitcoind = (...args: string[]) => {
    const { url, cookieFile = "" } = scene.world.bitcoind.rpcOptions;
    return recover("--bitcoind", url, "--cookie", cookieFile, "--feerate", "2", ...args);
  };

  beforeAll(async () => {
    safe = mkdtempSync(join(tmpdir(), "lngate-safe-"));
    exitFile = join(safe, "exit.json");
    scene = await startScene();
    const { world } = scene;
    ledger = new Ledger(world);
    const car = await carOf(scene, "car", DEPOSIT_SAT);
    paidMsat = await payTolls(scene, car, [2_000_000, 500_000]);
    await untilSilent(car);
    // A second deposit, which no channel uses: one is open already.
    await world.deposit(car.deviceId, UNUSED_SAT);
    await world.bitcoind.mine(1);
    home = homeScript(scene, car.deviceId);
    inFolder = world.folderOf(car.deviceId);
    const owner = ["--data", world.ownerFolder, "--device", car.deviceId];
    const watched = await lngate("owner", "watch", ...owner);
    expect(watched).toMatchObject({ valid: true, final: false, delayBlocks: DELAY, anchor: true });
    car.stop();
    const taken = await lngate("device", "exit", ...owner, "--out", exitFile);
    expect(taken["state"]).toBe(watched["state"]);
    // Read again, it is the same; and the device signs nothing any more.
    expect(await lngate("device", "exit", ...owner, "--out", exitFile)).toEqual(taken);
    const again = await world.startCar(car.deviceId);
    expect(again.device.balance()).toMatchObject({ phase: "exited" });
    again.stop();

    await world.stopGateway();
    await world.bridge.stop();
    for (const folder of ["owner", "gateway", "bridge"])
      rmSync(join(world.folder, folder), { recursive: true, force: true });
    expect(existsSync(inFolder)).toBe(false);
    esplora = await EsploraServer.start(world.bitcoind);
  });

  afterAll(async () => {
    await esplora?.stop();
    await stopScene(scene);
    rmSync(safe, { recursive: true, force: true });
  });

  test("it shows first what it would do, also to a busy server's owner, and without a yes it does nothing", async () => {
    esplora.busyFor = 3;
    const plan = await atEsplora("--exit", exitFile);
    expect(plan.exits).toMatchObject([{ action: "publish" }]);
    expect(plan.published).toEqual([]);
    expect(plan.waiting.map(({ valueSat }) => valueSat)).toContain(UNUSED_SAT);
    expect(await scene.world.bitcoind.rpc("getrawmempool")).toEqual([]);
  });

  test("from the words alone it says what it can't find", async () => {
    const plan = await atBitcoind();
    expect(plan.exits).toEqual([]);
    expect(plan.remarks.join()).toMatch(/deposits: not looked for.*exits: none was given.*channel\.json/);
  });

  test("exit and deposit come home over an Esplora server, counted to the satoshi", async () => {
    const { bitcoind } = scene.world;
    const first = await atEsplora("--exit", exitFile, "--yes");
    expect(first.published).toEqual([first.exits[0]!.txid]);
    const waiting = await atEsplora("--exit", exitFile, "--yes");
    expect(waiting).toMatchObject({ exits: [{ action: "wait" }], published: [], finished: false });
    await bitcoind.mine(1);
    const locked = await atBitcoind("--exit", exitFile, "--yes");
    expect(locked).toMatchObject({ exits: [{ action: "done" }], published: [], finished: false });
    const height = await bitcoind.rpc<number>("getblockcount");
    const { atHeight } = locked.waiting.find(({ valueSat }) => valueSat !== UNUSED_SAT)!;
    expect(atHeight).toBe(height + DELAY);

    await bitcoind.mine(DELAY - 1);
    const swept = await atEsplora("--exit", exitFile, "--yes");
    expect(swept.collections).toHaveLength(1);
    // The deposit is free after its own, longer delay.
    await bitcoind.mine(1);
    const late = swept.waiting.find(({ valueSat }) => valueSat === UNUSED_SAT)!;
    await bitcoind.mine(late.atHeight! - (await bitcoind.rpc<number>("getblockcount")) - 1);
    const last = await atEsplora("--exit", exitFile, "--yes");
    expect(last.collections[0]).toMatchObject({ inSat: UNUSED_SAT });
    await bitcoind.mine(1);
    const done = await atEsplora("--exit", exitFile);
    expect(done).toMatchObject({ finished: true, collections: [], waiting: [] });

    const commitment = first.exits[0]!.txid;
    const funding = (await ledger.transaction(commitment)).vin[0]!.txid;
    const [fundingFee, exitFee, sweepFee, depositFee] = [
      await ledger.feeOf(funding),
      await ledger.feeOf(commitment),
      await ledger.feeOf(swept.published[0]!),
      await ledger.feeOf(last.published[0]!),
    ];
    const fees = fundingFee + exitFee + sweepFee + depositFee;
    const bridgeSat = Math.floor(paidMsat / 1000);
    expect(await ledger.unspentSat([home])).toBe(DEPOSIT_SAT + UNUSED_SAT - bridgeSat - 660 - fees);
    expect(done.home.reduce((sum, { sat }) => sum + sat, 0)).toBe(await ledger.unspentSat([home]));
    expect(esplora.requests.length).toBeGreaterThan(0);
  });

  test("a changed file, other words and another network are refused in a sentence", async () => {
    await expect(atEsplora("--exit", "README.md")).rejects.toThrow("exit-damaged");
    await expect(recover("--esplora", `${esplora.url}/nothing`)).rejects.toThrow("wrong-network");
    await expect(atEsplora("--exit", exitFile, "--network", "mainnet")).rejects.toThrow(
      /wrong-network: .*exit\.json is of regtest, and this is mainnet/,
    );
    await expect(recover("--esplora", "http://127.0.0.1:1")).rejects.toThrow("chain-unreachable");
  });
});
