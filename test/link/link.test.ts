import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "@jest/globals";
import { Aedes } from "aedes";
import { nodeMqtt } from "../../device/boards/node/mqtt.ts";
import {
  CONNACK,
  connectPacket,
  PUBLISH,
  packetReader,
  payloadOf,
  publishPacket,
  SUBACK,
  subscribePacket,
} from "../../device/boards/shared/mqtt-packets.ts";
import { GatewayLinks, type GatewayLinksOptions, type LinkAccount } from "../../gateway/link/links.ts";
import { reservePort } from "../../scripts/ports.ts";
import { ascii, u32be } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { noSession } from "../../src/link/envelope.ts";
import { type LinkEffect, linkClient } from "../../src/link/session.ts";
import { linkTopic } from "../../src/link/topics.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { type OpenLink, type OpenLinkOptions, openLink } from "../../src/node/link.ts";
import { dialMqtt } from "../../src/node/mqtt.ts";
import { until } from "./until.ts";

const DEVICE = "abcdefgh";
const OWNER = `${DEVICE}.owner`;
const OTHER = "zzzzzzzz";
const MAX = 4096;
const OWNER_MAX = 2 ** 21;

const toClose: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close();
});

function keyOf(identity: string): Uint8Array {
  return sha256(ascii(`link key of ${identity}`));
}

function accounts(identity: string): LinkAccount | undefined {
  if (![DEVICE, OWNER, OTHER].includes(identity)) return undefined;
  return {
    passwordHash: sha256(ascii(identity)),
    linkKey: keyOf(identity),
    maxMessageBytes: identity === OWNER ? OWNER_MAX : MAX,
  };
}

interface Gateway {
  readonly links: GatewayLinks;
  readonly port: number;
  readonly messages: [string, Uint8Array][];
  readonly sessions: [string, string][];
  readonly refused: string[];
}

async function gateway(options: Partial<GatewayLinksOptions> = {}): Promise<Gateway> {
  const messages: Gateway["messages"] = [];
  const sessions: Gateway["sessions"] = [];
  const refused: string[] = [];
  const links = await GatewayLinks.open({
    mqtt: { kind: "embedded", host: "127.0.0.1", port: 0 },
    account: accounts,
    identities: () => [DEVICE, OWNER, OTHER],
    onMessage: (identity, message) => messages.push([identity, message]),
    onSession: (identity, state) => sessions.push([identity, state]),
    onRefused: code => refused.push(code),
    ...options,
  });
  toClose.push(() => links.close());
  return { links, port: links.port ?? 0, messages, sessions, refused };
}

interface Client {
  readonly link: OpenLink;
  readonly messages: Uint8Array[];
  readonly states: string[];
}

function client(port: number, identity: string, linkKey = keyOf(identity), password = identity): Client {
  const messages: Uint8Array[] = [];
  const states: string[] = [];
  const link = openLink({
    url: `mqtt://127.0.0.1:${port}`,
    identity,
    password,
    linkKey,
    maxMessageBytes: identity === OWNER ? OWNER_MAX : MAX,
    onMessage: message => messages.push(message),
    onState: state => states.push(state),
  });
  toClose.push(() => link.close());
  return { link, messages, states };
}

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return codeOf(error);
  }
  return undefined;
}

describe("a link over MQTT and TCP", () => {
  test("carries messages both ways, the device's and its owner's apart", async () => {
    const at = await gateway();
    const device = client(at.port, DEVICE);
    const owner = client(at.port, OWNER);
    await until(() => at.links.isUp(DEVICE) && at.links.isUp(OWNER));
    expect([device.states, owner.states]).toEqual([["up"], ["up"]]);
    device.link.send(new Uint8Array([1]));
    owner.link.send(new Uint8Array([2]));
    at.links.send(DEVICE, new Uint8Array([3]));
    at.links.send(OWNER, new Uint8Array([4]));
    await until(
      () => at.messages.length === 2 && device.messages.length === 1 && owner.messages.length === 1,
    );
    expect(new Map(at.messages)).toEqual(
      new Map([
        [DEVICE, new Uint8Array([1])],
        [OWNER, new Uint8Array([2])],
      ]),
    );
    expect([device.messages, owner.messages]).toEqual([[new Uint8Array([3])], [new Uint8Array([4])]]);
    expect(at.refused).toEqual([]);
  });

  test("counts the same MQTT packets and bytes on both sides", async () => {
    const at = await gateway();
    const device = client(at.port, DEVICE);
    await until(() => at.links.isUp(DEVICE));
    const before = at.links.traffic(DEVICE);
    device.link.send(new Uint8Array(200));
    await until(() => at.messages.length === 1);
    at.links.send(DEVICE, new Uint8Array(100));
    await until(() => device.messages.length === 1);
    const after = at.links.traffic(DEVICE);
    expect(device.link.traffic).toEqual(after);
    // Header 3, topic 2 + 13, envelope 27, message 200; towards the device header 3, topic 2 + 15.
    expect([after.messagesUp - before.messagesUp, after.bytesUp - before.bytesUp]).toEqual([1, 245]);
    expect([after.messagesDown - before.messagesDown, after.bytesDown - before.bytesDown]).toEqual([1, 147]);
  });

  test("carries messages of 2 MiB for the owner, and refuses what is longer than the limit", async () => {
    const at = await gateway();
    const owner = client(at.port, OWNER);
    const device = client(at.port, DEVICE);
    await until(() => at.links.isUp(OWNER) && at.links.isUp(DEVICE));
    const large = new Uint8Array(OWNER_MAX).map((_, i) => i * 7);
    owner.link.send(large);
    at.links.send(OWNER, large);
    await until(() => at.messages.length === 1 && owner.messages.length === 1);
    expect(Buffer.compare(at.messages[0]![1], large)).toBe(0);
    expect(Buffer.compare(owner.messages[0]!, large)).toBe(0);
    expect(codeThrown(() => owner.link.send(new Uint8Array(OWNER_MAX + 1)))).toBe("message-too-large");
    expect(codeThrown(() => device.link.send(new Uint8Array(MAX + 1)))).toBe("message-too-large");
    expect(codeThrown(() => at.links.send(DEVICE, new Uint8Array(MAX + 1)))).toBe("message-too-large");
  });

  test("loses and repeats nothing when connections break in the middle of a session", async () => {
    const at = await gateway();
    const proxy = await breakingProxy(at.port);
    const device = client(proxy.port, DEVICE);
    await until(() => at.links.isUp(DEVICE));
    const count = 40;
    for (let i = 0; i < count; i++) {
      device.link.send(u32be(i));
      at.links.send(DEVICE, u32be(i));
      if (i % 20 === 7) proxy.breakAll();
      await until(() => at.messages.length >= i - 5 && device.messages.length >= i - 5);
    }
    await until(() => at.messages.length >= count && device.messages.length >= count);
    const expected = Array.from({ length: count }, (_, i) => u32be(i));
    expect(device.messages).toEqual(expected);
    expect(at.messages.map(([, message]) => message)).toEqual(expected);
    expect(at.sessions).toEqual([[DEVICE, "up"]]);
  });

  test("comes up again after the gateway has restarted", async () => {
    const mqtt = { kind: "embedded", host: "127.0.0.1", port: await reservePort() } as const;
    const first = await gateway({ mqtt });
    const device = client(first.port, DEVICE);
    await until(() => first.links.isUp(DEVICE));
    await first.links.close();
    const second = await gateway({ mqtt });
    await until(() => second.links.isUp(DEVICE));
    device.link.send(new Uint8Array([1]));
    await until(() => second.messages.length === 1);
    expect(device.states).toEqual(["up", "down", "up"]);
  });

  test("comes up again after the device has restarted", async () => {
    const at = await gateway();
    const first = client(at.port, DEVICE);
    await until(() => at.links.isUp(DEVICE));
    first.link.close();
    const second = client(at.port, DEVICE);
    await until(() => at.sessions.length === 2);
    second.link.send(new Uint8Array([1]));
    await until(() => at.messages.length === 1);
    expect(at.sessions).toEqual([
      [DEVICE, "up"],
      [DEVICE, "up"],
    ]);
  });

  test("a device that has hung up is not connected any more, and its session waits for it", async () => {
    const at = await gateway();
    const proxy = await breakingProxy(at.port);
    client(proxy.port, DEVICE);
    await until(() => at.links.isConnected(DEVICE));
    proxy.breakAll();
    await until(() => !at.links.isConnected(DEVICE));
    expect(at.links.isUp(DEVICE)).toBe(true);
    await until(() => at.links.isConnected(DEVICE));
    expect(at.sessions).toEqual([[DEVICE, "up"]]);
  });

  test("nor is one that is silent for longer than the keep-alive time that it has promised", async () => {
    const at = await gateway();
    const session = linkClient({
      crypto: nodeLinkCrypto,
      linkKey: keyOf(DEVICE),
      maxMessageBytes: MAX,
    });
    const socket = connect(at.port, "127.0.0.1");
    toClose.push(() => socket.destroy());
    const publish = (effects: readonly LinkEffect[]) => {
      for (const effect of effects)
        if (effect.kind === "send") socket.write(publishPacket(linkTopic(DEVICE, "up"), effect.bytes));
    };
    socket.on(
      "data",
      packetReader(MAX, (type, body) => {
        if (type === CONNACK) socket.write(subscribePacket(linkTopic(DEVICE, "down")));
        else if (type === SUBACK) publish(session.connected(0));
        else if (type === PUBLISH) publish(session.receive(payloadOf(body)!, 0));
      }),
    );
    socket.write(connectPacket(DEVICE, DEVICE, 1));
    await until(() => at.links.isConnected(DEVICE));
    await until(() => !at.links.isConnected(DEVICE));
  });

  test("does not come up with another link key, and comes up when the account is corrected", async () => {
    let key = keyOf(OTHER);
    const at = await gateway({
      account: identity => (identity === DEVICE ? { ...accounts(DEVICE)!, linkKey: key } : undefined),
    });
    const device = client(at.port, DEVICE);
    await until(() => at.refused.includes("link-bad-tag"));
    expect(device.link.isUp()).toBe(false);
    expect(codeThrown(() => device.link.send(new Uint8Array(1)))).toBe("link-down");
    key = keyOf(DEVICE);
    at.links.forget(DEVICE);
    await until(() => at.links.isUp(DEVICE));
  });

  test("keeps retrying while the broker refuses the login, and tells why", async () => {
    const at = await gateway();
    const reasons: string[] = [];
    const options: OpenLinkOptions = {
      url: `mqtt://127.0.0.1:${at.port}`,
      identity: DEVICE,
      password: "guess",
      linkKey: keyOf(DEVICE),
      maxMessageBytes: MAX,
      onMessage: () => {},
      onState: (_, reason) => reasons.push(reason),
    };
    const link = openLink(options);
    toClose.push(() => link.close());
    await until(() => reasons.length >= 2);
    expect(reasons[0]).toMatch(/Not authorized/);
    expect(codeThrown(() => openLink({ ...options, url: "http://somewhere" }))).toBe("mqtt-bad-url");
  });

  test("what the application throws on one device's message disturbs no link", async () => {
    const at = await gateway({
      onMessage: () => {
        throw new Error("a mistake");
      },
    });
    const device = client(at.port, DEVICE);
    const other = client(at.port, OTHER);
    await until(() => at.links.isUp(DEVICE) && at.links.isUp(OTHER));
    device.link.send(new Uint8Array(1));
    await until(() => at.refused.length > 0);
    expect(at.refused).toEqual(["link-handler-failed"]);
    at.links.send(DEVICE, new Uint8Array(1));
    at.links.send(OTHER, new Uint8Array(1));
    await until(() => device.messages.length + other.messages.length === 2);
  });
});

describe("MQTT on Node's board", () => {
  test("publishes and receives on its two topics, and says when the connection is gone", async () => {
    const at = await gateway();
    const payloads: Uint8Array[] = [];
    const events: string[] = [];
    const connection = nodeMqtt({
      url: `mqtt://127.0.0.1:${at.port}`,
      username: DEVICE,
      password: DEVICE,
      publishTopic: linkTopic(DEVICE, "up"),
      subscribeTopic: linkTopic(DEVICE, "down"),
      onOpen: () => events.push("open"),
      onMessage: payload => payloads.push(payload),
      onClose: () => events.push("close"),
    });
    toClose.push(() => connection.close());
    connection.publish(new Uint8Array(1)); // not connected yet: nothing happens
    await until(() => events.length === 1);
    connection.publish(new Uint8Array([0x77]));
    // A gateway without a session for this device says so when the device subscribes.
    await until(() => at.refused.includes("link-malformed") && payloads.length === 1);
    expect(payloads).toEqual([noSession(0)]);
    await at.links.close();
    await until(() => events.length === 2);
    expect(events).toEqual(["open", "close"]);
  });

  test("comes again where the broker does not let it in, and tells why", async () => {
    const at = await gateway();
    const reasons: string[] = [];
    const connection = nodeMqtt({
      url: `mqtt://127.0.0.1:${at.port}`,
      username: DEVICE,
      password: "guess",
      publishTopic: linkTopic(DEVICE, "up"),
      subscribeTopic: linkTopic(DEVICE, "down"),
      onOpen: () => connection.publish(new Uint8Array([0x77])),
      onMessage: () => {},
      onClose: reason => reasons.push(reason),
    });
    toClose.push(() => connection.close());
    await until(() => reasons.length === 2);
    expect(reasons).toEqual(Array(2).fill("the broker refused the login"));
    expect(new Set(at.refused)).toEqual(new Set(["broker-login"]));
  });

  test("comes again where its topic is not its own", async () => {
    const at = await gateway();
    const reasons: string[] = [];
    const connection = nodeMqtt({
      url: `mqtt://127.0.0.1:${at.port}`,
      username: DEVICE,
      password: DEVICE,
      publishTopic: linkTopic(DEVICE, "up"),
      subscribeTopic: linkTopic(OTHER, "down"),
      onOpen: () => {},
      onMessage: () => {},
      onClose: reason => reasons.push(reason),
    });
    toClose.push(() => connection.close());
    await until(() => reasons.length === 1);
    expect(reasons).toEqual(["the broker refused the subscription"]);
  });

  test("leaves a broker that sends more than it may", async () => {
    const external = await foreignBroker(0);
    const reasons: string[] = [];
    const received: number[] = [];
    const dial = dialMqtt({
      url: `mqtt://127.0.0.1:${external.port}`,
      topics: ["a"],
      maxPacketBytes: 1000,
      onOpen: () => dial.publish("a", new Uint8Array(reasons.length === 0 ? 2000 : 900)),
      onMessage: (_, payload) => received.push(payload.length),
      onClose: reason => reasons.push(reason),
    });
    toClose.push(() => dial.close());
    await until(() => received.length === 1);
    expect(received).toEqual([900]);
    expect(reasons).toEqual(["an MQTT packet exceeds 1000 bytes"]);
  });
});

describe("a link over a broker that is not the gateway's", () => {
  test("works, and comes back when broker, gateway or device restart", async () => {
    const external = await foreignBroker(await reservePort());
    const mqtt = {
      kind: "external",
      url: `mqtt://127.0.0.1:${external.port}`,
      maxMessageBytes: MAX,
    } as const;
    const first = await gateway({ mqtt });
    const device = client(external.port, DEVICE);
    await until(() => first.links.isUp(DEVICE));
    device.link.send(new Uint8Array([1]));
    await until(() => first.messages.length === 1);

    await first.links.close();
    const second = await gateway({ mqtt });
    await until(() => second.links.isUp(DEVICE));
    second.links.send(DEVICE, new Uint8Array([2]));
    await until(() => device.messages.length === 1);

    await external.close();
    const again = await foreignBroker(external.port);
    second.links.send(DEVICE, new Uint8Array([3]));
    await until(() => device.messages.length === 2);
    expect(again.port).toBe(external.port);
    expect(device.messages).toEqual([new Uint8Array([2]), new Uint8Array([3])]);
    expect(second.sessions).toEqual([[DEVICE, "up"]]);
  });

  test("refuses messages of strangers", async () => {
    const external = await foreignBroker(0);
    const at = await gateway({
      mqtt: { kind: "external", url: `mqtt://127.0.0.1:${external.port}`, maxMessageBytes: MAX },
    });
    client(external.port, "stranger", keyOf(DEVICE));
    await until(() => at.refused.includes("link-unknown-identity"));
    expect(at.links.isUp("stranger")).toBe(false);
  });
});

/** A broker that lets everybody do everything. */
async function foreignBroker(port: number): Promise<{ port: number; close(): Promise<void> }> {
  const aedes = await Aedes.createBroker();
  const sockets = new Set<Socket>();
  const server: Server = createServer(socket => {
    sockets.add(socket);
    aedes.handle(socket);
  });
  await new Promise<void>(resolve => server.listen(port, "127.0.0.1", resolve));
  const close = () =>
    new Promise<void>(resolve => {
      server.close(() => aedes.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
    });
  toClose.push(close);
  return { port: (server.address() as { port: number }).port, close };
}

/** TCP to the gateway that can be cut. */
async function breakingProxy(target: number): Promise<{ port: number; breakAll(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer(near => {
    const far = connect(target, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  toClose.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    port: (server.address() as { port: number }).port,
    breakAll() {
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
  };
}
