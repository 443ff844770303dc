import { expect, test } from "@jest/globals";
import {
  type AbortStatus,
  afterAbort,
  consequenceOf,
  ensureNotAborted,
  NO_ABORTS,
  ownerConfirms,
} from "../../src/threshold/abort.ts";
import { codeThrownBy } from "../thrown.ts";

const error = (code: string) => Object.assign(new Error(), { code });

test.each([
  ["threshold-bad-message", "burn-batch", true],
  ["threshold-bad-commitment", "burn-batch", true],
  ["threshold-bad-proof", "burn-batch", true],
  ["threshold-bad-confirmation", "burn-batch", true],
  ["threshold-wrong-batch", "burn-batch", true],
  ["threshold-old-epoch", "refuse", true],
  ["threshold-step-spent", "refuse", false],
  ["threshold-batch-abandoned", "refuse", false],
  ["threshold-setup-destroyed", "refuse", false],
  ["threshold-extension-check", "reset", true],
  ["threshold-multiplication-check", "reset", true],
  ["threshold-share-check", "reset", true],
  ["threshold-mac-check", "reset", true],
  ["threshold-bad-signature", "burn-record", false],
  ["bad-answer", "burn-record", false],
  ["policy-record-reuse", "lock", true],
  // A link that was lost, and what nobody has heard of: the batch is gone, nobody is blamed.
  ["ECONNRESET", "burn-batch", false],
  ["toString", "burn-batch", false],
  ["constructor", "burn-batch", false],
  ["__proto__", "burn-batch", false],
] as const)("%s has the consequence %s, and blames the other side: %s", (code, consequence, alarm) => {
  expect(consequenceOf(error(code))).toBe(consequence);
  const after = afterAbort(NO_ABORTS, error(code));
  expect([after.consequence, after.alarm]).toEqual([consequence, alarm]);
  expect(after.status).toEqual({
    resets: consequence === "reset" ? 1 : 0,
    spoilt: consequence === "burn-record" ? 1 : 0,
    awaitingOwner: consequence === "reset",
    locked: consequence === "lock",
  });
});

test("what is not even an error burns the batch", () => {
  expect(afterAbort(NO_ABORTS, "no error at all")).toEqual({
    status: NO_ABORTS,
    consequence: "burn-batch",
    alarm: false,
  });
});

test("the owner hears of the third answer that made no signature, and of each after it", () => {
  let status: AbortStatus = NO_ABORTS;
  const alarms = ["bad-answer", "threshold-bad-signature", "bad-answer", "bad-answer"].map(code => {
    const next = afterAbort(status, error(code));
    status = next.status;
    return [next.consequence, next.alarm];
  });
  expect(alarms.map(([, alarm]) => alarm)).toEqual([false, false, true, true]);
  expect(new Set(alarms.map(([consequence]) => consequence))).toEqual(new Set(["burn-record"]));
  expect(status).toEqual({ ...NO_ABORTS, spoilt: 4 });
  ensureNotAborted(status);
});

test("after a reset nothing goes on before the owner's word, after the third nothing at all, and a lock stays", () => {
  let status: AbortStatus = NO_ABORTS;
  for (const [reset, code] of [
    [1, "threshold-mac-check"],
    [2, "threshold-share-check"],
  ] as const) {
    const after = afterAbort(status, error(code));
    expect(after).toEqual({
      status: { resets: reset, spoilt: 0, awaitingOwner: true, locked: false },
      consequence: "reset",
      alarm: true,
    });
    expect(codeThrownBy(() => ensureNotAborted(after.status))).toBe("threshold-awaiting-owner");
    status = ownerConfirms(after.status);
    ensureNotAborted(status);
    expect(status.resets).toBe(reset);
  }
  const third = afterAbort(status, error("threshold-extension-check"));
  expect([third.consequence, third.status.locked]).toEqual(["lock", true]);
  expect(codeThrownBy(() => ensureNotAborted(ownerConfirms(third.status)))).toBe("threshold-locked");
  const locked = afterAbort(NO_ABORTS, error("policy-record-reuse")).status;
  expect(afterAbort(locked, error("threshold-mac-check"))).toMatchObject({
    consequence: "lock",
    status: { locked: true, resets: 1 },
  });
  expect(codeThrownBy(() => ensureNotAborted(ownerConfirms(locked)))).toBe("threshold-locked");
});
