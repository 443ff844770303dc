import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { runGateway } from "../../gateway/gateway.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { MAX_MESSAGE_BYTES, type ToDevice, toDevice, toGateway } from "../../src/messages/device.ts";
import { type OpenLink, openLink } from "../../src/node/link.ts";
import { type Frame, HostileBroker } from "./hostile-broker.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const TOLL_MSAT = 1_000_000;

describe("a live link in the hands of a hostile broker", () => {
  let broker: HostileBroker;
  let world: World;
  let car: Car;

  beforeAll(async () => {
    broker = await HostileBroker.start();
    world = await World.start({ brokerPort: broker.port });
    await world.startGateway();
    const policy = { perHourMsat: 1e12, perDayMsat: 1e12 };
    car = await world.makeCar("car", 500_000, { payments: 40, policy });
  });

  afterAll(async () => {
    broker?.behave();
    car?.stop();
    await world?.stop();
    await broker?.close();
  });

  beforeEach(() => broker.behave());

  /** Two payments while the broker does its worst; both arrive, once. */
  async function expectPayments(): Promise<void> {
    for (let i = 0; i < 2; i++) {
      await untilAtRest(car);
      const { balanceSat } = car.device.balance();
      const receipt = await car.device.pay(world.toll.invoice(TOLL_MSAT));
      expect(world.toll.timesPaid(receipt.hash)).toBe(1);
      const left = balanceSat - (TOLL_MSAT + 1000) / 1000;
      await waitFor("the balance", () => car.device.balance().balanceSat === left);
    }
  }

  const flipped = ({ topic, payload }: Frame): Frame => {
    const bytes = payload.slice();
    bytes[Math.floor(Math.random() * bytes.length)]! ^= 1 << Math.floor(Math.random() * 8);
    return { topic, payload: bytes };
  };

  test("that delivers every message three times", async () => {
    broker.mischief = frame => [frame, frame, frame];
    await expectPayments();
  });

  test("that delivers with every message one it has recorded before, from this session or another", async () => {
    await world.stopGateway();
    await world.startGateway();
    car.stop();
    car = await world.startCar(car.deviceId);
    broker.mischief = frame => [
      broker.recorded[Math.floor(Math.random() * broker.recorded.length)]!,
      frame,
      broker.recorded[Math.floor(Math.random() * broker.recorded.length)]!,
    ];
    await expectPayments();
  });

  test("that turns messages round, to whom sent them", async () => {
    broker.mischief = frame => {
      const [from, to] = frame.topic.endsWith("/up") ? ["/up", "/down"] : ["/down", "/up"];
      return [{ ...frame, topic: frame.topic.replace(from, to) }, frame];
    };
    await expectPayments();
  });

  test("that changes a bit in a copy of every message, and cuts another one off", async () => {
    broker.mischief = frame => [
      flipped(frame),
      { ...frame, payload: frame.payload.subarray(0, frame.payload.length - 1) },
      frame,
    ];
    await expectPayments();
  });

  test("that delivers messages in the wrong order", async () => {
    let kept: Frame | undefined;
    let swapped = 0;
    broker.mischief = frame => {
      // Two of the same direction change places, where there are two; the link sends again what that costs.
      if (kept && kept.topic === frame.topic && swapped < 2) {
        const both = [frame, kept];
        kept = undefined;
        swapped++;
        return both;
      }
      const before = kept ? [kept] : [];
      kept = swapped < 2 ? frame : undefined;
      return kept ? before : [...before, frame];
    };
    await expectPayments();
    expect(swapped).toBe(2);
  });

  test("that loses messages", async () => {
    let seen = 0;
    broker.mischief = frame => (++seen === 2 || seen === 5 ? [] : [frame]);
    await expectPayments();
  });

  test("that invents messages: nothing, noise, hints, and more than anybody may say", async () => {
    broker.mischief = frame => [
      { ...frame, payload: new Uint8Array(0) },
      { ...frame, payload: new Uint8Array(randomBytes(60)) },
      { ...frame, payload: new Uint8Array([0x15, ...randomBytes(4)]) },
      { ...frame, payload: new Uint8Array([0x13, ...randomBytes(20_000)]) },
      frame,
    ];
    await expectPayments();
  });

  test("none of it has closed the channel or cost a signature for nothing", async () => {
    await untilAtRest(car);
    expect(world.bridge.channels().filter(({ usable }) => usable)).toHaveLength(2);
    expect(world.log.filter(line => / error car/.test(line))).toEqual([]);
  });
});

describe("what a gateway is told that makes no sense", () => {
  let world: World;
  let car: Car;
  const links: OpenLink[] = [];

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    car = await world.makeCar("car", 200_000, { payments: 10 });
  });

  afterAll(async () => {
    for (const link of links) link.close();
    car?.stop();
    await world?.stop();
  });

  test("a second gateway on the same data folder is refused, and the first goes on", async () => {
    await expect(runGateway(world.config)).rejects.toMatchObject({ code: "gateway-in-use" });
    await car.device.pay(world.toll.invoice(TOLL_MSAT));
  });

  test("a device that nobody has paired is not let in, and is told so", async () => {
    const stranger = openLink({
      url: `mqtt://127.0.0.1:${world.wire.port}`,
      identity: "aaaaaaaa",
      password: "guess",
      linkKey: new Uint8Array(32),
      maxMessageBytes: MAX_MESSAGE_BYTES,
      onMessage: () => {},
      onState: (_, reason) => reasons.push(reason),
    });
    const reasons: string[] = [];
    await waitFor("the refusal", () => reasons.length > 0);
    stranger.close();
    expect(reasons[0]).toMatch(/not authorized/i);
    expect(world.log.some(line => /refused code=broker-login subject=aaaaaaaa/.test(line))).toBe(true);
  });

  /** A link of a device's whose program is another than ours. */
  async function speakAs(device: string): Promise<{ link: OpenLink; answers: ToDevice[] }> {
    const board = openNodeBoard(world.folderOf(device));
    const { brokerUrl, deviceId, brokerPassword, linkKey } = board.vault.identity;
    board.close();
    const answers: ToDevice[] = [];
    let up = () => {};
    const connected = new Promise<void>(resolve => {
      up = resolve;
    });
    const link = openLink({
      url: brokerUrl,
      identity: deviceId,
      password: brokerPassword,
      linkKey,
      maxMessageBytes: MAX_MESSAGE_BYTES,
      onMessage: message => answers.push(toDevice.decode(message)),
      onState: state => state === "up" && up(),
    });
    links.push(link);
    await connected;
    return { link, answers };
  }

  test("a device that wants a channel with points that are none", async () => {
    const other = await world.makeDevice("other", { payments: 0 });
    await world.deposit(other, 50_000);
    await world.bitcoind.mine(1);
    const { link, answers } = await speakAs(other);
    const point = nobleCurve.publicKey(new Uint8Array(32).fill(1));
    const noPoint = new Uint8Array(33).fill(0xff);
    for (const points of [[], [point], [point, point, point, point, noPoint]]) {
      answers.length = 0;
      link.send(toGateway.encode({ type: "open", index: 1, points }));
      await waitFor("the refusal", () =>
        answers.some(each => each.type === "failed" && each.code === "bad-point"),
      );
    }
    link.close();
    await world.stopGateway();
    await world.startGateway();
    car.stop();
    car = await world.startCar(car.deviceId);
    await car.device.openChannel();
    await car.device.pay(world.toll.invoice(TOLL_MSAT));
  });

  test("a device that talks nonsense harms nobody, and can pay when it has come to its senses", async () => {
    await untilAtRest(car);
    const { balanceSat } = car.device.balance();
    car.stop();
    const { link, answers } = await speakAs(car.deviceId);
    const hash = new Uint8Array(randomBytes(32));
    const nonsense = [
      new Uint8Array([0xff]),
      new Uint8Array([0xa0]),
      new Uint8Array([0xa1, 0x00, 0x18, 0x63]),
      new Uint8Array(randomBytes(MAX_MESSAGE_BYTES)),
      toGateway.encode({ type: "stepped", id: 1 }),
      toGateway.encode({ type: "stepped", id: 4_000_000, secret: hash }),
      toGateway.encode({ type: "pay", invoice: hash, maxFeeMsat: 1000 }),
      toGateway.encode({ type: "open", index: 7, points: [] }),
    ];
    for (const message of nonsense) link.send(message);
    // The last one asks for a channel that is there: the gateway says how it stands.
    await waitFor(
      "the gateway's answers",
      () => answers.filter(each => each.type === "channel").length === 2,
    );
    link.close();
    // What has no payment hash names nothing that somebody could wait for.
    expect(answers.map(each => each.type)).toEqual(["channel", "channel"]);
    expect(world.log.filter(line => line.includes("code=invoice-malformed"))).toHaveLength(1);
    car = await world.startCar(car.deviceId);
    await car.device.openChannel();
    const receipt = await car.device.pay(world.toll.invoice(TOLL_MSAT));
    expect(world.toll.timesPaid(receipt.hash)).toBe(1);
    await waitFor("the balance", () => car.device.balance().balanceSat === balanceSat - 1001);
  });
});
