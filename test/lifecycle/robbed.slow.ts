/**
 * A thief has the flash of a device, and a program of his own: his commitment points follow from nothing that the owner has, and after he
 * has published an exit he goes on. Gateway, bridge and owner are honest: what the exits pay the owner finds with the words and
 * with what the gateway tells when the device is frozen.
 */
import { copyFileSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { commitmentSecrets, contextOf } from "../../device/board-context.ts";
import { type NodeBoard, openNodeBoard } from "../../device/boards/node/board.ts";
import { type Exit, exitOf } from "../../device/channel/exiting.ts";
import { readState } from "../../device/channel/state.ts";
import { openDevice } from "../../device/device.ts";
import { derivedKeys } from "../../device/keys/derived.ts";
import { askFreeze, askStatus } from "../../owner/client/channel.ts";
import { readHeldChannels } from "../../owner/folder/device-files.ts";
import { CHANNEL_FILE } from "../../owner/folder/folder.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { untilAtRest, waitFor } from "../e2e/world.ts";
import { look, type Scene, startScene, stopScene } from "./scene.ts";

const DEPOSIT_SAT = 400_000;
/** States whose points the gateway has already, and some to spare. */
const AHEAD = 8;
const OWN_POINT = nobleCurve.publicKey(new Uint8Array(32).fill(77));

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

type PreparedKeys = Pick<ReturnType<typeof derivedKeys>, "keysFor" | "pointOf">;

/** A copy of the flash of a device with an open channel, which does not run any more. */
async function stolen(name: string): Promise<{ deviceId: string; board: NodeBoard; honest: PreparedKeys }> {
  const { world } = scene;
  const car = await world.makeCar(name, DEPOSIT_SAT, { payments: 40 });
  const { deviceId } = car;
  await untilAtRest(car);
  car.stop();
  const folder = mkdtempSync(join(world.folder, "thief-"));
  copyFileSync(join(world.folderOf(deviceId), "flash.bin"), join(folder, "flash.bin"));
  const board = openNodeBoard(folder);
  const honest = derivedKeys(board.vault.identity, board.curve, contextOf(board).secretOf);
  return { deviceId, board, honest };
}

/** The thief's program: it names these points. */
function programOf(board: NodeBoard, preparedKeys: PreparedKeys) {
  const device = openDevice(Object.create(board, { preparedKeys: { value: preparedKeys } }));
  const newestExit = (): Exit => {
    const state = readState(board.vault.journal);
    const { identity } = board.vault;
    return exitOf(state, { ...preparedKeys, identity }, state.books.index);
  };
  const stateNumber = () => readState(board.vault.journal).holder!.number;
  return {
    device,
    stateNumber,
    async payUntilState(number: number) {
      while (stateNumber() < number) {
        await device.pay(scene.world.toll.invoice(1_000_000), { maxFeeMsat: 3_000 });
        await device.settled();
      }
    },
    exit: newestExit,
    /** Publishes an exit, the newest unless another is named; what it pays the owner, and after how many blocks. */
    async publish(exit = newestExit()) {
      await scene.world.bitcoind.rpc("sendrawtransaction", [toHex(exit.commitment)]);
      await scene.world.bitcoind.mine(6);
      return { sat: exit.view.holderSat, delay: exit.proposal.holderDelay };
    },
  };
}

/** The owner does what docs/recovery.md says: freezes, waits for the delay, and recovers. What is found of the device, in sat. */
async function foundSat(deviceId: string, delay: number): Promise<number[]> {
  const { world } = scene;
  await askFreeze({ folder: world.ownerFolder, deviceId });
  const channels = readHeldChannels(join(world.folderOf(deviceId), CHANNEL_FILE))!;
  await world.bitcoind.mine(delay + 5);
  const { collections } = await look(scene, { channels });
  return collections
    .filter(({ what }) => what.some(each => each.includes(deviceId)))
    .map(({ inSat }) => inSat);
}

test.each([
  ["his own", true],
  ["the device's", false],
])("an exit with a point that is %s is found", async (_, isOwn) => {
  const { deviceId, board, honest } = await stolen(isOwn ? "own point" : "its point");
  const first = readState(board.vault.journal).holder!.number + AHEAD;
  const program = programOf(board, {
    keysFor: honest.keysFor,
    pointOf: (index, number) => (isOwn && number >= first ? OWN_POINT : honest.pointOf(index, number)),
  });
  await program.device.connect();
  await program.payUntilState(first);
  expect(program.stateNumber()).toBe(first);
  await program.device.disconnect();
  const { sat, delay } = await program.publish();
  board.close();
  expect(sat).toBeGreaterThan(350_000);
  expect(await foundSat(deviceId, delay)).toEqual([sat]);
});

test("an exit is found when he has opened another channel, with another seed, and published its exit, and the gateway has restarted", async () => {
  const { world } = scene;
  const { deviceId, board, honest } = await stolen("another channel");
  const owner = { folder: world.ownerFolder, deviceId };
  const others = derivedKeys(
    board.vault.identity,
    board.curve,
    commitmentSecrets(new Uint8Array(32).fill(5)),
  );
  const program = programOf(board, {
    keysFor: honest.keysFor,
    pointOf: (index, number) => (index === 1 ? honest : others).pointOf(index, number),
  });
  const { device } = program;
  await device.connect();
  const first = await program.publish();
  await waitFor("the gateway to see the close", async () => (await askStatus(owner)).channel === "closed");
  await world.deposit(deviceId, 60_000);
  await world.bitcoind.mine(6);
  await waitFor("the device to know", () => device.balance().phase === "none");
  await world.mineUntil(device.openChannel());
  const second = await program.publish();
  await waitFor("the gateway to see the close", async () => (await askStatus(owner)).channel === "closed");
  await device.disconnect();
  board.close();
  await world.stopGateway();
  await world.startGateway();

  const found = await foundSat(deviceId, Math.max(first.delay, second.delay));
  expect(first.sat).toBeGreaterThan(350_000);
  expect(second.sat).toBeGreaterThan(50_000);
  expect(found).toEqual([first.sat + second.sat]);
});

test("one that is revoked is found where the bridge stays away for as long as it is locked", async () => {
  const { world } = scene;
  const { deviceId, board, honest } = await stolen("bridge away");
  const program = programOf(board, honest);
  const early = program.exit();
  await program.device.connect();
  // So far back that nobody looks for its state of his own accord.
  await program.payUntilState(early.number + 6);
  await program.device.disconnect();
  board.close();
  await world.bridge.stop();
  const { sat, delay } = await program.publish(early);
  const owner = { folder: world.ownerFolder, deviceId };
  await waitFor("the gateway to see the close", async () => (await askStatus(owner)).channel === "closed");
  expect(await foundSat(deviceId, delay)).toEqual([sat]);
});
