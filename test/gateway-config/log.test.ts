import { describe, expect, test } from "@jest/globals";
import { counted, createJsonLog, createLog, lastingTrouble } from "../../gateway/log.ts";

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

describe("the log for machines", () => {
  test("is a line of JSON per event, which nothing that is told can break", () => {
    const lines: string[] = [];
    const log = createJsonLog("info", line => lines.push(line));
    log.debug("a detail");
    log.part("chain").part("rpc").warn("bitcoind is\naway", { code: 'x"y', tries: 3, left: undefined });
    log.info("up");
    const told = lines.map(line => JSON.parse(line) as Record<string, unknown>);
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(told).toEqual([
      { level: "warn", time, part: "chain/rpc", code: 'x"y', tries: 3, msg: "bitcoind is\naway" },
      { level: "info", time, part: "gateway", msg: "up" },
    ]);
    expect(lines.map(line => line.match(/\n/g)?.length)).toEqual([1, 1]);
  });
});

describe("what repeats itself", () => {
  test("trouble is told when it begins, when its cause changes, and when it is over", () => {
    let now = 0;
    const told: (string | undefined)[] = [];
    const trouble = lastingTrouble(
      error => told.push(error?.message),
      () => now,
    );
    const heard = (...causes: (string | null)[]) => {
      for (const cause of causes) trouble(cause === null ? null : new Error(cause));
      return told.splice(0);
    };
    expect(heard(null, null)).toEqual([]);
    expect(heard("not running", "not running", "still starting")).toEqual(["not running", "still starting"]);
    // Causes that take turns make no line each time, and none is forgotten.
    expect(heard("not running", "still starting", "not running")).toEqual([]);
    now += 60_000;
    expect(heard("not running", "not running")).toEqual(["not running"]);
    expect(heard(null, null)).toEqual([undefined]);
    expect(heard("not running")).toEqual(["not running"]);
  });

  test("what others can cause is told once, then counted; no flood of names makes it grow", () => {
    const told: string[] = [];
    const waiting: (() => void)[] = [];
    const refusals = counted(
      (text, { subject, times }) => told.push(`${text} ${subject} ${times}`),
      work => void waiting.push(work),
    );
    const minute = () => {
      waiting.shift()?.();
      return told.splice(0);
    };
    for (let i = 0; i < 40; i++) refusals.note("refused", { code: "broker-login", subject: "10.0.0.9" });
    refusals.note("refused", { code: "broker-login", subject: "10.0.0.7" });
    expect(told.splice(0)).toEqual(["refused 10.0.0.9 undefined", "refused 10.0.0.7 undefined"]);
    expect(minute()).toEqual(["refused 10.0.0.9 39"]);
    refusals.note("refused", { code: "broker-login", subject: "10.0.0.9" });
    expect(minute()).toEqual(["refused 10.0.0.9 1"]);
    expect(minute()).toEqual([]);
    // Nothing is left, and no timer either: the next one begins again.
    expect(waiting).toHaveLength(0);
    for (let i = 0; i < 1_000; i++) refusals.note(`refused ${i}`, { code: `code-${i}`, subject: "10.0.0.9" });
    expect(told.splice(0)).toHaveLength(101);
    expect(minute()).toEqual(["and many others undefined 899"]);
  });
});
