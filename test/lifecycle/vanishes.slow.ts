/** The shortest way home: the gateway has vanished, and the owner leaves alone. Longer ways: alone.slow.ts. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { lookAtExit } from "../../owner/watch.ts";
import {
  carOf,
  exitOf,
  homeScript,
  Ledger,
  look,
  payTolls,
  recoverAll,
  type Scene,
  sealed,
  startScene,
  stopScene,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 300_000;
let scene: Scene;
let ledger: Ledger;

beforeAll(async () => {
  scene = await startScene();
  ledger = new Ledger(scene.world);
});
afterAll(() => stopScene(scene));

describe("the gateway vanishes", () => {
  test("the newest state brings everything home, to the satoshi", async () => {
    const { world } = scene;
    const car = await carOf(scene, "vanished", DEPOSIT_SAT);
    const { deviceId } = car;
    const paidMsat = await payTolls(scene, car, [1_500_000, 354_000, 20_000]);
    await untilSilent(car);
    // A copy that is looked at while the device works is good for nothing else.
    const copy = sealed(scene.words, lookAtExit(world.folderOf(deviceId)), false);
    expect(copy).toMatchObject({ final: false });
    await expect(look(scene, { exits: [copy] })).rejects.toMatchObject({ code: "exit-not-newest" });
    car.stop();
    await world.stopGateway();

    const exit = exitOf(scene, deviceId);
    const txids = await recoverAll(scene, { exits: [exit] });
    expect(txids).toHaveLength(2);
    const [commitment, sweep] = txids as [string, string];
    const funding = (await ledger.transaction(commitment)).vin[0]!.txid;
    const fees = [funding, commitment, sweep].map(txid => ledger.feeOf(txid));
    const [fundingFee, exitFee, sweepFee] = (await Promise.all(fees)) as [number, number, number];
    const home = await ledger.unspentSat([homeScript(scene, deviceId)]);
    const bridgeSat = Math.floor(paidMsat / 1000);
    const anchorsSat = 660;
    process.stdout.write(
      `vanished: ${DEPOSIT_SAT} = ${home} home + ${bridgeSat} paid + ${fundingFee} funding fee + ${exitFee} exit fee + ${anchorsSat} anchors + ${sweepFee} sweep fee\n`,
    );
    expect(home).toBe(DEPOSIT_SAT - bridgeSat - fundingFee - exitFee - anchorsSat - sweepFee);
    expect(copy.number).toBe(exit.number);
    await world.startGateway();
  });
});
