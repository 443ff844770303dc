/**
 * Gateway and bridge are one party: the bridge publishes a state that it had revoked, and the gateway is gone for good. The
 * owner has the words and a copy of the exit, or the device's folder.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { FLASH_FILE } from "../../owner/folder/folder.ts";
import { type Line, Program } from "../../scripts/program.ts";
import { type Car, waitFor } from "../e2e/world.ts";
import { EsploraServer } from "./esplora.ts";
import {
  booksOf,
  carOf,
  cheatFrom,
  payTolls,
  recoverAll,
  type Scene,
  startScene,
  stopScene,
  told,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
let scene: Scene;
let esplora: EsploraServer;
let safe: string;

beforeAll(async () => {
  scene = await startScene();
  esplora = await EsploraServer.start(scene.world.bitcoind);
  safe = mkdtempSync(join(tmpdir(), "lngate-safe-"));
});
afterAll(async () => {
  await esplora?.stop();
  await stopScene(scene);
  rmSync(safe, { recursive: true, force: true });
});

function program(...args: string[]): Program {
  return new Program(args.slice(0, 2).join(" "), ["dist/lngate.mjs", ...args, "--json"]);
}

/** Where a chain is, for the command line. */
function chains(): { readonly [name: string]: string[] } {
  const { url, cookieFile = "" } = scene.world.bitcoind.rpcOptions;
  return {
    bitcoind: ["--bitcoind", url, "--cookie", cookieFile, "--feerate", "2"],
    Esplora: ["--esplora", esplora.url],
  };
}

interface Opened {
  readonly car: Car;
  readonly deviceId: string;
  readonly funding: string;
}

async function opened(name: string): Promise<Opened> {
  const car = await carOf(scene, name, DEPOSIT_SAT);
  const { deviceId } = car;
  const { fundingTxid = "" } = await askStatus({ folder: scene.world.ownerFolder, deviceId });
  return { car, deviceId, funding: fundingTxid };
}

/** The bridge's folder as it is now. */
function bridgeNow(name: string): string {
  const copy = join(scene.world.folder, `bridge.${name}`);
  cpSync(join(scene.world.folder, "bridge"), copy, { recursive: true });
  return copy;
}

const inMempool = () => scene.world.bitcoind.rpc<string[]>("getrawmempool");

describe("the gateway is gone for good, and the bridge publishes a revoked state", () => {
  test.each(["bitcoind", "Esplora"])(
    "the device is lost: the words and a copy of its exit take everything, by %s, to the satoshi",
    async by => {
      const { world, words } = scene;
      const chain = chains()[by]!;
      const { car, deviceId, funding } = await opened(`lost ${by}`);
      const early = await payTolls(scene, car, [1_000_000]);
      await untilSilent(car);
      const old = bridgeNow(by);
      await payTolls(scene, car, [2_000_000, 3_000_000]);
      await untilSilent(car);
      const copy = join(safe, `${by}.copy.json`);
      const seen = await program(
        ...["owner", "watch", "--data", world.ownerFolder, "--device", deviceId, "--copy", copy],
      ).result();
      expect(seen).toMatchObject({ valid: true, final: false, punishable: expect.any(Number) });
      await world.stopGateway();
      car.stop();
      rmSync(join(world.folderOf(deviceId), FLASH_FILE));

      const recover = async (...more: string[]) => {
        const data = ["--data", join(safe, "none"), "--network", "regtest"];
        const asked = program("owner", "recover", ...data, ...chain, "--exit", copy, ...more);
        asked.write(words);
        return (await asked.result()) as Line & { published: string[]; remarks: string[]; finished: boolean };
      };
      await expect(recover("--yes")).rejects.toThrow("exit-not-newest");

      const thief = await cheatFrom(scene, old, funding);
      await waitFor("the cheat", async () => (await inMempool()).length > 0);
      await thief.stop();
      const first = await recover("--yes");
      expect(first.remarks.join()).toMatch(
        /the bridge published its revoked state \d+ .* all of it is yours/,
      );
      expect(first["exits"]).toMatchObject([
        { action: "replaced", revoked: { blocksLeft: expect.any(Number) } },
      ]);
      expect(first.published).toHaveLength(1);
      // What is owed to us in it comes a block later.
      await world.bitcoind.mine(1);
      expect((await recover("--yes")).published).toHaveLength(1);
      await world.bitcoind.mine(1);
      expect(await recover()).toMatchObject({ finished: true, published: [] });

      const books = await booksOf(scene, deviceId, funding);
      expect(told(`colluding, by ${by}`, DEPOSIT_SAT, books)).toBe(0);
      expect(early).toBeGreaterThan(0);
      expect(books.bridgeSat).toBe(0);
      await world.startGateway();
    },
  );

  test("with a payment in it, which the device remembers: owner watch takes it too, from the device's folder", async () => {
    const { world } = scene;
    const { car, deviceId, funding } = await opened("watched");
    const watching = program(
      ...["owner", "watch", "--data", world.ownerFolder, "--device", deviceId],
      ...[...chains()["bitcoind"]!, "--every", "1", "--yes"],
    );
    try {
      await watching.line(line => line["open"] === true);
      await payTolls(scene, car, [1_000_000]);
      // The state with the payment in it is the one that is published; the watch began before it was revoked.
      const held = world.toll.hold();
      const paying = car.device.pay(world.toll.invoice(4_000_000), { maxFeeMsat: 5_000 });
      await Promise.race([held, paying]);
      await untilSilent(car);
      const old = bridgeNow("held");
      world.toll.claimHeld();
      await paying;
      await payTolls(scene, car, [2_000_000]);
      await untilSilent(car);
      await world.stopGateway();
      car.stop();

      const thief = await cheatFrom(scene, old, funding);
      const cheat = await watching.line(line => line["revoked"] !== undefined);
      expect(cheat["revoked"]).toMatchObject({ blocksLeft: expect.any(Number) });
      const { published } = await watching.line(line => line["published"] !== undefined);
      // Its own part, and the payment in a transaction of its own; all of it while the cheat waits for a block.
      expect(published).toHaveLength(2);
      expect(await inMempool()).toEqual(expect.arrayContaining(published as string[]));
      await thief.stop();
      await world.bitcoind.mine(1);
    } finally {
      await watching.kill();
    }
    await recoverAll(scene);
    const books = await booksOf(scene, deviceId, funding);
    expect(told("colluding, watched", DEPOSIT_SAT, books)).toBe(0);
    expect(books.bridgeSat).toBe(0);
    await world.startGateway();
  });

  test("on another computer, owner watch with a copy asks first, and ends when all is done", async () => {
    const { world, words } = scene;
    const { car, deviceId, funding } = await opened("elsewhere");
    await payTolls(scene, car, [1_500_000]);
    await untilSilent(car);
    const old = bridgeNow("elsewhere");
    await payTolls(scene, car, [2_500_000]);
    await untilSilent(car);
    const copy = join(safe, "elsewhere.json");
    const owner = ["--data", world.ownerFolder, "--device", deviceId];
    await program("owner", "watch", ...owner, "--copy", copy).result();
    await world.stopGateway();
    car.stop();
    const elsewhere = join(safe, "owner");
    const init = program("owner", "init", "--data", elsewhere, "--network", "regtest", "--restore");
    init.write(words);
    await init.result();

    const args = ["owner", "watch", "--data", elsewhere, "--exit", copy, ...chains()["Esplora"]!];
    expect(await program(...args, "--once").result()).toMatchObject({ ended: true, over: false });
    const thief = await cheatFrom(scene, old, funding);
    await waitFor("the cheat", async () => (await inMempool()).length > 0);
    await thief.stop();
    // Nobody says yes: nothing is published.
    expect(await program(...args, "--every", "1").result()).toMatchObject({ ended: true, published: [] });
    expect(await inMempool()).toHaveLength(1);
    const watching = program(...args, "--every", "1");
    watching.write("yes");
    await watching.line(line => Array.isArray(line["published"]) && line["published"].length === 1);
    await world.bitcoind.mine(6);
    expect(await watching.result()).toMatchObject({ ended: true, over: true });
    await recoverAll(scene);
    const books = await booksOf(scene, deviceId, funding);
    expect(told("colluding, watched elsewhere", DEPOSIT_SAT, books)).toBe(0);
    expect(books.bridgeSat).toBe(0);
    await world.startGateway();
  });
});
