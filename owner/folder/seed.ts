/**
 * What follows from the owner's 24 words (BIP 39). The words are shown once and kept nowhere; from them come
 *
 *   m/84'/c'/0'          an ordinary BIP 84 account: device number i closes to its address 0/i, so that any
 *                        wallet restored from the words finds what a mutual close paid
 *   m/5441'/c'/0'        cold keys of device number i: 0/i payment basepoint (what the bridge's commitments pay),
 *                        1/i delayed payment basepoint (what an exit pays), 2/i the owner's key of the deposit
 *   m/5441'/c'/1'        the hot branch, below
 *
 * with c = 0 on mainnet and 1 elsewhere. The computer keeps the two accounts as *public* keys, which are enough to
 * name every cold key, and of the hot branch its 32-byte secret, from which a device's own secrets follow:
 *
 *   HMAC-SHA512(hot secret, label ‖ Q), mod n for a scalar, its first 32 bytes otherwise
 *
 * Q, the threshold key, is different for every pairing whatever the gateway does, so two devices never share a
 * per-commitment secret, and words plus Q (which the backup, the gateway and the chain know) are enough to find
 * everything again.
 */

import { secp256k1 } from "@noble/curves/secp256k1.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { HDKey } from "@scure/bip32";
import { generateMnemonic, mnemonicToSeedSync, validateMnemonic } from "@scure/bip39";
import { wordlist } from "@scure/bip39/wordlists/english.js";
import type { Network } from "../../src/bitcoin/network.ts";
import { ascii, concat } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { ripemd160, sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";

/** What the owner's computer keeps of the words. */
export interface OwnerKeys {
  /** BIP 84 account, as an xpub. */
  readonly closeXpub: string;
  /** Account of the cold keys, as an xpub. */
  readonly coldXpub: string;
  /** 32 B. Secret. */
  readonly hotSecret: Uint8Array;
}

/** Public keys (33 B) of one device's cold keys, and the script that a mutual close pays. */
export interface ColdKeys {
  readonly paymentBasepoint: Uint8Array;
  readonly delayedPaymentBasepoint: Uint8Array;
  readonly depositOwnerKey: Uint8Array;
  /** P2WPKH scriptPubKey. */
  readonly shutdownScript: Uint8Array;
}

/** The device's own secrets, and the public keys of the two that have one. */
export interface DeviceSecrets {
  readonly commitmentMaster: Uint8Array;
  readonly revocationBasepointSecret: Uint8Array;
  readonly htlcBasepointSecret: Uint8Array;
  readonly revocationBasepoint: Uint8Array;
  readonly htlcBasepoint: Uint8Array;
  /** Different each time it is made: a random generator must never start twice from one seed. */
  readonly drbgSeed: Uint8Array;
}

const { Fn } = secp256k1.Point;

/** 24 new words. */
export function newWords(): string {
  return generateMnemonic(wordlist, 256);
}

/** Brings typed words into their one form. Throws `words-invalid`, naming the first that is in no list. */
export function checkWords(typed: string): string {
  const words = typed.normalize("NFKD").trim().toLowerCase().split(/\s+/);
  if (words.length !== 24)
    throw lngateError("words-invalid", `24 words are needed, these are ${words.length}`);
  const unknown = words.findIndex(word => !wordlist.includes(word));
  if (unknown >= 0)
    throw lngateError("words-invalid", `word number ${unknown + 1} is not in the English list of BIP 39`);
  if (!validateMnemonic(words.join(" "), wordlist))
    throw lngateError(
      "words-invalid",
      "every word is in the list, but their checksum is wrong: one is another, or the order is",
    );
  return words.join(" ");
}

/** What to keep of the words. Throws `words-invalid`. */
export function ownerKeysFrom(words: string, network: Network): OwnerKeys {
  return ownerKeysFromSeed(mnemonicToSeedSync(checkWords(words)), network);
}

/** `ownerKeysFrom` on the 64 bytes that BIP 39 makes of the words. */
export function ownerKeysFromSeed(seed: Uint8Array, network: Network): OwnerKeys {
  const root = HDKey.fromMasterSeed(seed);
  const coin = network === "mainnet" ? 0 : 1;
  return {
    closeXpub: root.derive(`m/84'/${coin}'/0'`).publicExtendedKey,
    coldXpub: root.derive(`m/5441'/${coin}'/0'`).publicExtendedKey,
    hotSecret: root.derive(`m/5441'/${coin}'/1'`).privateKey!,
  };
}

/** Cold keys of device number `index`. */
export function coldKeys(keys: Pick<OwnerKeys, "closeXpub" | "coldXpub">, index: number): ColdKeys {
  const cold = HDKey.fromExtendedKey(keys.coldXpub);
  const branch = (number: number) => cold.deriveChild(number).deriveChild(index).publicKey!;
  const close = HDKey.fromExtendedKey(keys.closeXpub).deriveChild(0).deriveChild(index).publicKey!;
  return {
    paymentBasepoint: branch(0),
    delayedPaymentBasepoint: branch(1),
    depositOwnerKey: branch(2),
    shutdownScript: concat([new Uint8Array([0x00, 0x14]), ripemd160(sha256(close))]),
  };
}

/** Secrets of the device whose threshold key is `fundingKey`; `fresh` is 32 new random bytes. */
export function deviceSecrets(
  hotSecret: Uint8Array,
  fundingKey: Uint8Array,
  fresh: Uint8Array,
): DeviceSecrets {
  const wide = (label: string, more: Uint8Array = new Uint8Array(0)) =>
    hmac(sha512, hotSecret, concat([ascii(`lngate/1/${label}`), fundingKey, more]));
  const scalar = (label: string) => {
    // 512 bits mod n: the bias is 2^-256.
    const value = Fn.create(BigInt(`0x${Buffer.from(wide(label)).toString("hex")}`));
    if (value === 0n) throw lngateError("bad-scalar", "a derived secret is zero, which never happens");
    return Fn.toBytes(value);
  };
  const revocationBasepointSecret = scalar("revocation");
  const htlcBasepointSecret = scalar("htlc");
  return {
    commitmentMaster: wide("commitment").slice(0, 32),
    revocationBasepointSecret,
    htlcBasepointSecret,
    revocationBasepoint: nobleCurve.publicKey(revocationBasepointSecret),
    htlcBasepoint: nobleCurve.publicKey(htlcBasepointSecret),
    drbgSeed: wide("drbg", fresh).slice(0, 32),
  };
}
