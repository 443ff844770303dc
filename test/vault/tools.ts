/** What the vault's tests share: power that can be cut, seeded randomness, a search through raw flash. */

import type { DeviceIdentity } from "../../device/identity.ts";
import { DEFAULT_POLICY } from "../../device/identity.ts";
import { type MemoryFlash, memoryFlash } from "../../device/vault/memory-flash.ts";
import { codeOf, lngateError } from "../../src/errors.ts";

/** Numbers from 0 up to 1; the seed decides all of them (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomBytes(random: () => number, length: number): Uint8Array {
  return new Uint8Array(length).map(() => Math.floor(random() * 256));
}

/** The code of what `step` throws. */
export function codeFrom(step: () => unknown): string | undefined {
  try {
    step();
  } catch (error) {
    return codeOf(error);
  }
  throw lngateError("nothing-thrown", "the step succeeded");
}

/** Runs `step`; true if the power was cut in it. Anything else that it throws is passed on. */
export function powerFails(step: () => void): boolean {
  try {
    step();
  } catch (error) {
    if (codeOf(error) === "power-cut") return true;
    throw error;
  }
  return false;
}

/** The same chip, switched on again. */
export function powerOn(flash: MemoryFlash): MemoryFlash {
  return memoryFlash(flash.pageBytes, flash.pageCount, flash.image());
}

/** Whether these bytes are anywhere in the chip. */
export function contains(flash: MemoryFlash, bytes: Uint8Array): boolean {
  return Buffer.from(flash.image()).includes(Buffer.from(bytes));
}

/** An identity whose secrets are made from a number. */
export function someIdentity(seed = 1): DeviceIdentity {
  const random = seeded(seed);
  const key = () => Uint8Array.from([2, ...randomBytes(random, 32)]);
  return {
    network: "regtest",
    deviceId: "abcd2345",
    brokerUrl: "mqtt://127.0.0.1:1883",
    brokerPassword: "correct horse",
    linkKey: randomBytes(random, 32),
    drbgSeed: randomBytes(random, 32),
    commitmentMaster: randomBytes(random, 32),
    revocationBasepointSecret: randomBytes(random, 32),
    htlcBasepointSecret: randomBytes(random, 32),
    revocationBasepoint: key(),
    htlcBasepoint: key(),
    paymentBasepoint: key(),
    delayedPaymentBasepoint: key(),
    fundingKey: key(),
    depositOwnerKey: key(),
    depositDelay: 4320,
    shutdownScript: Uint8Array.from([0, 20, ...randomBytes(random, 20)]),
    policy: { ...DEFAULT_POLICY, payees: [key(), key()] },
    birthHeight: 101,
    birthTime: 1_700_000_000,
  };
}
