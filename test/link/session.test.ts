import { describe, expect, test } from "@jest/globals";
import { ctr } from "@noble/ciphers/aes.js";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { hkdf } from "../../src/crypto/hkdf.ts";
import { codeOf } from "../../src/errors.ts";
import { DATA_OVERHEAD, handshakeKey, sealAck, sealWelcome, sessionKeys } from "../../src/link/envelope.ts";
import {
  ACK_DELAY_MS,
  HELLO_MS,
  LinkServer,
  linkClient,
  QUEUE,
  QUIET_MS,
  RESEND_MS,
  WINDOW,
} from "../../src/link/session.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { type Move, type Side, World } from "./world.ts";

/** Random histories of a link in the everyday suite. */
const RUNS = 200;

const side = fc.constantFrom<Side>("client", "server");
const at = fc.oneof(fc.constant(0), fc.nat(20));
function move<K extends string, T extends object>(weight: number, kinds: readonly K[], rest: T) {
  return { weight, arbitrary: fc.record({ kind: fc.constantFrom(...kinds), ...rest }) };
}
const moves = fc.oneof(
  move(16, ["send"], { side, length: fc.nat(60) }),
  move(8, ["deliver"], { side, at }),
  move(12, ["flow"], { frames: fc.nat(10) }),
  move(3, ["drop"], { side, at }),
  move(3, ["repeat"], { side, at }),
  move(2, ["flip"], { side, at, bit: fc.nat(2000) }),
  move(1, ["cut"], { side, at, bit: fc.nat(200) }),
  move(2, ["replay"], { side, at: fc.nat(1000) }),
  move(2, ["reflect"], { side, at: fc.nat(1000) }),
  move(1, ["forge-hint"], {}),
  move(1, ["reboot"], { side }),
  move(1, ["reconnect"], { side }),
  move(8, ["wait"], { ms: fc.nat(4000) }),
) as fc.Arbitrary<Move>;

/** After whatever happened, on an honest transport: one session, in which everything sent has arrived. */
function expectRecovery(world: World): void {
  const givenUp = world.lost.length;
  world.settle();
  expect(world.session.client).toBeDefined();
  if (world.session.client === world.session.server) expectNothingMissing(world);
  // The server may not know yet that the client is gone, or the client that the server is: using the link tells.
  world.send("client", 10);
  world.settle();
  expect(world.session.server).toBe(world.session.client);
  expect(world.send("client", 10) && world.send("server", 10)).toBe(true);
  world.settle();
  expectNothingMissing(world);
  expect(world.lost.slice(givenUp)).toEqual([]);
}

function expectNothingMissing(world: World): void {
  expect([world.missing("client"), world.missing("server")]).toEqual([0, 0]);
}

describe("a link over a broker that cannot be trusted", () => {
  test("delivers exactly once and in order within a session, nothing forged, and always recovers", () => {
    let deliveries = 0;
    fc.assert(
      fc.property(fc.array(moves, { minLength: 1, maxLength: 200, size: "max" }), list => {
        const world = new World();
        for (const move of list) world.apply(move);
        deliveries += world.deliveries;
        expectRecovery(world);
      }),
      { numRuns: RUNS },
    );
    // The moves let conversations happen: otherwise nothing was shown.
    expect(deliveries).toBeGreaterThan(10 * RUNS);
  });

  test("survives either side's restart between any two steps of a conversation", () => {
    for (const rebooted of ["client", "server"] as const) {
      for (let cut = 0; cut < 40; cut++) {
        const world = new World();
        for (let step = 0; step < 40; step++) {
          if (step === cut) world.apply({ kind: "reboot", side: rebooted });
          if (step % 4 === 0) world.send(step % 8 === 0 ? "client" : "server", 20);
          world.apply({ kind: "deliver", side: step % 2 === 0 ? "server" : "client", at: 0 });
        }
        expectRecovery(world);
      }
    }
  });
});

/** A world whose session is up and quiet. */
function settled(options: { maxFrames?: number } = {}): World {
  const world = new World(options);
  world.settle();
  expect(world.session.server).toBe(world.session.client);
  return world;
}

describe("opening a session", () => {
  test("takes three frames, and an acknowledgement when nothing follows", () => {
    const world = settled();
    expect(world.recorded.server.map(frame => frame.length)).toEqual([33, DATA_OVERHEAD]);
    expect(world.recorded.client.map(frame => frame.length)).toEqual([33, 24]);
  });

  test("delivers nothing before the client has proved that it is fresh", () => {
    const world = settled();
    world.send("client", 10);
    world.settle();
    const recording = world.recorded.server.slice();
    world.apply({ kind: "reboot", side: "server" });
    for (const frame of recording) world.hand("server", frame);
    expect(world.session.server).toBeUndefined();
    expect(world.send("server", 10)).toBe(false);
    expect(world.rejected["link-unknown-session"]).toBe(recording.length - 1);
  });

  test("by a recorded hello does not disturb the session that is up", () => {
    const world = settled();
    const session = world.session.server;
    for (const frame of world.recorded.server.slice()) world.hand("server", frame);
    world.travelling.client.length = 0;
    world.send("server", 10);
    world.send("client", 10);
    world.settle();
    expect([world.session.client, world.session.server]).toEqual([session, session]);
    expectNothingMissing(world);
  });

  test("is not completed by a recorded answer", () => {
    const world = settled();
    const welcome = world.recorded.client[0]!;
    world.apply({ kind: "reboot", side: "client" });
    world.hand("client", welcome);
    expect(world.rejected["link-bad-tag"]).toBe(1);
    expect(world.session.client).toBeUndefined();
  });

  test("replaces the old session when the device restarts", () => {
    const world = settled();
    const old = world.session.server;
    world.apply({ kind: "reboot", side: "client" });
    world.settle();
    expect(world.session.server).toBe(world.session.client);
    expect(world.session.server).not.toBe(old);
  });

  test("follows the hint of a gateway that has restarted", () => {
    const world = settled();
    world.wait(5000);
    world.apply({ kind: "reboot", side: "server" });
    world.send("client", 10);
    world.settle();
    expect(world.session.server).toBe(world.session.client);
  });

  test("keeps the old session until the gateway has answered, whoever sent the hint", () => {
    const world = settled();
    const session = world.session.client;
    world.wait(5000);
    world.apply({ kind: "forge-hint" });
    world.travelling.server.length = 0; // the fresh hello is lost
    world.send("client", 10);
    world.apply({ kind: "deliver", side: "server", at: 0 });
    expect(world.deliveries).toBe(1);
    expect(world.session.client).toBe(session);
  });

  test("is tried again with the same hello, and at once when the transport is back", () => {
    const world = new World();
    const [hello] = world.travelling.server;
    world.travelling.server.length = 0;
    for (const wait of [HELLO_MS, 2 * HELLO_MS, 4 * HELLO_MS]) {
      world.wait(wait - 1);
      expect(world.travelling.server).toEqual([]);
      world.wait(1);
      expect(world.travelling.server).toEqual([hello]);
      world.travelling.server.length = 0;
    }
    world.apply({ kind: "reconnect", side: "client" });
    expect(world.travelling.server).toEqual([hello]);
  });

  test("a server that hears of the connection after it has answered the hello says nothing more", () => {
    const world = settled();
    world.apply({ kind: "reboot", side: "client" });
    world.hand("server", world.travelling.server.shift()!);
    world.apply({ kind: "reconnect", side: "server" });
    // A welcome, and neither the hint nor anything of the session before.
    expect(world.travelling.client.map(frame => frame[0])).toEqual([0x12]);
    world.settle();
    expect(world.session.server).toBe(world.session.client);
    world.wait(HELLO_MS);
    world.send("server", 10);
    world.travelling.client.length = 0;
    world.apply({ kind: "reconnect", side: "server" });
    expect(world.travelling.client.map(frame => frame[0])).toEqual([0x13]);
  });

  test("a fresh hello is repeated at once, too, when the transport is back while the old session lives", () => {
    const world = settled();
    world.wait(5000);
    world.apply({ kind: "forge-hint" });
    const hello = world.travelling.server.shift()!;
    world.apply({ kind: "reconnect", side: "client" });
    expect(world.travelling.server).toContainEqual(hello);
  });

  test("gets the same answer however often the hello arrives", () => {
    const world = new World();
    const hello = world.travelling.server.shift()!;
    world.hand("server", hello);
    world.hand("server", hello);
    expect(world.travelling.client[1]).toEqual(world.travelling.client[0]);
  });

  test("follows a restart of the gateway at the first sign of life, without a message to send", () => {
    const world = settled();
    world.wait(5000);
    world.apply({ kind: "reboot", side: "server" });
    world.travelling.client.length = 0; // its announcement is lost
    world.apply({ kind: "reconnect", side: "client" });
    world.settle();
    expect(world.session.server).toBe(world.session.client);
  });

  test("is not repeated for a flood of forged hints", () => {
    const world = settled();
    world.wait(5000);
    const before = world.framesSent;
    for (let i = 0; i < 100; i++) world.apply({ kind: "forge-hint" });
    expect(world.framesSent - before).toBe(1);
  });

  test("waits, but not for ever, when the hint comes right after a session began", () => {
    const world = settled();
    const began = world.now;
    world.apply({ kind: "reboot", side: "server" });
    world.settle();
    expect(world.session.server).toBe(world.session.client);
    expect(world.now - began).toBeLessThanOrEqual(HELLO_MS + ACK_DELAY_MS);
  });

  test("with another device's key is refused", () => {
    const nonceD = new Uint8Array(16);
    const options = { crypto: { ...nodeLinkCrypto, random: () => nonceD }, maxMessageBytes: 100 };
    const ours = linkClient({ ...options, linkKey: new Uint8Array(32).fill(1) });
    const server = new LinkServer({ ...options, linkKey: new Uint8Array(32).fill(2) });
    const [hello] = ours.connected(0);
    if (hello?.kind !== "send") throw new Error("no hello");
    expect(server.receive(hello.bytes, 0)).toEqual([{ kind: "rejected", code: "link-bad-tag" }]);
    const forged = sealWelcome(handshakeKey(new Uint8Array(32).fill(2)), nonceD, nonceD);
    expect(ours.receive(forged, 0)).toEqual([{ kind: "rejected", code: "link-bad-tag" }]);
  });
});

describe("inside a session", () => {
  test("a conversation that alternates needs no frame but its messages", () => {
    const world = settled();
    const before = world.framesSent;
    for (let i = 0; i < 10; i++) {
      world.send(i % 2 === 0 ? "client" : "server", 100);
      world.apply({ kind: "deliver", side: i % 2 === 0 ? "server" : "client", at: 0 });
      world.wait(100);
    }
    expect(world.framesSent - before).toBe(10);
    world.settle();
    expect(world.framesSent - before).toBe(11);
  });

  test("a lost frame is sent again, the same bytes, later and later, until the session is given up", () => {
    const world = settled();
    const start = world.now;
    world.send("client", 10);
    const frame = world.travelling.server[0]!;
    const times: number[] = [];
    while (world.session.client !== undefined && times.length < 10) {
      world.travelling.server.length = 0;
      world.wait(world.ends.client.nextTick() - world.now);
      for (const again of world.travelling.server) if (again[0] === 0x13) expect(again).toEqual(frame);
      times.push(Math.floor((world.now - start) / 1000));
    }
    expect(times).toEqual([4, 12, 28, 58, 88, 118]);
    expectRecovery(world);
  });

  test("with a client that is gone it ends, although the server has nothing to say", () => {
    const world = settled();
    const start = world.now;
    while (world.session.server !== undefined && world.now < start + 10 * QUIET_MS) {
      world.wait(world.ends.server.nextTick() - world.now);
      world.travelling.client.length = 0;
    }
    expect(world.lost).toEqual(["link-unanswered"]);
    expect(world.now - start).toBeLessThanOrEqual(2.1 * QUIET_MS);
    expectRecovery(world);
  });

  test("with a client that is there and says nothing it goes on, for two frames in two minutes", () => {
    const world = settled();
    const { session } = world;
    const before = world.framesSent;
    const idle = 10;
    for (let i = 0; i < idle; i++) {
      world.wait(world.ends.server.nextTick() - world.now);
      world.settle();
    }
    expect(world.framesSent - before).toBe(2 * idle);
    expect([world.session, world.lost, world.deliveries]).toEqual([session, [], 0]);
    world.send("server", 10);
    world.settle();
    expectNothingMissing(world);
  });

  test("that is used is never asked whether it is there", () => {
    const world = settled();
    const before = world.framesSent;
    const messages = 20;
    for (let i = 0; i < messages; i++) {
      world.wait(QUIET_MS - 2 * ACK_DELAY_MS);
      world.send("client", 10);
      world.settle();
    }
    // Each message, and its acknowledgement.
    expect(world.framesSent - before).toBe(2 * messages);
  });

  test("recorded acknowledgements do not put off that a lost frame is sent again", () => {
    const world = settled();
    const ack = world.recorded.client[1]!;
    world.send("client", 10);
    world.travelling.server.length = 0;
    for (let i = 0; i < 20; i++) {
      world.hand("client", ack);
      world.wait(RESEND_MS / 10);
    }
    expect(world.travelling.server).toHaveLength(1);
  });

  test("messages that follow do not put off an acknowledgement", () => {
    const world = settled();
    for (let i = 0; i < 2; i++) {
      world.send("client", 10);
      world.apply({ kind: "deliver", side: "server", at: 0 });
      world.wait(ACK_DELAY_MS - 100);
    }
    expect(world.travelling.client).toHaveLength(1);
  });

  test("an acknowledgement of what was never sent is refused, also with the right key", () => {
    const [nonceD, nonceG, linkKey] = [new Uint8Array(16), new Uint8Array(16).fill(3), new Uint8Array(32)];
    const crypto = { ...nodeLinkCrypto, random: () => nonceD };
    const client = linkClient({ crypto, linkKey, maxMessageBytes: 100 });
    client.connected(0);
    client.receive(sealWelcome(handshakeKey(linkKey), nonceD, nonceG), 0);
    const { session, down } = sessionKeys(linkKey, nonceD, nonceG);
    expect(client.receive(sealAck(down, session, 2), 0)).toEqual([
      { kind: "rejected", code: "link-malformed" },
    ]);
    expect(client.receive(sealAck(down, session, 1), 0)).toEqual([]);
    expect(client.nextTick()).toBe(Number.POSITIVE_INFINITY);
  });

  test("a frame that comes again, because its acknowledgement was lost, is acknowledged again", () => {
    const world = settled();
    world.send("client", 10);
    world.apply({ kind: "deliver", side: "server", at: 0 });
    world.wait(ACK_DELAY_MS);
    world.travelling.client.length = 0;
    const sent = world.framesSent;
    world.settle();
    expect(world.framesSent - sent).toBe(2);
    expect(world.rejected["link-repeated"]).toBe(1);
    expect(world.lost).toEqual([]);
  });

  test("at most a window is on the way, at most a queue waits, then the sender is told", () => {
    const world = settled();
    for (let i = 0; i < WINDOW + QUEUE; i++) expect(world.send("client", 10)).toBe(true);
    expect(world.send("client", 10)).toBe(false);
    expect(world.travelling.server).toHaveLength(WINDOW);
    world.settle();
    expect(world.missing("client")).toBe(0);
  });

  test("a sender with much to send waits for no delayed acknowledgement", () => {
    const world = settled();
    const start = world.now;
    for (let i = 0; i < WINDOW + QUEUE; i++) world.send("client", 10);
    while (world.travelling.server.length + world.travelling.client.length > 0) {
      world.apply({ kind: "deliver", side: "server", at: 0 });
      world.apply({ kind: "deliver", side: "client", at: 0 });
    }
    expect(world.missing("client")).toBe(0);
    expect(world.now).toBe(start);
  });

  test("both sides begin a new session when a counter has reached its end", () => {
    const world = settled({ maxFrames: 5 });
    const first = world.session.client;
    for (let i = 0; i < 10; i++) {
      world.send("client", 10);
      world.send("server", 10);
      world.settle();
    }
    expect(world.session.client).not.toBe(first);
    expect(world.session.server).toBe(world.session.client);
  });

  test("a message beyond the limit is refused before it is encrypted, and unopened when received", () => {
    let encrypted = 0;
    const crypto = {
      ...nodeLinkCrypto,
      aes256Ctr: (...given: Parameters<typeof nodeLinkCrypto.aes256Ctr>) => {
        encrypted++;
        return nodeLinkCrypto.aes256Ctr(...given);
      },
    };
    const client = linkClient({ crypto, linkKey: new Uint8Array(32), maxMessageBytes: 100 });
    expect(codeThrown(() => client.send(new Uint8Array(101), 0))).toBe("message-too-large");
    expect(codeThrown(() => client.send(new Uint8Array(0), 0))).toBe("message-malformed");
    expect(codeThrown(() => client.send(new Uint8Array(100), 0))).toBe("link-down");
    const world = settled();
    const frame = concat([world.recorded.server[1]!, new Uint8Array(world.maxMessageBytes + 1)]);
    world.hand("server", frame);
    expect(world.rejected["message-too-large"]).toBe(1);
    expect(encrypted).toBe(0);
  });

  test("every changed bit and every cut of a frame is refused", () => {
    const world = settled();
    world.send("client", 4);
    const frame = world.travelling.server.shift()!;
    for (let bit = 0; bit < 8 * frame.length; bit++) {
      const changed = frame.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      world.hand("server", changed);
    }
    for (let length = 0; length < frame.length; length++) world.hand("server", frame.slice(0, length));
    expect(world.deliveries).toBe(0);
    world.hand("server", frame);
    expect(world.deliveries).toBe(1);
  });

  test("nothing readable travels, and nothing is encrypted twice alike", () => {
    const world = settled();
    for (let i = 0; i < 3; i++) world.send("client", 64);
    const bodies = world.travelling.server.map(frame => toHex(frame.subarray(15, -16)));
    expect(new Set(bodies).size).toBe(3);
    for (const body of bodies) expect(body).not.toContain("0000000000");
  });
});

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return codeOf(error);
  }
  return undefined;
}

describe("the primitives under the link", () => {
  // RFC 5869, appendix A: the three test cases for SHA-256.
  test.each([
    [
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      "000102030405060708090a0b0c",
      "f0f1f2f3f4f5f6f7f8f9",
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ],
    [
      span(0x00, 80),
      span(0x60, 80),
      span(0xb0, 80),
      "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ],
    [
      "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
      "",
      "",
      "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ],
  ])("HKDF gives the published output of case %#", (ikm, salt, info, okm) => {
    expect(toHex(hkdf(fromHex(ikm), fromHex(salt), fromHex(info), okm.length / 2))).toBe(okm);
  });

  test("AES-256-CTR of Node is that of @noble/ciphers, also where the block counter carries over", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.oneof(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.constant(new Uint8Array(16).fill(255))),
        fc.uint8Array({ maxLength: 100 }),
        (key, iv, bytes) => {
          expect(nodeLinkCrypto.aes256Ctr(key, iv, bytes)).toEqual(ctr(key, iv).encrypt(bytes));
        },
      ),
      { numRuns: 50 },
    );
  });
});

/** Consecutive byte values as hex. */
function span(first: number, count: number): string {
  return toHex(Uint8Array.from({ length: count }, (_, i) => first + i));
}
