/** A gateway that was in somebody else's hands for a minute, against its owner's computer; afterwards it is honest again. */
import { rmSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { deviceCommands } from "../../owner/cli/device-commands.ts";
import { askDeposit } from "../../owner/client/channel.ts";
import { chargeDevice } from "../../owner/client/charge.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { readChargingState } from "../../owner/folder/device-files.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import { described, runCommandLine } from "../../src/node/command.ts";
import { type GatewayHalf, newOwner, startGatewayHalf } from "./gateway-half.ts";

/** Of kind A: after nonce and epoch. */
const FIRST_ID_IN_S0 = 36;

let gateway: GatewayHalf;
let folder: string;
let deviceId: string;

beforeAll(async () => {
  gateway = await startGatewayHalf();
  folder = newOwner();
  ({ deviceId } = await pairDevice({ folder, code: gateway.invite() }));
});
afterEach(() => gateway.behave());
afterAll(async () => {
  await gateway.stop();
  rmSync(folder, { recursive: true });
});

const codeOfCharging = (payments: number) =>
  chargeDevice({ folder, deviceId, payments, confirmReset: true }).then(
    () => "charged",
    (error: { code?: string }) => error.code,
  );

test("its word that a record was used twice does not lock what this computer has found no fault in", async () => {
  gateway.answer = answer =>
    answer.type === "presigned" ? { type: "refused", code: "policy-record-reuse", sentence: "" } : answer;
  expect(await codeOfCharging(1)).toBe("policy-record-reuse");
  gateway.answer = answer => answer;
  expect(await codeOfCharging(1)).toBe("charged");
});

test("it cannot use up the ids of records by naming the last", async () => {
  const { ends } = readChargingState(deviceFolder(folder, deviceId));
  gateway.answer = answer =>
    answer.type === "charging" ? { ...answer, nextId: { A: answer.nextId.A, B: 0xffffffff } } : answer;
  expect(await codeOfCharging(2)).toBe("threshold-wrong-batch");
  expect(readChargingState(deviceFolder(folder, deviceId)).ends).toEqual(ends);
  gateway.answer = answer => answer;
  expect(await codeOfCharging(2)).toBe("charged");
});

test("nor by beginning a batch with the last", async () => {
  const { ends } = readChargingState(deviceFolder(folder, deviceId));
  gateway.answer = answer => {
    if (answer.type !== "presigned" || answer.step !== "S0") return answer;
    const body = answer.body.slice();
    new DataView(body.buffer).setUint32(FIRST_ID_IN_S0, 0xffffff80);
    return { ...answer, body };
  };
  expect(await codeOfCharging(3)).toBe("threshold-wrong-batch");
  expect(readChargingState(deviceFolder(folder, deviceId)).ends).toEqual(ends);
  gateway.answer = answer => answer;
  expect(await codeOfCharging(3)).toBe("charged");
});

/** What `device status` writes, by a gateway that changes its answer so. */
async function statusWith(changed: object, ...more: string[]): Promise<string> {
  gateway.answer = answer => (answer.type === "status-report" ? { ...answer, ...changed } : answer);
  let written = "";
  const write = (text: string) => {
    written += text;
  };
  const args = ["device", "status", "--data", folder, ...more];
  await runCommandLine(deviceCommands, { intro: "", version: "0" }, args, {
    out: write,
    err: write,
    interactive: false,
  });
  return written;
}

test("what it calls the device is no line of its own, and no JSON that paints", async () => {
  const shown = await statusWith({ name: "car\nFUND: bcrt1qforged" });
  expect(shown).toMatch(/^car\?FUND: bcrt1qforged \(/);
  const json = await statusWith({ name: "car\u009b2K\u202ex" }, "--json");
  expect(json).not.toMatch(/[\u0080-\u009f\u202e]/);
  expect(JSON.parse(json)).toMatchObject({ name: "car?2K\u202ex" });
});

test("a time that is none does not keep its owner from seeing the rest", async () => {
  const at = 2 ** 53 - 1;
  const shown = await statusWith({ online: false, seen: { at, generation: at } });
  expect(shown).toContain(`not connected, last seen at ${at}, which is not a time`);
  expect(shown).toMatch(/charged {3}for/);
});

test("what it says cannot paint the owner's terminal", async () => {
  const forged = `\r\u001b[2KSend it to\u001b[E  \u202ebc1q`;
  gateway.answer = answer =>
    answer.type === "deposit" ? { type: "refused", code: "deposit-missing", sentence: forged } : answer;
  const error = await askDeposit({ folder, deviceId }).catch((error: unknown) => error);
  expect(described(error)).toBe("deposit-missing: ??[2KSend it to?[E  ?bc1q");
});
