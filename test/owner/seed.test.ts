import { describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { mnemonicToSeedSync } from "@scure/bip39";
import {
  checkWords,
  coldKeys,
  deviceSecrets,
  newWords,
  ownerKeysFrom,
  ownerKeysFromSeed,
} from "../../owner/folder/seed.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { ripemd160, sha256 } from "../../src/crypto/hash.ts";
import { codeThrownBy } from "../thrown.ts";

const ZERO_WORDS = `${"abandon ".repeat(23)}art`;
const Q = secp256k1.Point.BASE.toBytes(true);

describe("the owner's words", () => {
  test("are 24, and new each time", () => {
    const words = newWords();
    expect(words.split(" ")).toHaveLength(24);
    expect(checkWords(`  ${words.toUpperCase().replaceAll(" ", "\n ")} `)).toBe(words);
    expect(newWords()).not.toBe(words);
  });

  test("with a mistake are refused, saying which", () => {
    expect(codeThrownBy(() => checkWords("abandon art"))).toBe("words-invalid");
    expect(() => checkWords(ZERO_WORDS.replace("art", "lnart"))).toThrow(/word number 24/);
    expect(() => checkWords(ZERO_WORDS.replace("art", "zoo"))).toThrow(/checksum/);
  });

  test("pay a mutual close to the first address of the ordinary wallet of the words", () => {
    // The test vectors of BIP 84: twelve words, first receiving address.
    const seed = mnemonicToSeedSync(`${"abandon ".repeat(11)}about`);
    const { shutdownScript } = coldKeys(ownerKeysFromSeed(seed, "mainnet"), 0);
    const key = fromHex("0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c");
    expect(toHex(shutdownScript)).toBe(`0014${toHex(ripemd160(sha256(key)))}`);
  });

  test("give every device, and every purpose, keys of its own that public keys alone name", () => {
    const { closeXpub, coldXpub } = ownerKeysFrom(ZERO_WORDS, "regtest");
    const all = [0, 1].flatMap(index => Object.values(coldKeys({ closeXpub, coldXpub }, index)).map(toHex));
    expect(new Set(all).size).toBe(8);
    const main = ownerKeysFrom(ZERO_WORDS, "mainnet");
    expect(toHex(coldKeys(main, 0).paymentBasepoint)).not.toBe(all[0]);
  });

  test("give a device secrets that follow from them and its threshold key; only the generator's seed is new", () => {
    const { hotSecret } = ownerKeysFrom(ZERO_WORDS, "regtest");
    const once = deviceSecrets(hotSecret, Q, new Uint8Array(32).fill(1));
    const again = deviceSecrets(hotSecret, Q, new Uint8Array(32).fill(2));
    expect({ ...again, drbgSeed: once.drbgSeed }).toEqual(once);
    expect(again.drbgSeed).not.toEqual(once.drbgSeed);
    const other = deviceSecrets(hotSecret, secp256k1.Point.BASE.double().toBytes(true), new Uint8Array(32));
    expect(other.commitmentMaster).not.toEqual(once.commitmentMaster);
    expect(other.revocationBasepointSecret).not.toEqual(once.revocationBasepointSecret);
    expect(secp256k1.getPublicKey(once.htlcBasepointSecret, true)).toEqual(once.htlcBasepoint);
  });
});
