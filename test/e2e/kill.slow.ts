import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import type { Line, Program } from "../../scripts/program.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { World, waitFor } from "./world.ts";

/** How often each is killed. */
const ROUNDS = Number(process.env["LNGATE_KILL_ROUNDS"] ?? 3);
const TOLL_MSAT = 2_000_000;
/** At least so many go over the link for each payment. */
const MESSAGES = 7;
const FEE_MSAT = 1_000;

describe("gateway and cars are processes that are killed in the middle of a payment", () => {
  let world: World;
  let gateway: Program;
  const cars = new Map<string, Program>();
  let first: string;
  let second: string;

  beforeAll(async () => {
    world = await World.start();
    gateway = await world.runGatewayProgram();
    const policy = { perHourMsat: 1e12, perDayMsat: 1e12 };
    first = await openCar("first", 5 * ROUNDS + 10, policy);
    second = await openCar("second", 10, policy);
  });

  afterAll(async () => {
    await world?.stop();
  });

  async function openCar(name: string, payments: number, policy: object): Promise<string> {
    const deviceId = await world.makeDevice(name, { payments, policy });
    await world.deposit(deviceId, 500_000);
    await world.mineUntil(startCar(deviceId).line(line => line["event"] === "ready"));
    return deviceId;
  }

  function startCar(deviceId: string): Program {
    const car = world.runCarProgram(deviceId);
    cars.set(deviceId, car);
    return car;
  }

  const balanceOf = async (deviceId: string) =>
    Number((await cars.get(deviceId)!.ask("balance"))["balanceSat"]);

  async function atRest(deviceId: string): Promise<void> {
    await waitFor("the car to be at rest", async () => (await cars.get(deviceId)!.ask("traffic"))["atRest"]);
  }

  /** Kills at a random moment of a payment, brings back what was killed, and looks what became of the payment. */
  async function round(kill: () => Promise<void>, bringBack: () => Promise<void>): Promise<void> {
    await atRest(first);
    const before = await balanceOf(first);
    const invoice = world.toll.invoice(TOLL_MSAT);
    const hash = toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
    const at = Math.floor(Math.random() * MESSAGES);
    const delayMs = Math.random() * 20;
    await new Promise<void>(resolve => {
      let messages = 0;
      const end = world.onLink(() => {
        if (messages++ !== at) return;
        end();
        setTimeout(() => void kill().then(resolve), delayMs);
      });
      cars.get(first)!.write(`pay ${invoice}`);
    });
    await bringBack();
    const receipt = await payOn(invoice);
    const context = `killed ${delayMs.toFixed(1)} ms after message ${at}`;
    expect({
      context,
      hash: receipt["hash"],
      amountMsat: receipt["amountMsat"],
      times: world.toll.timesPaid(hash),
    }).toEqual({ context, hash, amountMsat: TOLL_MSAT, times: 1 });
    await atRest(first);
    const again = await cars.get(first)!.ask(`pay ${invoice}`);
    expect(again).toEqual(receipt);
    expect(world.toll.timesPaid(hash)).toBe(1);
    const left = before - (TOLL_MSAT + FEE_MSAT) / 1000;
    await waitFor(`the balance, ${context}`, async () => (await balanceOf(first)) === left);
  }

  /** Asks for the payment (again) until it is decided. What says that nothing was authorised is asked again. */
  async function payOn(invoice: string): Promise<Line> {
    for (;;) {
      const car = cars.get(first)!;
      car.write(`pay ${invoice}`);
      const answer = await car.line(line => line["command"] === "pay");
      const error = answer["error"] as { code: string } | undefined;
      if (!error) return answer;
      expect(["gateway-unreachable", "bridge-unreachable", "payment-pending"]).toContain(error.code);
      await car.line(line => line["event"] === "connected").catch(() => {});
    }
  }

  const killGateway = () => gateway.kill().then(() => {});
  const startGateway = async () => {
    gateway = await world.runGatewayProgram();
  };
  const killCar = () =>
    cars
      .get(first)!
      .kill()
      .then(() => {});
  const restartCar = async () => {
    await startCar(first).line(line => line["event"] === "connected");
  };

  async function expectNoForcedClose(): Promise<void> {
    const report = await askStatus({ folder: world.ownerFolder, deviceId: first });
    expect(report).toMatchObject({ channel: "ready" });
    expect(report.closeTxid).toBeUndefined();
    expect(world.bridge.channels().filter(({ usable }) => usable)).toHaveLength(3);
    expect(world.log.filter(line => line.includes("LDK has closed the channel"))).toEqual([]);
  }

  test("the car is killed", async () => {
    for (let i = 0; i < ROUNDS; i++) await round(killCar, restartCar);
    await expectNoForcedClose();
  });

  test("the gateway is killed", async () => {
    for (let i = 0; i < ROUNDS; i++) {
      await round(killGateway, async () => {
        await startGateway();
        // A connection that is lost again and again is dialled less and less often.
        await killCar();
        await restartCar();
      });
    }
    await expectNoForcedClose();
  });

  test("both are killed at once", async () => {
    for (let i = 0; i < Math.ceil(ROUNDS / 2); i++) {
      await round(
        async () => {
          await Promise.all([killGateway(), killCar()]);
        },
        async () => {
          await startGateway();
          await restartCar();
        },
      );
    }
    await expectNoForcedClose();
  });

  test.each([
    ["the car", true, false],
    ["the gateway", false, true],
    ["both", true, true],
  ])(
    "%s killed while a channel is opened, and again while it is closed",
    async (name, theCar, theGateway) => {
      const deviceId = await world.makeDevice(name, { payments: 2 });
      await world.deposit(deviceId, 100_000);
      await world.bitcoind.mine(1);

      /** Kills at a random message of what `begin` begins. */
      async function disturb(begin: () => void, messages: number): Promise<string> {
        const at = Math.floor(Math.random() * messages);
        await new Promise<void>(resolve => {
          let seen = 0;
          const end = world.onLink(() => {
            if (seen++ !== at) return;
            end();
            const kills = [
              ...(theCar ? [cars.get(deviceId)!.kill()] : []),
              ...(theGateway ? [gateway.kill()] : []),
            ];
            void Promise.all(kills).then(() => resolve());
          });
          begin();
        });
        await cars.get(deviceId)!.kill();
        if (theGateway) await startGateway();
        return `killed at message ${at}`;
      }
      const ready = (car: Program) => car.line(line => line["event"] === "ready");

      const opening = await disturb(() => startCar(deviceId), 9);
      await world.mineUntil(ready(startCar(deviceId))).catch(error => {
        throw new Error(`${opening} of the opening: ${error}`);
      });
      expect(await cars.get(deviceId)!.ask(`pay ${world.toll.invoice(TOLL_MSAT)}`)).toMatchObject({
        feeMsat: FEE_MSAT,
      });
      await atRest(deviceId);
      const closing = await disturb(() => cars.get(deviceId)!.write("close"), 4);
      const car = startCar(deviceId);
      await car.line(line => line["event"] === "connected");
      const { txid } = await world.mineUntil(closedBy(car)).catch(error => {
        throw new Error(`${closing} of the closing: ${error}`);
      });
      const { outputs } = await world.minedTransaction(String(txid));
      expect(outputs.map(({ script }) => script)).toContain(world.closeScript(deviceId));
      expect(outputs.map(({ sat }) => sat)).toContain((TOLL_MSAT + FEE_MSAT) / 1000);
      await car.kill();
    },
  );

  /** Asks for the close; if the channel is closed already, the owner knows by which transaction. */
  async function closedBy(car: Program): Promise<Line> {
    car.write("close");
    const answer = await car.line(line => line["command"] === "close");
    if (!answer["error"]) return answer;
    expect(answer["error"]).toMatchObject({ code: "policy-close-state" });
    const { closeTxid } = await askStatus({ folder: world.ownerFolder, deviceId: deviceOf(car) });
    return { txid: closeTxid };
  }

  const deviceOf = (car: Program) => [...cars].find(([, each]) => each === car)![0];

  test("a car that hangs in the middle of a payment keeps nobody else waiting", async () => {
    // After the gateway's end a car dials less and less often; one that begins again dials at once.
    for (const deviceId of [first, second]) {
      await cars.get(deviceId)!.kill();
      await startCar(deviceId).line(line => line["event"] === "connected");
    }
    await atRest(first);
    const invoice = world.toll.invoice(TOLL_MSAT);
    const hung = new Promise<void>(resolve => {
      const end = world.onLink(({ device, way, type }) => {
        if (device !== "first" || way !== "down" || type !== "step") return;
        end();
        process.kill(cars.get(first)!.pid, "SIGSTOP");
        resolve();
      });
    });
    cars.get(first)!.write(`pay ${invoice}`);
    await hung;
    for (let i = 0; i < 3; i++) {
      expect(await cars.get(second)!.ask(`pay ${world.toll.invoice(TOLL_MSAT)}`)).toMatchObject({
        amountMsat: TOLL_MSAT,
      });
    }
    const { paymentHash } = decodeInvoice(invoice, nobleCurve);
    expect(world.toll.timesPaid(toHex(paymentHash))).toBe(0);
    process.kill(cars.get(first)!.pid, "SIGCONT");
    const receipt = await cars.get(first)!.line(line => line["command"] === "pay");
    expect(receipt).toMatchObject({ hash: toHex(paymentHash), amountMsat: TOLL_MSAT });
  });
});
