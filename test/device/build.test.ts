import { expect, test } from "@jest/globals";
// @ts-expect-error: plain JavaScript, as the build runs it
import { pass } from "../../scripts/device-build/pass.mjs";
// @ts-expect-error: plain JavaScript, as the build runs it
import { shrink } from "../../scripts/device-build/shrink.mjs";

const shrunk = (code: string, kept: string[] = []): string => shrink({ code, map: undefined }, kept).code;

test("The device's build takes sentences away, and stops where something else stands in the place of one", () => {
  expect(shrunk('run(lngateError("a-code", `a sentence`));')).toBe('run(lngateError("a-code"));');
  expect(() => shrunk("ensure(reader, width);")).toThrow("is no sentence");
});

test("The device's build keeps of an object what is read, offered or described, and what has an effect to make", () => {
  const code = `
    const used = { read: 1, offered: 2, unread: 3, effect: run(), described: [1, kind], method() {} };
    run(used.read, used);`;
  expect(pass({ code: shrunk(code, ["offered"]), map: undefined }, []).code).toBe(
    pass(
      {
        code: "const used = { read: 1, offered: 2, effect: run(), described: [1, kind] }; run(used.read, used);",
        map: undefined,
      },
      [],
    ).code,
  );
});
