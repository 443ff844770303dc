import { beforeAll, describe, test } from "@jest/globals";
import type { Kind } from "../../src/threshold/transfer/setup.ts";
import { generateKey, type Pair, type Setups, seededRandom, setUp, signAndVerify } from "./parties.ts";

const random = seededRandom("2,048 signatures");
const EACH = 64;

describe.each<Kind>(["A", "B"])("kind %s, both parties, from key generation to signatures", kind => {
  let pair: Pair;
  let setups: Setups;

  beforeAll(() => {
    pair = generateKey(random);
    setups = setUp(pair, kind, random);
  });

  test.each(Array.from({ length: 16 }, (_, batch) => batch))(
    `batch %i: ${EACH} random messages verify with @noble under the joint key`,
    batch => signAndVerify(pair, setups, { firstId: batch * EACH, count: EACH }, random),
  );
});
