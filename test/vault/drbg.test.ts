import { describe, expect, test } from "@jest/globals";
import { hmacDrbg } from "../../device/vault/drbg.ts";
import { ascii, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeFrom } from "./tools.ts";

/** Published by NIST: CAVS 14.3, HMAC_DRBG.rsp, SHA-256 without prediction resistance; the second output counts. */
const NIST = [
  {
    entropy: "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488",
    nonce: "659ba96c601dc69fc902940805ec0ca8",
    personalization: "",
    additional: ["", ""],
    output:
      "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89d54fbb978a15b5c443c9ec21036d2460" +
      "b6f73ebad0dc2aba6e624abf07745bc107694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668" +
      "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8",
  },
  {
    entropy: "5d3286bc53a258a53ba781e2c4dcd79a790e43bbe0e89fb3eed39086be34174b",
    nonce: "c5422294b7318952ace7055ab7570abf",
    personalization: "2dba094d008e150d51c4135bb2f03dcde9cbf3468a12908a1b025c120c985b9d",
    additional: [
      "793a7ef8f6f0482beac542bb785c10f8b7b406a4de92667ab168ecc2cf7573c6",
      "2238cdb4e23d629fe0c2a83dd8d5144ce1a6229ef41dabe2a99ff722e510b530",
    ],
    output:
      "d04678198ae7e1aeb435b45291458ffde0891560748b43330eaf866b5a6385e74c6fa5a5a44bdb284d436e98d244018d" +
      "6acedcdfa2e9f499d8089e4db86ae89a6ab2d19cb705e2f048f97fb597f04106a1fa6a1416ad3d859118e079a0c319eb" +
      "95686f4cbcce3b5101c7a0b010ef029c4ef6d06cdfac97efb9773891688c37cf",
  },
  {
    entropy: "06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d",
    nonce: "0e66f71edc43e42a45ad3c6fc6cdc4df",
    personalization: "",
    reseed: "01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552",
    reseedAdditional: "",
    additional: ["", ""],
    output:
      "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb2b1bc215000209208cd506cb28da2a51" +
      "bdb03826aaf2bd2335d576d519160842e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254" +
      "22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124",
  },
  {
    entropy: "05ac9fc4c62a02e3f90840da5616218c6de5743d66b8e0fbf833759c5928b53d",
    nonce: "2b89a17904922ed8f017a63044848545",
    personalization: "",
    reseed: "2791126b8b52ee1fd9392a0a13e0083bed4186dc649b739607ac70ec8dcecf9b",
    reseedAdditional: "43bac13bae715092cf7eb280a2e10a962faf7233c41412f69bc74a35a584e54c",
    additional: [
      "3f2fed4b68d506ecefa21f3f5bb907beb0f17dbc30f6ffbba5e5861408c53a1e",
      "529030df50f410985fde068df82b935ec23d839cb4b269414c0ede6cffea5b68",
    ],
    output:
      "02ddff5173da2fcffa10215b030d660d61179e61ecc22609b1151a75f1cbcbb4363c3a89299b4b63aca5e581e73c8604" +
      "91010aa35de3337cc6c09ebec8c91a6287586f3a74d9694b462d2720ea2e11bbd02af33adefb4a16e6b370fa0effd57d" +
      "607547bdcfbb7831f54de7073ad2a7da987a0016a82fa958779a168674b56524",
  },
];

describe("The random generator", () => {
  test.each(NIST)("gives NIST's published output for entropy $entropy", vector => {
    const drbg = hmacDrbg(fromHex(vector.entropy), fromHex(vector.nonce), fromHex(vector.personalization));
    if (vector.reseed !== undefined) drbg.reseed(fromHex(vector.reseed), fromHex(vector.reseedAdditional!));
    drbg.generate(128, fromHex(vector.additional[0]!));
    expect(toHex(drbg.generate(128, fromHex(vector.additional[1]!)))).toBe(vector.output);
  });

  test("gives any length, and another stream for another nonce", () => {
    const stream = (nonce: string) => hmacDrbg(ascii("entropy"), ascii(nonce), ascii(""));
    expect(stream("1").generate(5).length).toBe(5);
    expect(stream("1").generate(0).length).toBe(0);
    expect(stream("1").generate(70)).toEqual(stream("1").generate(70));
    expect(stream("1").generate(32)).not.toEqual(stream("2").generate(32));
    expect(codeFrom(() => stream("1").generate(65537))).toBe("drbg-limit");
  });
});
