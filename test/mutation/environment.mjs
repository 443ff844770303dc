/**
 * What a mutant's tests run in: the first that fails is the last, and what the real curve has answered before is
 * remembered from one mutant to the next (test/device/curve.ts; the curve is not mutated).
 */
import { TestEnvironment } from "jest-environment-node";

const rememberedCurve = new Map();

export default class MutantEnvironment extends TestEnvironment {
  constructor(config, context) {
    super(config, context);
    this.global.rememberedCurve = rememberedCurve;
  }

  handleTestEvent({ name, test }) {
    if (name === "test_start" && this.failed) test.mode = "skip";
    if (name === "test_done" && test.errors.length > 0) this.failed = true;
  }
}
