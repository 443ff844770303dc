/** What is remembered of paid invoices has its bounds, and at them further payments are refused. */
import { expect, test } from "@jest/globals";
import { MAX_PAID } from "../../device/channel/state.ts";
import { NOW_MS, SERVICE_FEE } from "./parties.ts";
import { Rig } from "./rig.ts";

test("so many paid invoices are remembered that had to make room, and then no more is paid: by a code of its own", () => {
  const serviceFee = { ...SERVICE_FEE, baseMsat: 10_000, settleFromMsat: 1_000_000 };
  const rig = new Rig({ serviceFee }).open();
  const expiresAt = NOW_MS / 1000 + 30 * 86_400;
  for (let i = 0; rig.refusals.length === 0 && i < 600; i++) {
    rig.pay(`tiny ${i}`, 1, { expiresAt, maxFeeMsat: 0 });
    rig.paid(`tiny ${i}`);
  }
  expect(rig.refusals).toEqual(["too-many-payments"]);
  expect(rig.state.paid!.length).toBeLessThanOrEqual(MAX_PAID);
  rig.refusals.length = 0;
  for (let i = 0; i < 3; i++) rig.settle(`fee ${i}`, 1_000_000);
  expect(rig.refusals.filter(code => code !== "too-many-payments" && code !== "policy-service-fee")).toEqual(
    [],
  );
  // When they have expired there is room again.
  rig.box.nowMs += 31 * 86_400_000;
  rig.refusals.length = 0;
  rig.pay("later", 1, { expiresAt: expiresAt + 31 * 86_400, maxFeeMsat: 0 });
  expect(rig.refusals).toEqual([]);
});
