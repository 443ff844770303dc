/** A `DeviceIdentity` as bytes: one CBOR struct, read as strictly as a message from outside. */

import { isNetwork } from "../../src/bitcoin/network.ts";
import {
  bytes,
  decodeValue,
  encodeValue,
  list,
  optional,
  struct,
  text,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import { shutdownScriptCodec } from "../../src/channel/device-keys.ts";
import { serviceFeeCodec } from "../../src/channel/service-fee.ts";
import { lngateError } from "../../src/errors.ts";
import type { DeviceIdentity } from "../identity.ts";

/** Most payees in a policy, and what an identity then takes at most. */
export const MAX_PAYEES = 64;
export const MAX_IDENTITY_BYTES = 3520;

const policyCodec = struct({
  perPaymentMsat: [1, uint(UINT53)],
  perHourMsat: [2, uint(UINT53)],
  perDayMsat: [3, uint(UINT53)],
  payees: [4, list(bytes(33), MAX_PAYEES)],
  minFeeratePerKw: [5, uint(UINT32)],
  maxFeeratePerKw: [6, uint(UINT32)],
  maxToSelfDelay: [7, uint(65535)],
  maxCltvExpiryDelta: [8, uint(65535)],
  maxDustSat: [9, uint(UINT53)],
  maxCloseFeeSat: [10, uint(UINT53)],
});

const identityCodec = struct({
  network: [1, text(8)],
  deviceId: [2, text(8)],
  brokerUrl: [3, text(255)],
  brokerPassword: [4, text(128)],
  linkKey: [5, bytes(32)],
  drbgSeed: [6, bytes(32)],
  commitmentMaster: [7, bytes(32)],
  revocationBasepointSecret: [8, bytes(32)],
  htlcBasepointSecret: [9, bytes(32)],
  revocationBasepoint: [10, bytes(33)],
  htlcBasepoint: [11, bytes(33)],
  paymentBasepoint: [12, bytes(33)],
  delayedPaymentBasepoint: [13, bytes(33)],
  fundingKey: [14, bytes(33)],
  depositOwnerKey: [15, bytes(33)],
  depositDelay: [16, uint(65535)],
  shutdownScript: [17, shutdownScriptCodec],
  policy: [18, policyCodec],
  birthHeight: [19, uint(UINT32)],
  birthTime: [20, uint(UINT53)],
  serviceFee: optional([21, serviceFeeCodec]),
});

/** What the owner's computer has told the device since it was paired, in the place of what its identity says. */
const ownersWordCodec = struct({
  policy: [1, policyCodec],
  /** The chain's height, and the time at which it was that, Unix seconds. */
  height: [2, uint(UINT32)],
  time: [3, uint(UINT53)],
});
export type OwnersWord = ValueOf<typeof ownersWordCodec>;

/** Throws `identity-malformed` for a word that this device can't take. */
export function encodeOwnersWord(identity: DeviceIdentity, word: OwnersWord): Uint8Array {
  let encoded: Uint8Array;
  try {
    encoded = encodeValue(ownersWordCodec, word);
  } catch (error) {
    throw malformed((error as Error).message);
  }
  withOwnersWord(identity, encoded);
  return encoded;
}

/** The identity as the owner's last word (or none) has it. Throws `identity-malformed`. */
export function withOwnersWord(identity: DeviceIdentity, encoded: Uint8Array | null): DeviceIdentity {
  if (encoded === null) return identity;
  const { policy, height, time } = decodeValue(ownersWordCodec, encoded);
  const told = { ...identity, policy, birthHeight: height, birthTime: time };
  checkIdentity(told);
  return told;
}

/** The one encoding of an identity. Throws `identity-malformed`. */
export function encodeIdentity(identity: DeviceIdentity): Uint8Array {
  let encoded: Uint8Array;
  try {
    encoded = encodeValue(identityCodec, identity);
  } catch (error) {
    throw malformed((error as Error).message);
  }
  checkIdentity(identity);
  return encoded;
}

/** Throws `identity-malformed` for anything `encodeIdentity` would not have made. */
export function decodeIdentity(encoded: Uint8Array): DeviceIdentity {
  let identity: DeviceIdentity;
  try {
    identity = decodeValue(identityCodec, encoded) as DeviceIdentity;
  } catch (error) {
    throw malformed((error as Error).message);
  }
  checkIdentity(identity);
  return identity;
}

/** What the description of the fields leaves open. */
function checkIdentity(identity: DeviceIdentity): void {
  if (!isNetwork(identity.network)) throw malformed(".network is not a network");
  const { deviceId } = identity;
  // Espruino's regular expressions can't count.
  if (deviceId.length !== 8 || !/^[a-z2-7]+$/.test(deviceId))
    throw malformed(".deviceId is not eight of a-z and 2-7");
  const { policy } = identity;
  const keys: Uint8Array[] = [
    identity.revocationBasepoint,
    identity.htlcBasepoint,
    identity.paymentBasepoint,
    identity.delayedPaymentBasepoint,
    identity.fundingKey,
    identity.depositOwnerKey,
  ];
  for (const key of keys.concat(policy.payees)) {
    if (key[0] !== 2 && key[0] !== 3) throw malformed("holds a public key that is not compressed");
  }
  if (policy.minFeeratePerKw > policy.maxFeeratePerKw)
    throw malformed(".policy has no feerate that it allows");
}

function malformed(sentence: string): Error {
  return lngateError("identity-malformed", `the device's identity ${sentence}`);
}
