import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { decodePairingCode, deviceIdFrom, encodePairingCode } from "../../src/pairing/code.ts";
import { codeThrownBy } from "../thrown.ts";

const code = {
  deviceId: "ab2cd3ef",
  host: "192.168.1.10",
  port: 1883,
  secret: Uint8Array.from({ length: 16 }, (_, i) => i * 15),
};
const ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

describe("a pairing code", () => {
  test("goes there and back, in groups of four that may be typed in any way", () => {
    const text = encodePairingCode(code);
    expect(text).toMatch(/^lnga te1[a-z0-9]( [a-z0-9]{4})+( [a-z0-9]{1,3})?$/);
    expect(decodePairingCode(text)).toEqual(code);
    expect(decodePairingCode(text.toUpperCase().replaceAll(" ", "-"))).toEqual(code);
    expect(decodePairingCode(`\n ${text.replaceAll(" ", "")} `)).toEqual(code);
  });

  test("carries any device, secret, port and address", () => {
    const host = fc.oneof(
      fc.ipV4(),
      fc.domain().filter(name => name.length <= 64),
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 5, maxLength: 5 }),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.integer({ min: 1, max: 65535 }),
        host,
        (id, secret, port, host) => {
          const made = { deviceId: deviceIdFrom(id), secret, port, host };
          expect(decodePairingCode(encodePairingCode(made))).toEqual(made);
        },
      ),
    );
  });

  test("with one to three wrong characters is noticed as a typing mistake", () => {
    const text = encodePairingCode({ ...code, host: "gateway.example.org" }).replaceAll(" ", "");
    const data = text.length - "lngate1".length;
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(fc.nat(data - 1), fc.integer({ min: 1, max: 31 })), {
          minLength: 1,
          maxLength: 3,
          selector: ([at]) => at,
        }),
        mistakes => {
          const typed = [...text];
          for (const [at, shift] of mistakes) {
            const place = at + "lngate1".length;
            typed[place] = ALPHABET[(ALPHABET.indexOf(typed[place]!) + shift) % 32]!;
          }
          expect(() => decodePairingCode(typed.join(""))).toThrow(
            expect.objectContaining({
              code: "pairing-code-malformed",
              message: expect.stringContaining("typing mistake"),
            }),
          );
        },
      ),
    );
  });

  test("cut short, of another kind or with an impossible address is refused", () => {
    const text = encodePairingCode(code);
    for (const bad of ["", "lngate1", text.slice(0, -2), text.replace("lnga te1", "lnbc 1"), `${text}qqqq`])
      expect(codeThrownBy(() => decodePairingCode(bad))).toBe("pairing-code-malformed");
    for (const bad of ["", "no host", "-x", "x".repeat(65), "fd00::1"])
      expect(codeThrownBy(() => encodePairingCode({ ...code, host: bad }))).toBe("pairing-code-malformed");
  });
});
