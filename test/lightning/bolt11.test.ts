import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import * as ldk from "lightningdevkit";
import { BECH32, decodeBech32, encodeBech32, wordsOf } from "../../src/bytes/bech32.ts";
import { concat, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import {
  checkPayable,
  decodeInvoice,
  type HintHop,
  invoiceHash,
  MAX_INVOICE_LENGTH,
  packInvoice,
  unpackInvoice,
} from "../../src/lightning/bolt11.ts";
import { encodeInvoice, type InvoiceFields } from "../../src/lightning/bolt11-write.ts";
import { codeThrownBy } from "../thrown.ts";
import { describeVectors } from "../vectors.ts";
import { startLdk } from "./ldk.ts";

const HOP_LENGTH = 51;

/** The hops of one of an invoice's routeHints, from the public node to the payee. */
function readHops(hint: Uint8Array): HintHop[] {
  const hops: HintHop[] = [];
  for (let at = 0; at < hint.length; at += HOP_LENGTH) {
    const u16 = (offset: number) => hint[at + offset]! * 256 + hint[at + offset + 1]!;
    hops.push({
      nodeId: hint.slice(at, at + 33),
      shortChannelId: hint.slice(at + 33, at + 41),
      feeBaseMsat: u16(41) * 65536 + u16(43),
      feeProportionalMillionths: u16(45) * 65536 + u16(47),
      cltvExpiryDelta: u16(49),
    });
  }
  return hops;
}

interface InvoiceVectors {
  readonly private_key: string;
  readonly node_id: string;
  readonly valid: readonly { title: string; invoice: string }[];
  readonly invalid: readonly { title: string; invoice: string }[];
}

const HASH = "0001020304050607080900010203040506070809000102030405060708090102";
const SECRET = "11".repeat(32);
const LIST_HASH = "3925b6f67e2c340036ed12093dd44e0368df1b6ea26c53dbe4811f58fd5db8c1";

/** What BOLT #11 says its valid examples contain, in their order. */
const EXPECTED: readonly object[] = [
  { amountMsat: null, description: "Please consider supporting this project" },
  { amountMsat: 250_000_000, description: "1 cup coffee", expirySeconds: 60 },
  { amountMsat: 250_000_000, description: "ナンセンス 1杯", expirySeconds: 60 },
  { amountMsat: 2_000_000_000, description: null, descriptionHash: LIST_HASH },
  { network: "testnet", amountMsat: 2_000_000_000, descriptionHash: LIST_HASH },
  { amountMsat: 2_000_000_000, descriptionHash: LIST_HASH, hops: [2] },
  { amountMsat: 2_000_000_000, descriptionHash: LIST_HASH },
  { amountMsat: 2_000_000_000, descriptionHash: LIST_HASH },
  { amountMsat: 2_000_000_000, descriptionHash: LIST_HASH },
  {
    amountMsat: 967_878_534,
    timestamp: 1_572_468_703,
    expirySeconds: 604_800,
    minFinalCltvExpiryDelta: 10,
    paymentHash: "462264ede7e14047e9b249da94fefc47f41f7d02ee9b091815a5506bc8abf75f",
    hops: [1],
  },
  { amountMsat: 2_500_000_000, description: "coffee beans", features: [8, 14, 99] },
  { amountMsat: 2_500_000_000, description: "coffee beans", features: [8, 14, 99] },
  { amountMsat: 2_500_000_000, description: "coffee beans", features: [8, 14, 99] },
  { amountMsat: 1_000_000_000, description: "payment metadata inside", metadata: "01fafaf0" },
  {
    amountMsat: null,
    description: "Please consider supporting this project",
    // The first example's signature with the other s: which is the signature of another key.
    payee: "02d0139ce7427d6dfffd26a326c18be754ef1e64672b42694ba5b23ef6e6e7803d",
  },
];

describeVectors<InvoiceVectors>("BOLT #11 examples", "bolt11.json", vectors => {
  const cases = vectors.valid.map((vector, i) => ({ ...vector, expected: EXPECTED[i]! }));

  test.each(cases)("valid: $title", ({ invoice, expected }) => {
    const read = decodeInvoice(invoice, curve);
    const shown = {
      ...read,
      paymentHash: toHex(read.paymentHash),
      paymentSecret: toHex(read.paymentSecret),
      payee: toHex(read.payee!),
      descriptionHash: read.descriptionHash && toHex(read.descriptionHash),
      metadata: read.metadata && toHex(read.metadata),
      hops: read.routeHints.map(hint => readHops(hint).length),
    };
    expect(shown).toMatchObject({
      network: "mainnet",
      timestamp: 1_496_314_658,
      expirySeconds: 3600,
      minFinalCltvExpiryDelta: 18,
      paymentHash: HASH,
      paymentSecret: SECRET,
      hops: [],
      metadata: null,
      signatureChecked: true,
      payee: vectors.node_id,
      ...expected,
    });
    expect(unpackInvoice(packInvoice(invoice))).toBe(invoice.toLowerCase());
    expect(packInvoice(invoice).length).toBeLessThan(invoice.length * 0.64);
    const unchecked = decodeInvoice(invoice, null);
    expect(unchecked).toEqual({ ...read, payee: null, signatureChecked: false });
  });

  test.each(vectors.invalid)("invalid: $title", ({ title, invoice }) => {
    const code = title.includes("unknown feature")
      ? "invoice-unknown-feature"
      : title.includes("`s` field")
        ? "invoice-no-payment-secret"
        : "invoice-malformed";
    expect(codeThrownBy(() => decodeInvoice(invoice, curve))).toBe(code);
  });

  test("has a route hint whose hops we read as it says", () => {
    const [hint] = decodeInvoice(vectors.valid[5]!.invoice, curve).routeHints;
    expect(
      readHops(hint!).map(hop => ({
        ...hop,
        nodeId: toHex(hop.nodeId),
        shortChannelId: toHex(hop.shortChannelId),
      })),
    ).toEqual([
      {
        nodeId: "029e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255",
        shortChannelId: "0102030405060708",
        feeBaseMsat: 1,
        feeProportionalMillionths: 20,
        cltvExpiryDelta: 3,
      },
      {
        nodeId: "039e03a901b85534ff1e92c43c74431f7ce72046060fcf7a95c37e148f78c77255",
        shortChannelId: "030405060708090a",
        feeBaseMsat: 2,
        feeProportionalMillionths: 30,
        cltvExpiryDelta: 4,
      },
    ]);
  });
});

const NODE = new Uint8Array(32).fill(9);
const FIELDS: InvoiceFields = {
  network: "regtest",
  amountMsat: 250_000,
  timestamp: 1_700_000_000,
  paymentHash: fromHex(HASH),
  paymentSecret: fromHex(SECRET),
  description: "a toll",
  features: [9, 14],
};
const INVOICE = encodeInvoice(FIELDS, NODE, curve);

const bytes = (minLength: number, maxLength = minLength) => fc.uint8Array({ minLength, maxLength });
const hops: fc.Arbitrary<HintHop> = fc.record({
  nodeId: fc.constantFrom(...[1, 2, 3].map(n => curve.publicKey(new Uint8Array(32).fill(n)))),
  shortChannelId: bytes(8),
  feeBaseMsat: fc.nat(0xffffffff),
  feeProportionalMillionths: fc.nat(0xffffffff),
  cltvExpiryDelta: fc.nat(0xffff),
});
const fields: fc.Arbitrary<InvoiceFields> = fc.record(
  {
    network: fc.constantFrom("mainnet", "testnet", "signet", "regtest"),
    amountMsat: fc.oneof(
      fc.constant(null),
      fc.maxSafeNat().map(n => (n % 1e14) + 1),
      fc.constantFrom(1e11, 3e8, 5e5, 700),
    ),
    timestamp: fc.nat(2 ** 31 - 1).map(n => n * 16),
    paymentHash: bytes(32),
    paymentSecret: bytes(32),
    description: fc.oneof(fc.string({ unit: "grapheme", maxLength: 40 }), bytes(32)),
    expirySeconds: fc.nat(),
    minFinalCltvExpiryDelta: fc.nat(5000),
    metadata: bytes(0, 40),
    nameThePayee: fc.boolean(),
    features: fc
      .uniqueArray(fc.constantFrom(8, 9, 14, 15, 17, 25, 49, 99), { maxLength: 4 })
      .map(all => all.sort((a, b) => a - b)),
    routeHints: fc.array(fc.array(hops, { minLength: 1, maxLength: 3 }), { maxLength: 2 }),
  },
  {
    requiredKeys: [
      "network",
      "amountMsat",
      "timestamp",
      "paymentHash",
      "paymentSecret",
      "description",
      "features",
    ],
  },
);

/** The words of INVOICE changed before the signature, and signed again. */
function rewritten(change: (words: Uint8Array) => Uint8Array, prefix = "lnbcrt2500n"): string {
  const { words } = decodeBech32(INVOICE, BECH32, 2000);
  const changed = change(words.slice(0, words.length - 104));
  return encodeBech32(prefix, concat([changed, words.slice(words.length - 104)]), BECH32);
}

/** Something no invoice of ours ends with, put before the signature. */
const withField = (type: number, data: readonly number[]) =>
  rewritten(words => concat([words, new Uint8Array([type, data.length >> 5, data.length & 31, ...data])]));

describe("an invoice", () => {
  beforeAll(startLdk);

  test("is read as it was written", () => {
    fc.assert(
      fc.property(fields, written => {
        const text = encodeInvoice(written, NODE, curve);
        fc.pre(text.length <= MAX_INVOICE_LENGTH);
        const read = decodeInvoice(text, curve);
        const isText = typeof written.description === "string";
        expect(read).toEqual({
          network: written.network,
          amountMsat: written.amountMsat,
          timestamp: written.timestamp,
          expirySeconds: written.expirySeconds ?? 3600,
          paymentHash: written.paymentHash,
          paymentSecret: written.paymentSecret,
          description: isText ? written.description : null,
          descriptionHash: isText ? null : written.description,
          metadata: written.metadata ?? null,
          payee: curve.publicKey(NODE),
          signatureChecked: true,
          minFinalCltvExpiryDelta: written.minFinalCltvExpiryDelta ?? 18,
          routeHints: read.routeHints,
          features: written.features,
          packed: packInvoice(text),
        });
        expect(read.routeHints.map(readHops)).toEqual(written.routeHints ?? []);
        expect(unpackInvoice(packInvoice(text))).toBe(text);
      }),
      { numRuns: 25 },
    );
  });

  test("is to LDK what it is to us", () => {
    fc.assert(
      fc.property(fields, written => {
        const text = encodeInvoice({ ...written, features: [9, 14] }, NODE, curve);
        fc.pre(text.length <= MAX_INVOICE_LENGTH);
        const result = ldk.Bolt11Invoice.constructor_from_str(text);
        if (!(result instanceof ldk.Result_Bolt11InvoiceParseOrSemanticErrorZ_OK)) {
          throw new Error(`LDK refuses ${text}`);
        }
        const judged = result.res;
        const amount = judged.amount_milli_satoshis();
        const read = decodeInvoice(text, curve);
        expect(toHex(judged.payment_hash())).toBe(toHex(read.paymentHash));
        expect(toHex(judged.payment_secret())).toBe(toHex(read.paymentSecret));
        expect(toHex(judged.recover_payee_pub_key())).toBe(toHex(read.payee!));
        expect(amount instanceof ldk.Option_u64Z_Some ? Number(amount.some) : null).toBe(read.amountMsat);
        expect(Number(judged.duration_since_epoch())).toBe(read.timestamp);
        expect(Number(judged.expiry_time())).toBe(read.expirySeconds);
        expect(Number(judged.min_final_cltv_expiry_delta())).toBe(read.minFinalCltvExpiryDelta);
        expect(judged.route_hints().map(hint => hint.get_a().length)).toEqual(
          read.routeHints.map(hint => readHops(hint).length),
        );
      }),
      { numRuns: 20 },
    );
  });

  test("says whose it is without a curve only if it names the payee, and then unchecked", () => {
    const named = encodeInvoice({ ...FIELDS, nameThePayee: true }, NODE, curve);
    expect(decodeInvoice(named, null)).toMatchObject({
      payee: curve.publicKey(NODE),
      signatureChecked: false,
    });
    expect(decodeInvoice(INVOICE, null)).toMatchObject({ payee: null, signatureChecked: false });
  });

  test("of which one word was changed is refused, or has another payee", () => {
    const { prefix, words } = decodeBech32(INVOICE, BECH32, 2000);
    fc.assert(
      fc.property(fc.nat(words.length - 1), fc.integer({ min: 1, max: 31 }), (at, change) => {
        const changed = words.slice();
        changed[at]! ^= change;
        const text = encodeBech32(prefix, changed, BECH32);
        let payee: Uint8Array | null;
        try {
          payee = decodeInvoice(text, curve).payee;
        } catch (error) {
          expect(codeOf(error)).toMatch(/^invoice-/);
          return;
        }
        expect(payee).not.toEqual(curve.publicKey(NODE));
      }),
      { numRuns: 60 },
    );
  });

  test("that names another payee than its signer is refused", () => {
    const named = encodeInvoice({ ...FIELDS, nameThePayee: true }, NODE, curve);
    const { prefix, words } = decodeBech32(named, BECH32, 2000);
    const hash = invoiceHash(prefix, words.slice(0, -104));
    const forged = curve.sign(hash, new Uint8Array(32).fill(8));
    const text = encodeBech32(
      prefix,
      concat([words.slice(0, -104), wordsOf(concat([forged, new Uint8Array(1)]))]),
      BECH32,
    );
    expect(codeThrownBy(() => decodeInvoice(text, curve))).toBe("invoice-malformed");
  });

  test("never makes the reader fail in another way, whatever the text", () => {
    const texts = fc.oneof(
      fc.string(),
      fc.uint8Array({ maxLength: 300, max: 31 }).map(words => encodeBech32("lnbc1u", words, BECH32)),
      fc
        .tuple(fc.string({ maxLength: 8 }), fc.uint8Array({ maxLength: 40, max: 31 }))
        .map(([amount, data]) => rewritten(words => concat([words, data]), `lnbcrt${amount}`)),
    );
    fc.assert(
      fc.property(texts, text => {
        try {
          decodeInvoice(text, null);
        } catch (error) {
          expect(codeOf(error)).toMatch(/^invoice-/);
        }
      }),
      { numRuns: 300 },
    );
  });

  test.each<[string, string, string]>([
    ["a text that is too long", "lnbc1".padEnd(MAX_INVOICE_LENGTH + 1, "q"), "invoice-malformed"],
    ["another prefix than ln", rewritten(words => words, "xxbc1u"), "invoice-malformed"],
    ["a network unknown here", rewritten(words => words, "lnxy1u"), "invoice-wrong-network"],
    ["an amount with a leading zero", rewritten(words => words, "lnbcrt01u"), "invoice-malformed"],
    ["an amount of zero", rewritten(words => words, "lnbcrt0u"), "invoice-malformed"],
    ["a unit without an amount", rewritten(words => words, "lnbcrtu"), "invoice-malformed"],
    ["a sign before the amount", rewritten(words => words, "lnbcrt-1u"), "invoice-malformed"],
    ["more than a double can count", rewritten(words => words, "lnbcrt90072"), "invoice-malformed"],
    ["an endless amount", rewritten(words => words, `lnbcrt${"9".repeat(60)}n`), "invoice-malformed"],
    ["a part of a millisatoshi", rewritten(words => words, "lnbcrt11p"), "invoice-malformed"],
    ["a field cut off", rewritten(words => concat([words, new Uint8Array([1, 1])])), "invoice-malformed"],
    [
      "a field longer than the rest",
      rewritten(words => concat([words, new Uint8Array([1, 9, 9, 9])])),
      "invoice-malformed",
    ],
    ["a second payment hash", withField(1, new Array(52).fill(0)), "invoice-malformed"],
    ["a second payment secret", withField(16, new Array(52).fill(0)), "invoice-malformed"],
    [
      "a second expiry",
      rewritten(words => concat([words, new Uint8Array([6, 0, 1, 5, 6, 0, 1, 5])])),
      "invoice-malformed",
    ],
    ["a description and its hash", withField(23, new Array(52).fill(0)), "invoice-malformed"],
    ["an expiry with a leading zero", withField(6, [0, 1]), "invoice-malformed"],
    ["an expiry beyond all time", withField(6, new Array(11).fill(1)), "invoice-malformed"],
    ["features with a leading zero", withField(5, [0, 1]), "invoice-malformed"],
    ["half a hop in a route hint", withField(3, new Array(40).fill(0)), "invoice-malformed"],
    ["a route hint without hops", withField(3, []), "invoice-malformed"],
    ["words left over in a field", withField(27, [1, 2, 3]), "invoice-malformed"],
  ])("with %s is refused", (_, text, code) => {
    expect(codeThrownBy(() => decodeInvoice(text, null))).toBe(code);
  });

  test("may carry fields and fallback addresses that nobody here knows", () => {
    for (const text of [withField(2, [1, 2, 3]), withField(9, [19, 0, 0]), withField(9, [])]) {
      expect(decodeInvoice(text, null).amountMsat).toBe(250_000);
    }
  });

  test.each([
    ["1", 1e11],
    ["90071", 90071e11],
    ["1m", 1e8],
    ["1u", 1e5],
    ["1n", 100],
    ["10p", 1],
    ["9678785340p", 967_878_534],
  ])("for %s is for %d msat", (amount, msat) => {
    expect(
      decodeInvoice(
        rewritten(words => words, `lnbcrt${amount}`),
        null,
      ).amountMsat,
    ).toBe(msat);
  });
});

describe("paying an invoice", () => {
  const read = decodeInvoice(INVOICE, curve);
  const end = FIELDS.timestamp + 3600;

  test("is possible on its network until it expires, and where there is no clock", () => {
    checkPayable(read, "regtest", end - 1);
    checkPayable(read, "regtest", null);
    expect(codeThrownBy(() => checkPayable(read, "regtest", end))).toBe("invoice-expired");
    expect(codeThrownBy(() => checkPayable(read, "mainnet", end - 1))).toBe("invoice-wrong-network");
    const open = decodeInvoice(encodeInvoice({ ...FIELDS, amountMsat: null }, NODE, curve), curve);
    expect(codeThrownBy(() => checkPayable(open, "regtest", end - 1))).toBe("invoice-amountless");
  });
});

describe("a packed invoice", () => {
  test("is no other bytes than those that packing makes", () => {
    const packed = packInvoice(INVOICE);
    fc.assert(
      fc.property(fc.nat(packed.length - 1), fc.nat(255), fc.boolean(), (at, value, cut) => {
        const changed = cut ? packed.slice(0, at) : packed.slice();
        if (!cut) changed[at] = value;
        let text: string;
        try {
          text = unpackInvoice(changed);
        } catch (error) {
          expect(codeOf(error)).toBe("invoice-malformed");
          return;
        }
        expect(packInvoice(text)).toEqual(changed);
      }),
      { numRuns: 300 },
    );
  });

  test("is not made of any other text", () => {
    fc.assert(
      fc.property(fc.string(), text => {
        expect(codeThrownBy(() => packInvoice(text))).toBe("invoice-malformed");
      }),
    );
    expect(codeThrownBy(() => packInvoice("lnbc1".padEnd(MAX_INVOICE_LENGTH + 1, "q")))).toBe(
      "invoice-malformed",
    );
  });

  test.each([
    ["nothing", ""],
    ["no prefix", "00ff"],
    ["a prefix in upper case", "044c4e00"],
    ["a prefix cut off", "ff6c6e"],
    ["a spare word that is not spare", "056c6e000000"],
  ])("is not %s", (_, hex) => {
    expect(codeThrownBy(() => unpackInvoice(fromHex(hex)))).toBe("invoice-malformed");
  });
});

test.each(["lightning:", "LIGHTNING:", "Lightning:"])("as a link, %s is taken off", scheme => {
  expect(decodeInvoice(scheme + INVOICE, curve)).toEqual(decodeInvoice(INVOICE, curve));
  expect(decodeInvoice(scheme + INVOICE.toUpperCase(), curve)).toEqual(decodeInvoice(INVOICE, curve));
  expect(codeThrownBy(() => decodeInvoice(`${scheme}${scheme}${INVOICE}`, curve))).toBe("invoice-malformed");
});

test("an invoice with blinded paths in the place of its payment secret is told apart from a damaged one", () => {
  const blinded = rewritten(words => {
    const changed = words.slice();
    let at = 7;
    while (changed[at] !== 16) at += 3 + changed[at + 1]! * 32 + changed[at + 2]!;
    changed[at] = 20;
    return changed;
  });
  expect(codeThrownBy(() => decodeInvoice(blinded, null))).toBe("invoice-blinded");
});
