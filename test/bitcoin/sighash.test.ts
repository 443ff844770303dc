import { describe, expect, test } from "@jest/globals";
import {
  OP_CHECKSIG,
  p2wpkh,
  p2wpkhScriptCode,
  p2wsh,
  script,
  witnessSignature,
} from "../../src/bitcoin/script.ts";
import { SIGHASH_ALL, SIGHASH_SINGLE_ANYONECANPAY, sighash } from "../../src/bitcoin/sighash.ts";
import { parseTransaction } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";

const TWO_INPUTS =
  "0100000002e9b542c5176808107ff1df906f46bb1f2583b16112b95ee5380665ba7fcfc0010000000000ffffffff80e68831516392fcd100" +
  "d186b3c2c7b95c80b53c77e77c35ba03a66b429a2a1b0000000000ffffffff0280969800000000001976a914de4b231626ef508c9a74a851" +
  "7e6783c0546d6b2888ac80969800000000001976a9146648a8cd4531e1ec47f35916de8e259237294d1e88ac00000000";
const SIX_KEYS = {
  tx:
    "010000000136641869ca081e70f394c6948e8af409e18b619df2ed74aa106c1ca29787b96e0100000000ffffffff0200e9a435000000" +
    "001976a914389ffce9cd9ae88dcc0631e88a821ffdbe9bfe2688acc0832f05000000001976a9147480a33f950689af511e6e84c138db" +
    "bd3c3ee41588ac00000000",
  script:
    "56210307b8ae49ac90a048e9b53357a2354b3334e9c8bee813ecb98e99a7e07e8c3ba32103b28f0c28bfab54554ae8c658ac5c3e0ce6" +
    "e79ad336331f78c428dd43eea8449b21034b8113d703413d57761b8b9781957b8c0ac1dfe69f492580ca4195f50376ba4a21033400f6" +
    "afecb833092a9a21cfdf1ed1376e58c5d1f47de74683123987e967a8f42103a6d48b1131e94ba04d9737d61acdaa1322008af9602b3b" +
    "14862c07a1789aac162102d8b661b0b3302ee2f162b09e07a55ad5dfbe673a9f01d9f0c19617681024306b56ae",
};

/** The examples of BIP 143 that use the two sighash types we use. */
const examples = [
  {
    name: "native P2WPKH, ALL",
    tx:
      "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f0000000000eeffffffef51e1b804cc89d1" +
      "82d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99" +
      "f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988ac11000000",
    index: 1,
    scriptCode: toHex(
      p2wpkhScriptCode(fromHex("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357")),
    ),
    valueSat: 600000000,
    type: SIGHASH_ALL,
    hash: "c37af31116d1b27caf68aae9e3ac82f1477929014d5b917657d0eb49478cb670",
    key: "619c335025c7f4012e556c2a58b2506e30b8511b53ade95ea316fd8c3286feb9",
    signature:
      "304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c4518331561406f90300e8f33" +
      "58f51928d43c212a8caed02de67eebee01",
  },
  {
    name: "P2WPKH in P2SH, ALL",
    tx:
      "0100000001db6b1b20aa0fd7b23880be2ecbd4a98130974cf4748fb66092ac4d3ceb1a54770100000000feffffff02b8b4eb0b000000" +
      "001976a914a457b684d7f0d539a46a45bbc043f35b59d0d96388ac0008af2f000000001976a914fd270b1ee6abcaea97fea7ad0402e8" +
      "bd8ad6d77c88ac92040000",
    index: 0,
    scriptCode: "76a91479091972186c449eb1ded22b78e40d009bdf008988ac",
    valueSat: 1000000000,
    type: SIGHASH_ALL,
    hash: "64f3b0f4dd2bb3aa1ce8566d220cc74dda9df97d8490cc81d89d735c92e59fb6",
    key: "eb696a065ef48a2192da5b28b694f87544b30fae8327c4510137a922f32c6dcf",
    signature:
      "3044022047ac8e878352d3ebbde1c94ce3a10d057c24175747116f8288e5d794d12d482f0220217f36a485cae903c713331d877c1f64" +
      "677e3622ad4010726870540656fe9dcb01",
  },
  {
    name: "native P2WSH, first input, SINGLE|ANYONECANPAY",
    tx: TWO_INPUTS,
    index: 0,
    scriptCode: "0063ab68210392972e2eb617b2388771abe27235fd5ac44af8e61693261550447a4c3e39da98ac",
    valueSat: 16777215,
    type: SIGHASH_SINGLE_ANYONECANPAY,
    hash: "e9071e75e25b8a1e298a72f0d2e9f4f95a0f5cdf86a533cda597eb402ed13b3a",
    key: "f52b3484edd96598e02a9c89c4492e9c1e2031f471c49fd721fe68b3ce37780d",
    signature:
      "3045022100f6a10b8604e6dc910194b79ccfc93e1bc0ec7c03453caaa8987f7d6c3413566002206216229ede9b4d6ec2d325be245c5b" +
      "508ff0339bf1794078e20bfe0babc7ffe683",
  },
  {
    name: "native P2WSH, second input after a code separator, SINGLE|ANYONECANPAY",
    tx: TWO_INPUTS,
    index: 1,
    scriptCode: "68210392972e2eb617b2388771abe27235fd5ac44af8e61693261550447a4c3e39da98ac",
    valueSat: 16777215,
    type: SIGHASH_SINGLE_ANYONECANPAY,
    hash: "cd72f1f1a433ee9df816857fad88d8ebd97e09a75cd481583eb841c330275e54",
    key: "f52b3484edd96598e02a9c89c4492e9c1e2031f471c49fd721fe68b3ce37780d",
    signature:
      "30440220032521802a76ad7bf74d0e2c218b72cf0cbc867066e2e53db905ba37f130397e02207709e2188ed7f08f4c952d9d13986da5" +
      "04502b8c3be59617e043552f506c46ff83",
  },
  {
    name: "P2WSH in P2SH, first of six keys, ALL",
    tx: SIX_KEYS.tx,
    index: 0,
    scriptCode: SIX_KEYS.script,
    valueSat: 987654321,
    type: SIGHASH_ALL,
    hash: "185c0be5263dce5b4bb50a047973c1b6272bfbd0103a89444597dc40b248ee7c",
    key: "730fff80e1413068a05b57d6a58261f07551163369787f349438ea38ca80fac6",
    signature:
      "304402206ac44d672dac41f9b00e28f4df20c52eeb087207e8d758d76d92c6fab3b73e2b0220367750dbbe19290069cba53d096f4453" +
      "0e4f98acaa594810388cf7409a1870ce01",
  },
  {
    name: "P2WSH in P2SH, last of six keys, SINGLE|ANYONECANPAY",
    tx: SIX_KEYS.tx,
    index: 0,
    scriptCode: SIX_KEYS.script,
    valueSat: 987654321,
    type: SIGHASH_SINGLE_ANYONECANPAY,
    hash: "511e8e52ed574121fc1b654970395502128263f62662e076dc6baf05c2e6a99b",
    key: "428a7aee9f0c2af0cd19af3cf1c78149951ea528726989b2e83e4778d2c3f890",
    signature:
      "30440220525406a1482936d5a21888260dc165497a90a15669636d8edca6b9fe490d309c022032af0c646a34a44d1f4576bf6a4a74b6" +
      "7940f8faa84c7df9abe12a01a11e2b4783",
  },
] as const;

describe("the hash that a segwit signature signs", () => {
  test.each(examples)("is that of BIP 143: $name", example => {
    const hash = sighash(
      parseTransaction(fromHex(example.tx)),
      example.index,
      fromHex(example.scriptCode),
      example.valueSat,
      example.type,
    );
    expect(toHex(hash)).toBe(example.hash);
    const signature = nobleCurve.sign(hash, fromHex(example.key));
    expect(toHex(witnessSignature(signature, example.type))).toBe(example.signature);
  });

  test("is no other output's with SINGLE|ANYONECANPAY, and everything's with ALL", () => {
    const tx = parseTransaction(fromHex(TWO_INPUTS));
    const changed = { ...tx, outputs: [tx.outputs[0]!, { ...tx.outputs[1]!, valueSat: 1 }] };
    const code = script([OP_CHECKSIG]);
    const hash = (of: typeof tx, type: 1 | 0x83) => toHex(sighash(of, 0, code, 5, type));
    expect(hash(changed, SIGHASH_SINGLE_ANYONECANPAY)).toBe(hash(tx, SIGHASH_SINGLE_ANYONECANPAY));
    expect(hash(changed, SIGHASH_ALL)).not.toBe(hash(tx, SIGHASH_ALL));
  });

  test("belongs to the published outputs of its scripts", () => {
    const key = fromHex("025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253f62fc70f07aeee6357");
    expect(toHex(p2wpkh(key))).toBe("00141d0f172a0ecb48aee1be1f2687d2963ae33f71a1");
    expect(toHex(p2wsh(fromHex(SIX_KEYS.script)))).toBe(
      "0020a16b5755f7f6f96dbd65f5f0d6ab9418b89af4b1f14a1bb8a09062c35f0dcb54",
    );
  });
});
