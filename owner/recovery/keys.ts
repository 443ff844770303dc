/** Private keys from the owner's words, for spending: made when they are needed and kept nowhere. */

import { createBase58check } from "@scure/base";
import { HDKey } from "@scure/bip32";
import { mnemonicToSeedSync } from "@scure/bip39";
import type { Network } from "../../src/bitcoin/network.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { ascii, concat, u32be } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { hmacSha256, sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";
import {
  type ColdKeys,
  checkWords,
  coldKeys,
  type DeviceSecrets,
  deviceSecrets,
  type OwnerKeys,
  ownerKeysFromSeed,
} from "../folder/seed.ts";

/** A private key and the P2WPKH script that pays it. */
export interface WalletKey {
  readonly secret: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly script: Uint8Array;
}

/** Secrets of a device's cold keys. */
export interface ColdSecrets {
  readonly payment: Uint8Array;
  readonly delayedPayment: Uint8Array;
  readonly depositOwner: Uint8Array;
}

/** All keys of the words, by the devices' numbers. */
export interface RecoveryKeys {
  readonly network: Network;
  readonly owner: OwnerKeys;
  cold(index: number): ColdKeys;
  coldSecrets(index: number): ColdSecrets;
  /** Address `index` of the ordinary account, or of its change (`m/84'/c'/0'/1/index`). */
  wallet(index: number, change?: boolean): WalletKey;
  /** The secrets of the device whose threshold key is Q. */
  device(fundingKey: Uint8Array): Omit<DeviceSecrets, "drbgSeed">;
  /** Its per-commitment point `number` in its channel `index`. */
  commitmentPoint(fundingKey: Uint8Array, index: number, number: number): Uint8Array;
}

/** Throws `words-invalid`. */
export function recoveryKeys(words: string, network: Network): RecoveryKeys {
  const seed = mnemonicToSeedSync(checkWords(words));
  const root = HDKey.fromMasterSeed(seed);
  const coin = network === "mainnet" ? 0 : 1;
  const owner = ownerKeysFromSeed(seed, network);
  const coldRoot = root.derive(`m/5441'/${coin}'/0'`);
  const walletRoot = root.derive(`m/84'/${coin}'/0'`);
  const device = (fundingKey: Uint8Array) => deviceSecrets(owner.hotSecret, fundingKey, new Uint8Array(32));
  return {
    network,
    owner,
    cold: index => coldKeys(owner, index),
    coldSecrets(index) {
      const secret = (branch: number) => coldRoot.deriveChild(branch).deriveChild(index).privateKey!;
      return { payment: secret(0), delayedPayment: secret(1), depositOwner: secret(2) };
    },
    wallet(index, change = false) {
      return walletKey(walletRoot.deriveChild(change ? 1 : 0).deriveChild(index).privateKey!);
    },
    device,
    commitmentPoint(fundingKey, index, number) {
      const seedOfChannel = concat([ascii("shachain"), u32be(index)]);
      const master = device(fundingKey).commitmentMaster;
      return nobleCurve.publicKey(commitmentSecret(hmacSha256(master, seedOfChannel), number));
    },
  };
}

function walletKey(secret: Uint8Array): WalletKey {
  const publicKey = nobleCurve.publicKey(secret);
  return { secret, publicKey, script: p2wpkh(publicKey) };
}

/** A private key in wallet import format, as `dumpprivkey` and paper wallets have it. Throws `coin-key-invalid`. */
export function readWif(text: string, network: Network): WalletKey {
  const bad = (why: string) =>
    lngateError("coin-key-invalid", `this is not a private key for ${network}: ${why}`);
  let bytes: Uint8Array;
  try {
    bytes = createBase58check(sha256).decode(text.trim());
  } catch {
    throw bad("it is not in wallet import format, or has a typing mistake");
  }
  if (bytes[0] !== (network === "mainnet" ? 0x80 : 0xef)) throw bad("it belongs to another network");
  if (bytes.length !== 34 || bytes[33] !== 1) throw bad("only compressed keys have segwit addresses");
  return walletKey(bytes.slice(1, 33));
}
