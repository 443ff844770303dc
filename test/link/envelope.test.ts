import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import {
  decrypt,
  handshakeKey,
  noSession,
  openFrame,
  openHello,
  openWelcome,
  sealAck,
  sealData,
  sealHello,
  sealWelcome,
  sessionKeys,
} from "../../src/link/envelope.ts";
import { identityOfUpTopic, isIdentity, linkTopic, publishBytes } from "../../src/link/topics.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";

/** Consecutive byte values. */
function span(first: number, count: number): Uint8Array {
  return new Uint8Array(count).map((_, i) => first + i);
}

describe("the example in docs/wire.md", () => {
  const linkKey = span(0x00, 32);
  const nonceD = span(0x20, 16);
  const nonceG = span(0x30, 16);
  const key = handshakeKey(linkKey);
  const { session, up, down } = sessionKeys(linkKey, nonceD, nonceG);
  const example = {
    "handshake key": key,
    "up encryption": up.encryption,
    "up authentication": up.authentication,
    "down encryption": down.encryption,
    "down authentication": down.authentication,
    hello: sealHello(key, nonceD),
    welcome: sealWelcome(key, nonceD, nonceG),
    "first data": sealData(nodeLinkCrypto, up, session, 0, 0, new Uint8Array(0)),
    "second data": sealData(nodeLinkCrypto, up, session, 1, 0, fromHex("a10005")),
    ack: sealAck(down, session, 2),
    "no-session": noSession(session),
  };

  test.each(Object.entries(example))("gives the %s as it is made", (name, bytes) => {
    const line = readFileSync("docs/wire.md", "utf8")
      .split("\n")
      .find(candidate => candidate.startsWith(`${name} `.padEnd(20)));
    expect(line?.slice(20).trim()).toBe(toHex(bytes));
  });

  test("opens again with the same keys", () => {
    expect(openHello(key, example.hello)).toEqual(nonceD);
    expect(openWelcome(key, nonceD, example.welcome)).toEqual(nonceG);
    const { ack, counter, message } = openFrame(up, example["second data"], 3);
    expect([ack, counter, toHex(decrypt(nodeLinkCrypto, up, counter, message!))]).toEqual([0, 1, "a10005"]);
    expect(openFrame(down, example.ack, 3)).toEqual({ ack: 2, counter: 0, message: undefined });
  });
});

describe("topics", () => {
  test("belong to exactly one identity", () => {
    for (const identity of ["abcdefgh", "abcdefgh.owner", "abcdefgh.pair", "a2345672"]) {
      expect(isIdentity(identity)).toBe(true);
      expect(identityOfUpTopic(linkTopic(identity, "up"))).toBe(identity);
      expect(identityOfUpTopic(linkTopic(identity, "down"))).toBeUndefined();
    }
    expect(linkTopic("abcdefgh.owner", "down")).toBe("l/abcdefgh/owner/down");
  });

  test.each([
    "",
    "abcdefg",
    "abcdefghi",
    "ABCDEFGH",
    "abcdefg1",
    "abcdefgh.",
    "abcdefgh.admin",
    "abcdefgh.owner.owner",
    "abcdefgh/owner",
    "+bcdefgh",
    "$SYSabcd",
  ])("%j is nobody", name => {
    expect(isIdentity(name)).toBe(false);
  });

  test.each([
    "",
    "up",
    "l/up",
    "l/abcdefgh",
    "l/abcdefghup",
    "l/abcdefgh.owner/up",
    "lngate/2/abcdefgh/up",
    "x/l/abcdefgh/up",
    "l/abcdefgh/up/",
    "l/abcdefgh/down",
    "l/+/up",
  ])("%j is nobody's", topic => {
    expect(identityOfUpTopic(topic)).toBeUndefined();
  });

  test("count the bytes of MQTT packets at every width of their length", () => {
    // Fixed header, length, topic length 2, topic 3, payload.
    expect(publishBytes("abc", 122)).toBe(1 + 1 + 127);
    expect(publishBytes("abc", 123)).toBe(1 + 2 + 128);
    expect(publishBytes("abc", 16378)).toBe(1 + 2 + 16383);
    expect(publishBytes("abc", 16379)).toBe(1 + 3 + 16384);
    expect(publishBytes("abc", 2097147)).toBe(1 + 4 + 2097152);
  });
});
