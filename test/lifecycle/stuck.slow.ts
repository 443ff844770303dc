/** A device that can't, or will not, sign the next state: it is said plainly, and the money comes home without it. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { readState } from "../../device/channel/state.ts";
import { openDevice } from "../../device/device.ts";
import { askClose, askStatus } from "../../owner/client/channel.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  exitOf,
  payTolls,
  recoverAll,
  type Scene,
  startScene,
  stopScene,
  told,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
const TOLL_MSAT = 1_000_000;
let scene: Scene;

beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

const statusOf = ({ deviceId }: Car) => askStatus({ folder: scene.world.ownerFolder, deviceId });

/** The same device on a board whose memory flips one bit of the next record of kind A. */
function withBitError(car: Car): Car {
  car.device.disconnect();
  const { vault } = car.board;
  const next = readState(vault.journal).books.cursors.A;
  const records: typeof vault.records = {
    ...vault.records,
    read(kind, cursor) {
      const record = vault.records.read(kind, cursor);
      if (kind === "A" && cursor === next) record!.bytes[40]! ^= 4;
      return record;
    },
  };
  const device = openDevice({ ...car.board, vault: { ...vault, records } });
  const stop = () => {
    void device.disconnect();
    void device.disconnect();
    car.stop();
  };
  const broken = { ...car, device, stop };
  scene.cars.push(broken);
  return broken;
}

async function untilClosed(funding: string): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the close", async () => {
    if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
    return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
  });
  await bitcoind.mine(1);
}

describe("one bit of a half signature is wrong, and the device keeps to it", () => {
  async function stuckCar(name: string): Promise<{ car: Car; funding: string; paidSat: number }> {
    const { world } = scene;
    const good = await carOf(scene, name, DEPOSIT_SAT);
    const paidMsat = await payTolls(scene, good, [TOLL_MSAT]);
    await untilAtRest(good);
    await untilSilent(good);
    const car = withBitError(good);
    await car.device.connect();
    const said = world.nextLine(/channel-stuck/);
    car.device.pay(world.toll.invoice(TOLL_MSAT), { maxFeeMsat: 5_000 }).catch(() => {});
    await said;
    const { fundingTxid = "" } = await statusOf(car);
    return { car, funding: fundingTxid, paidSat: paidMsat / 1000 };
  }

  test("it costs its record, further payments are refused by name, and a close brings the bridge's newest state", async () => {
    const { world } = scene;
    const { car, funding, paidSat } = await stuckCar("bit error");
    expect(world.log.filter(line => line.includes("threshold-bad-signature"))).toHaveLength(1);
    expect(await statusOf(car)).toMatchObject({ trouble: "stuck", channel: "ready" });
    // Nothing more is put on top of what can't be signed, before a restart of the gateway and after it.
    const refused = () =>
      expect(car.device.pay(world.toll.invoice(TOLL_MSAT), { maxFeeMsat: 5_000 })).rejects.toMatchObject({
        code: "channel-stuck",
      });
    await refused();
    await world.stopGateway();
    await world.startGateway();
    await waitFor("the device to be back", async () => (await statusOf(car)).online);
    await refused();
    await askClose({ folder: world.ownerFolder, deviceId: car.deviceId });
    await untilClosed(funding);
    await recoverAll(scene);
    const books = await booksOf(scene, car.deviceId, funding);
    expect(told("a half signature with a bit error", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: paidSat, anchorsSat: 660 });
  });

  test("or the owner leaves with the exit, which is whole", async () => {
    const { world } = scene;
    const { car, funding, paidSat } = await stuckCar("bit error exit");
    car.stop();
    await recoverAll(scene, { exits: [exitOf(scene, car.deviceId)] });
    const books = await booksOf(scene, car.deviceId, funding);
    expect(told("the same with the exit", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: paidSat, anchorsSat: 660 });
    expect(world.toll.claimed.filter(({ amountMsat }) => amountMsat === TOLL_MSAT).length).toBeGreaterThan(0);
  });
});
