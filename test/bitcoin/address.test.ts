import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { addressScript, scriptAddress } from "../../src/bitcoin/address.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import {
  BECH32,
  BECH32M,
  bytesOfWords,
  decodeBech32,
  encodeBech32,
  packWords,
  wordsOf,
} from "../../src/bytes/bech32.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeThrownBy } from "../thrown.ts";

const NETWORKS: readonly Network[] = ["mainnet", "testnet", "signet", "regtest"];

/** BIP 173: valid as Bech32. */
const BECH32_TEXTS = [
  "A12UEL5L",
  "a12uel5l",
  "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
  "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
  `1${"1".padEnd(83, "q")}c8247j`,
  "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
  "?1ezyfcl",
];

/** BIP 350: valid as Bech32m. */
const BECH32M_TEXTS = [
  "A1LQFN3A",
  "a1lqfn3a",
  "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
  "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
  `11${"l".repeat(82)}ludsr8`,
  "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
  "?1v759aa",
];

/** BIP 173: no Bech32. */
const NO_BECH32 = [
  " 1nwldj5",
  "\u007f1axkwrx",
  "\u00801eym55h",
  "an84characterslonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1569pvx",
  "pzry9x0s0muk",
  "1pzry9x0s0muk",
  "x1b4n0q5v",
  "li1dgmt3",
  "de1lg7wt\u00ff",
  "A1G7SGD8",
  "10a06t8",
  "1qzzfhee",
  "",
  "A12uEL5L",
];

/** BIP 350: no Bech32m. */
const NO_BECH32M = [
  " 1xj0phk",
  "\u007f1g6xzxy",
  "\u00801vctc34",
  "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4",
  "qyrz8wqd2c9m",
  "1qyrz8wqd2c9m",
  "y1b0jsk6g",
  "lt1igcx5c0",
  "in1muywd",
  "mm1crxm3i",
  "au1s5cgom",
  "M1VUXWEZ",
  "16plkw9",
  "1p2gdwpf",
];

describe("Bech32 text", () => {
  const cases = [
    ...BECH32_TEXTS.map(text => [text, BECH32, BECH32M] as const),
    ...BECH32M_TEXTS.map(text => [text, BECH32M, BECH32] as const),
  ];

  test.each(cases)("%s is read, written again, and is not of the other variant", (text, variant, other) => {
    const { prefix, words } = decodeBech32(text, variant, 90);
    expect(encodeBech32(prefix, words, variant)).toBe(text.toLowerCase());
    expect(codeThrownBy(() => decodeBech32(text, other, 90))).toBe("bad-bech32");
  });

  test.each(NO_BECH32)("%j is no Bech32", text => {
    expect(codeThrownBy(() => decodeBech32(text, BECH32, 90))).toBe("bad-bech32");
  });

  test.each(NO_BECH32M)("%j is no Bech32m", text => {
    expect(codeThrownBy(() => decodeBech32(text, BECH32M, 90))).toBe("bad-bech32");
  });

  test("has no letters beyond ASCII that only become ordinary in lower case", () => {
    const words = wordsOf(new Uint8Array(7));
    const text = encodeBech32("kk", words, BECH32).toUpperCase();
    expect(decodeBech32(text, BECH32, 90).prefix).toBe("kk");
    const kelvin = text.replace("K", "\u212a");
    expect(codeThrownBy(() => decodeBech32(kelvin, BECH32, 90))).toBe("bad-bech32");
  });

  test("carries any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), bytes => {
        const { words } = decodeBech32(encodeBech32("lngate", wordsOf(bytes), BECH32), BECH32, 120);
        expect(bytesOfWords(words)).toEqual(bytes);
        expect(packWords(words).subarray(0, bytes.length)).toEqual(bytes);
      }),
    );
  });

  test("does not survive the change of any one character", () => {
    const text = encodeBech32("lngate", wordsOf(fromHex("00112233445566778899aabbccddeeff")), BECH32);
    const change = fc.tuple(fc.nat(text.length - 1), fc.constantFrom(..."qpzry9x8gf2tvdw0s3jn54khce6mua7l"));
    fc.assert(
      fc.property(change, ([at, letter]) => {
        fc.pre(text[at] !== letter);
        const changed = text.slice(0, at) + letter + text.slice(at + 1);
        expect(codeThrownBy(() => decodeBech32(changed, BECH32, 90))).toBe("bad-bech32");
      }),
    );
  });
});

/** BIP 350's valid addresses and their output scripts. */
const ADDRESSES: readonly [string, Network, string][] = [
  ["BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "mainnet", "0014751e76e8199196d454941c45d1b3a323f1433bd6"],
  [
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
    "testnet",
    "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
  ],
  [
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
    "mainnet",
    "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
  ],
  ["BC1SW50QGDZ25J", "mainnet", "6002751e"],
  ["bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "mainnet", "5210751e76e8199196d454941c45d1b3a323"],
  [
    "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
    "signet",
    "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
  ],
  [
    "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
    "testnet",
    "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
  ],
  [
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
    "mainnet",
    "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
  ],
];

/** BIP 350's invalid addresses, and kinds of address that are not segwit. */
const NO_ADDRESSES = [
  "tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut",
  "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
  "tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf",
  "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
  "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
  "tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47",
  "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
  "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",
  "bc1pw5dgrnzv",
  "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
  "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",
  "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",
  "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
  "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j",
  "bc1gmk9yu",
  "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
  "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
  "",
];

describe("addresses", () => {
  test.each(ADDRESSES)("%s is one of %s", (address, network, hex) => {
    expect(toHex(addressScript(address, network))).toBe(hex);
    expect(scriptAddress(fromHex(hex), network)).toBe(address.toLowerCase());
  });

  test.each(NO_ADDRESSES)("%j is none", address => {
    for (const network of NETWORKS) {
      expect(codeThrownBy(() => addressScript(address, network))).toBe("bad-address");
    }
  });

  test("of another network are told from wrong ones", () => {
    const script = fromHex("0014751e76e8199196d454941c45d1b3a323f1433bd6");
    const regtest = scriptAddress(script, "regtest");
    expect(regtest.slice(0, 6)).toBe("bcrt1q");
    expect(codeThrownBy(() => addressScript(regtest, "mainnet"))).toBe("wrong-network");
    expect(codeThrownBy(() => addressScript(scriptAddress(script, "mainnet"), "regtest"))).toBe(
      "wrong-network",
    );
    expect(addressScript(scriptAddress(script, "testnet"), "signet")).toEqual(script);
  });

  test("stand for every segwit script and for no other", () => {
    const programs = fc.uint8Array({ minLength: 2, maxLength: 40 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16 }),
        programs,
        fc.constantFrom(...NETWORKS),
        (version, program, network) => {
          const script = new Uint8Array([80 + version, program.length, ...program]);
          expect(addressScript(scriptAddress(script, network), network)).toEqual(script);
        },
      ),
    );
    for (const hex of [
      "",
      "00",
      "0014",
      "76a914000000000000000000000000000000000000000088ac",
      "4f020102",
      "61020102",
    ]) {
      expect(codeThrownBy(() => scriptAddress(fromHex(hex), "mainnet"))).toBe("bad-address");
    }
  });

  test("are read from any text without another kind of error", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map(text => `bc1q${text}`),
        ),
        text => {
          expect(codeThrownBy(() => addressScript(text, "mainnet"))).toBe("bad-address");
        },
      ),
    );
  });
});
