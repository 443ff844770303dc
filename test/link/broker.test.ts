import { connect as connectTcp, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import mqtt from "mqtt";
import {
  connectPacket,
  packetReader,
  publishPacket,
  SUBACK,
  subscribePacket,
} from "../../device/boards/shared/mqtt-packets.ts";
import { type Broker, startBroker } from "../../gateway/link/broker.ts";
import { ascii, concat, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { linkTopic } from "../../src/link/topics.ts";
import { until } from "./until.ts";

const ALICE = "alicealc";
const BOB = "bobbobbo";
const OWNER = `${ALICE}.owner`;
const MAX = 300;

let broker: Broker;
let received: [string, string][];
let refused: string[];
let connected: string[];
/** What the gateway does as soon as something was received. */
let answerTo: (identity: string) => void;
const open: mqtt.MqttClient[] = [];
const raw: Socket[] = [];

beforeEach(async () => {
  received = [];
  refused = [];
  connected = [];
  answerTo = () => {};
  broker = await startBroker(
    {
      host: "127.0.0.1",
      port: 0,
      account: identity =>
        [ALICE, BOB, OWNER].includes(identity)
          ? { passwordHash: sha256(ascii(`password of ${identity}`)), maxMessageBytes: MAX }
          : undefined,
    },
    {
      received: (identity, bytes) => {
        received.push([identity, toHex(bytes)]);
        answerTo(identity);
      },
      connected: identity => connected.push(identity),
      refused: code => refused.push(code),
    },
  );
});

afterEach(async () => {
  for (const client of open.splice(0)) client.end(true);
  for (const socket of raw.splice(0)) socket.destroy();
  await broker.close();
});

/** A client that doesn't come back by itself. Resolves when logged in or refused. */
function login(username: string, options: mqtt.IClientOptions = {}): Promise<mqtt.MqttClient> {
  const client = mqtt.connect(`mqtt://127.0.0.1:${broker.port}`, {
    username,
    password: `password of ${username}`,
    reconnectPeriod: 0,
    ...options,
  });
  open.push(client);
  return new Promise((resolve, reject) => {
    client.once("connect", () => resolve(client));
    client.once("error", reject);
    client.once("close", () => reject(new Error("closed")));
  });
}

function closed(client: mqtt.MqttClient): Promise<void> {
  return new Promise(resolve => client.once("close", () => resolve()));
}

/** Subscribes and returns the granted QoS, 128 when refused. */
function subscribe(client: mqtt.MqttClient, topic: string): Promise<number> {
  return new Promise(resolve =>
    client.subscribe(topic, (error, granted) => resolve(error ? 128 : (granted?.[0]?.qos ?? -1))),
  );
}

describe("the broker inside the gateway", () => {
  test("carries a client's messages to the gateway and the gateway's to the client", async () => {
    for (const identity of [ALICE, OWNER]) {
      const client = await login(identity);
      expect(await subscribe(client, linkTopic(identity, "down"))).toBe(0);
      await until(() => connected.includes(identity));
      const arrived: string[] = [];
      client.on("message", (topic, payload) => arrived.push(`${topic} ${payload.toString("hex")}`));
      expect(broker.send(identity, new Uint8Array([1, 2]))).toBe(true);
      client.publish(linkTopic(identity, "up"), Buffer.from([3, 4]));
      await until(() => arrived.length > 0 && received.some(([from]) => from === identity));
      expect(arrived).toEqual([`${linkTopic(identity, "down")} 0102`]);
      expect(received.at(-1)).toEqual([identity, "0304"]);
    }
    expect(refused).toEqual([]);
  });

  test("lets nobody in with a wrong password, an unknown name or none", async () => {
    await expect(login(ALICE, { password: "guess" })).rejects.toThrow(/Not authorized/);
    await expect(login("unknownn")).rejects.toThrow(/Not authorized/);
    await expect(login("$SYS")).rejects.toThrow(/Not authorized/);
    await expect(login(BOB, { password: `password of ${ALICE}` })).rejects.toThrow(/Not authorized/);
    await expect(login(ALICE, { password: undefined! })).rejects.toThrow();
    const anonymous = mqtt.connect(`mqtt://127.0.0.1:${broker.port}`, { reconnectPeriod: 0 });
    open.push(anonymous);
    await expect(
      new Promise((resolve, reject) => {
        anonymous.once("connect", resolve);
        anonymous.once("error", reject);
      }),
    ).rejects.toThrow(/Not authorized/);
    expect(new Set(refused)).toEqual(new Set(["broker-login"]));
  });

  test.each([
    ["another device's topic", linkTopic(BOB, "up")],
    ["its own down topic", linkTopic(ALICE, "down")],
    ["its owner's topic", linkTopic(OWNER, "up")],
    ["a $SYS topic", "$SYS/anything"],
    ["any other topic", "somewhere"],
  ])("drops a client that publishes to %s", async (_, topic) => {
    const client = await login(ALICE);
    const bob = await login(BOB);
    await subscribe(bob, linkTopic(BOB, "down"));
    let heard = 0;
    bob.on("message", () => heard++);
    client.publish(topic, "x");
    await closed(client);
    expect([refused, received, heard]).toEqual([["broker-publish"], [], 0]);
  });

  test.each([
    ["a retained message", { retain: true }],
    ["QoS 1", { qos: 1 as const }],
    ["QoS 2", { qos: 2 as const }],
  ])("drops a client that publishes %s", async (_, options) => {
    const client = await login(ALICE);
    client.on("error", () => {});
    client.publish(linkTopic(ALICE, "up"), "x", options, () => {});
    await closed(client);
    expect([refused, received]).toEqual([["broker-publish"], []]);
  });

  test.each([
    linkTopic(BOB, "down"),
    linkTopic(ALICE, "up"),
    linkTopic(OWNER, "down"),
    "#",
    "l/+/down",
    "l/#",
    `l/${ALICE}/#`,
    "$SYS/#",
    "$SYS/+/new/clients",
  ])("refuses a subscription to %s", async topic => {
    const client = await login(ALICE);
    expect(await subscribe(client, topic)).toBe(128);
    expect(refused).toEqual(["broker-subscribe"]);
    expect(broker.send(ALICE, new Uint8Array(1))).toBe(false);
  });

  test("drops a client that brings a will", async () => {
    const will = { topic: linkTopic(ALICE, "up"), payload: Buffer.from("x"), qos: 0 as const, retain: false };
    await expect(login(ALICE, { will })).rejects.toThrow();
    expect(refused).toEqual(["broker-will"]);
  });

  test("a new connection takes over from the old one, whatever the clients call themselves", async () => {
    const first = await login(ALICE, { clientId: "one" });
    const gone = closed(first);
    const second = await login(ALICE, { clientId: "two" });
    await gone;
    await subscribe(second, linkTopic(ALICE, "down"));
    await until(() => broker.send(ALICE, new Uint8Array(1)));
    expect(second.connected).toBe(true);
  });

  test("one client's name for itself does not take over another's connection", async () => {
    const alice = await login(ALICE);
    await login(BOB, { clientId: ALICE });
    await expect(login("stranger", { clientId: ALICE })).rejects.toThrow();
    expect(await subscribe(alice, linkTopic(ALICE, "down"))).toBe(0);
  });

  test("keeps nothing for a client that is away", async () => {
    const first = await login(ALICE, { clean: false, clientId: "kept" });
    await subscribe(first, linkTopic(ALICE, "down"));
    first.end(true);
    await until(() => !broker.send(ALICE, new Uint8Array(1)));
    const second = await login(ALICE, { clean: false, clientId: "kept" });
    let heard = 0;
    second.on("message", () => heard++);
    expect(broker.send(ALICE, new Uint8Array(1))).toBe(false);
    await subscribe(second, linkTopic(ALICE, "down"));
    expect(broker.send(ALICE, new Uint8Array(1))).toBe(true);
    await until(() => heard > 0);
    expect(heard).toBe(1);
  });

  test("drops a client whose packet announces too much, before the packet is there", async () => {
    const client = await login(ALICE);
    client.publish(linkTopic(ALICE, "up"), Buffer.alloc(MAX));
    await until(() => received.length === 1);
    // PUBLISH with a length of 2,097,151 bytes, of which none follows.
    (client.stream as unknown as Socket).write(Buffer.from([0x30, 0xff, 0xff, 0x7f]));
    await closed(client);
    expect(refused).toEqual(["broker-packet-too-large"]);
  });

  test("takes login, subscription and messages in one flight, and answers the first before the subscription is done", async () => {
    const { length } = received;
    const answer = new Uint8Array([7]);
    const socket = connectTcp(broker.port, "127.0.0.1");
    raw.push(socket);
    const types: number[] = [];
    socket.on(
      "data",
      packetReader(1024, type => types.push(type)),
    );
    answerTo = identity => void broker.send(identity, answer);
    const messages = Array.from({ length: 12 }, (_, i) => new Uint8Array(MAX).fill(i));
    socket.write(
      concat([
        connectPacket(ALICE, `password of ${ALICE}`, 30),
        subscribePacket(linkTopic(ALICE, "down")),
        // Much more than a stranger may send.
        ...messages.map(message => publishPacket(linkTopic(ALICE, "up"), message)),
      ]),
    );
    await until(() => types.length === 2 + messages.length);
    expect(received.slice(length)).toEqual(messages.map(message => [ALICE, toHex(message)]));
    expect(types[0]).toBe(0x20);
    expect(types.filter(type => type === 0x30)).toHaveLength(messages.length);
    expect(types).toContain(SUBACK);
    expect(refused).toEqual([]);
  });

  test("hears nothing that comes behind a login which it refuses", async () => {
    const socket = connectTcp(broker.port, "127.0.0.1");
    raw.push(socket);
    socket.on("error", () => {});
    socket.write(
      concat([
        connectPacket(ALICE, "guess", 30),
        subscribePacket(linkTopic(ALICE, "down")),
        publishPacket(linkTopic(ALICE, "up"), new Uint8Array(1)),
      ]),
    );
    socket.resume();
    await new Promise(resolve => socket.once("close", resolve));
    expect([received, connected, refused]).toEqual([[], [], ["broker-login"]]);
  });

  test("lets a stranger send no more than a login", async () => {
    const socket = connectTcp(broker.port, "127.0.0.1");
    raw.push(socket);
    socket.on("error", () => {});
    socket.write(concat([new Uint8Array([0x10, 0x81, 0x08]), new Uint8Array(100)]));
    await new Promise(resolve => socket.once("close", resolve));
    expect(refused).toEqual(["broker-packet-too-large"]);
  });

  test("limits the connections of an address that do not log in", async () => {
    let refusedByPeer = 0;
    for (let i = 0; i < 40; i++) {
      const socket = connectTcp(broker.port, "127.0.0.1");
      raw.push(socket);
      socket.on("error", () => {});
      socket.on("close", () => refusedByPeer++);
    }
    await until(() => refusedByPeer === 8);
    expect(refused).toEqual(Array(8).fill("broker-too-many-connections"));
    for (const socket of raw.splice(0)) socket.destroy();
    await until(() => refusedByPeer === 40);
    await login(ALICE);
  });

  test("an address that is full of silent strangers lets its own clients in: who was silent longest goes", async () => {
    const silent: Socket[] = [];
    const gone: number[] = [];
    for (let i = 0; i < 32; i++) {
      const socket = connectTcp(broker.port, "127.0.0.1");
      raw.push(socket);
      silent.push(socket);
      socket.on("error", () => {});
      socket.on("close", () => gone.push(i));
      await new Promise(resolve => socket.once("connect", resolve));
    }
    const alice = await login(ALICE);
    expect(await subscribe(alice, linkTopic(ALICE, "down"))).toBe(0);
    expect(gone).toEqual([0]);
    await login(BOB);
    expect([gone, refused]).toEqual([[0], ["broker-too-many-connections"]]);
  });

  test("a client that floods is read no faster than its budget allows, and then dropped, which is said once", async () => {
    const frame = Buffer.concat([
      Buffer.from([0x30, linkTopic(ALICE, "up").length + 3, 0, linkTopic(ALICE, "up").length]),
      Buffer.from(`${linkTopic(ALICE, "up")}x`),
    ]);
    const thousand = Buffer.concat(Array(1000).fill(frame));
    const alice = await login(ALICE);
    const bob = await login(BOB);
    const stream = alice.stream as unknown as Socket;
    alice.on("error", () => {});
    stream.on("error", () => {});
    let isOver = false;
    let sent = 0;
    alice.once("close", () => {
      isOver = true;
    });
    const flood = setInterval(() => {
      // What waits in the kernel's buffers is enough of it.
      if (isOver || stream.writableLength > 0) return;
      stream.write(thousand);
      sent += 1000;
    }, 5);
    await until(() => sent > 5000);
    bob.publish(linkTopic(BOB, "up"), "y");
    await until(() => received.some(([from]) => from === BOB));
    await until(() => isOver);
    clearInterval(flood);
    const heard = received.filter(([from]) => from === ALICE).length;
    // A burst, some seconds' worth, and not what has come.
    expect(heard).toBeLessThan(sent / 2);
    expect(heard).toBeGreaterThan(400);
    expect(refused).toEqual(["broker-flood"]);
    bob.publish(linkTopic(BOB, "up"), "z");
    await until(() => received.filter(([from]) => from === BOB).length === 2);
  });

  test("many clients that are logged in do not count as strangers", async () => {
    for (let i = 0; i < 40; i++) await login([ALICE, BOB, OWNER][i % 3]!);
    expect(refused).toEqual([]);
  });

  test("survives bytes that are no MQTT, on new connections and on those that are logged in", async () => {
    const garbage = [
      "00",
      "ffffffffff",
      "10ff",
      "1000",
      "f000",
      "10040004",
      "101000044d5154540442003c00046162636400",
      "30020000",
      "8200",
      "82020001",
    ];
    for (const hex of garbage) {
      const socket = connectTcp(broker.port, "127.0.0.1");
      raw.push(socket);
      socket.on("error", () => {});
      socket.end(Buffer.from(hex, "hex"));
      const client = await login(ALICE);
      client.on("error", () => {});
      (client.stream as unknown as Socket).write(Buffer.from(hex, "hex"));
    }
    const client = await login(BOB);
    expect(await subscribe(client, linkTopic(BOB, "down"))).toBe(0);
  });

  test("drops a client that does not take what it is sent, and serves the others", async () => {
    const slow = await login(ALICE);
    const other = await login(BOB);
    await subscribe(slow, linkTopic(ALICE, "down"));
    await subscribe(other, linkTopic(BOB, "down"));
    let heard = 0;
    other.on("message", () => heard++);
    (slow.stream as unknown as Socket).pause();
    for (let i = 0; !refused.includes("broker-slow-client"); i++) {
      if (i > 100_000) throw new Error("the slow client was never dropped");
      broker.send(ALICE, new Uint8Array(MAX));
      if (i % 100 === 0) await new Promise(resolve => setImmediate(resolve));
    }
    broker.send(BOB, new Uint8Array(1));
    await until(() => heard === 1);
    expect(broker.send(ALICE, new Uint8Array(1))).toBe(false);
  });

  test("says so when its address is taken", async () => {
    const again = startBroker(
      { host: "127.0.0.1", port: broker.port, account: () => undefined },
      { received: () => {}, connected: () => {}, refused: () => {} },
    );
    await expect(again).rejects.toMatchObject({ code: "broker-address" });
  });
});
