import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { DeviceIdentity } from "../../device/identity.ts";
import {
  decodeIdentity,
  encodeIdentity,
  MAX_IDENTITY_BYTES,
  MAX_PAYEES,
} from "../../device/vault/identity.ts";
import { decodeCbor, encodeCbor } from "../cbor.ts";
import { codeFrom, randomBytes, seeded, someIdentity } from "./tools.ts";

const identity = someIdentity();

describe("A device's identity", () => {
  test("survives encoding, on every network", () => {
    for (const network of ["mainnet", "testnet", "signet", "regtest"] as const) {
      expect(decodeIdentity(encodeIdentity({ ...identity, network }))).toEqual({ ...identity, network });
    }
  });

  test("fits into its place in flash at its largest", () => {
    const largest: DeviceIdentity = {
      ...identity,
      brokerUrl: "m".repeat(255),
      brokerPassword: "p".repeat(128),
      shutdownScript: new Uint8Array(42),
      birthHeight: 2 ** 32 - 1,
      birthTime: 2 ** 53 - 1,
      policy: {
        perPaymentMsat: 2 ** 53 - 1,
        perHourMsat: 2 ** 53 - 1,
        perDayMsat: 2 ** 53 - 1,
        payees: new Array(MAX_PAYEES).fill(identity.fundingKey),
        minFeeratePerKw: 2 ** 32 - 1,
        maxFeeratePerKw: 2 ** 32 - 1,
        maxToSelfDelay: 65535,
        maxCltvExpiryDelta: 65535,
        maxDustSat: 2 ** 53 - 1,
        maxCloseFeeSat: 2 ** 53 - 1,
      },
    };
    const encoded = encodeIdentity(largest);
    expect(encoded.length).toBeLessThanOrEqual(MAX_IDENTITY_BYTES);
    expect(decodeIdentity(encoded)).toEqual(largest);
  });

  const wrong: [string, unknown][] = [
    ["a network that there is not", { network: "liquid" }],
    ["a name that is too short", { deviceId: "abcd234" }],
    ["a name with a wrong character", { deviceId: "abcd2341" }],
    ["a link key that is too long", { linkKey: new Uint8Array(33) }],
    ["a public key that is not compressed", { fundingKey: new Uint8Array(33).fill(4) }],
    ["a payee that is no key", { policy: { ...identity.policy, payees: [new Uint8Array(33)] } }],
    ["a limit that is negative", { policy: { ...identity.policy, perDayMsat: -1 } }],
    ["a limit that is no whole number", { policy: { ...identity.policy, perHourMsat: 0.5 } }],
    ["no feerate that is allowed", { policy: { ...identity.policy, minFeeratePerKw: 30_000 } }],
    ["no policy", { policy: undefined }],
    ["no drbg seed", { drbgSeed: undefined }],
  ];
  test.each(wrong)("with %s is refused", (_, part) => {
    const changed = { ...identity, ...(part as Partial<DeviceIdentity>) };
    expect(codeFrom(() => encodeIdentity(changed))).toBe("identity-malformed");
  });

  test("is refused when it was made by something that checks less", () => {
    const fields = decodeCbor(encodeIdentity(identity)) as { [key: number]: never };
    for (const changed of [
      { ...fields, 1: "liquid" },
      { ...fields, 2: "ABCD2345" },
      { ...fields, 14: new Uint8Array(33) },
      { ...fields, 21: 1 },
      { ...fields, 18: { ...(fields[18] as unknown as object), 4: [new Uint8Array(32)] } },
    ]) {
      expect(codeFrom(() => decodeIdentity(encodeCbor(changed as never)))).toBe("identity-malformed");
    }
  });

  test("of random, cut, or changed bytes is refused or is what its encoding says", () => {
    const encoded = encodeIdentity(identity);
    fc.assert(
      fc.property(fc.integer(), seed => {
        const random = seeded(seed);
        let bytes = Uint8Array.from(encoded);
        const style = random();
        if (style < 0.2) bytes = Uint8Array.from(randomBytes(random, 300));
        else if (style < 0.4) bytes = bytes.slice(0, Math.floor(random() * bytes.length));
        else bytes[Math.floor(random() * bytes.length)]! ^= 1 << Math.floor(random() * 8);
        let decoded: DeviceIdentity;
        try {
          decoded = decodeIdentity(bytes);
        } catch (error) {
          expect((error as { code?: string }).code).toBe("identity-malformed");
          return;
        }
        expect(Buffer.compare(encodeIdentity(decoded), bytes)).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});
