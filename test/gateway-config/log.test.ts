import { describe, expect, test } from "@jest/globals";
import { createLog } from "../../gateway/log.ts";

describe("the log", () => {
  const lines: string[] = [];
  const log = createLog("info", line => lines.push(line));
  const last = () => lines[lines.length - 1]!.replace(/^\S+ \S+ /, "");

  test("is a line per event with time, level, part and fields", () => {
    log
      .part("chain")
      .part("rpc")
      .warn("bitcoind is away", { code: "bitcoind-unreachable", tries: 3, left: undefined });
    expect(lines[0]).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warn /);
    expect(last()).toBe("warn  chain/rpc: bitcoind is away code=bitcoind-unreachable tries=3\n");
  });

  test("leaves out what is below its level", () => {
    const before = lines.length;
    log.debug("a detail");
    expect(lines).toHaveLength(before);
  });

  test("can't be made to show a line or a field that was not written", () => {
    log.info("named x\n2026-01-01 00:00:00.000 error gateway: forged\u001b[2J", {
      name: "a b=c\nd",
      empty: "",
    });
    expect(last().split("\n")).toHaveLength(2);
    expect(last()).not.toContain("\u001b");
    expect(last()).toContain('name="a b=c d" empty=""');
  });
});
