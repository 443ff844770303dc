/** Which of several exits the owner's computer takes when none is named. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { lookAtExit, takeExitOut } from "../../owner/recovery/held-exits.ts";
import { derived } from "../device/dealer.ts";
import { proposalWith } from "../device/parties.ts";
import { Rig } from "../device/rig.ts";

test("while a third channel is opening, the exit that is taken is that of the second", () => {
  const rig = new Rig();
  for (let index = 1; index <= 3; index++) {
    rig.proposal = proposalWith({
      index,
      deposits: [{ txid: derived(`deposit of ${index}`), vout: 0, valueSat: 201_000 }],
    });
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    if (index === 3) break;
    rig.step({ holder: rig.holder(rig.view(), 0) });
    rig.step({ fund: true });
    // The first was truly closed; of the second that is a lie, and the third is the gateway's invention.
    rig.say({ type: "channel", index, state: "closed" });
  }
  const path = mkdtempSync(join(tmpdir(), "lngate-exits-"));
  try {
    writeFileSync(join(path, "flash.bin"), rig.box.flash.image());
    expect(rig.state.former?.map(({ index }) => index)).toEqual([2, 1]);
    // owner/recovery/held-exits.ts: "the latest unless its number is given".
    expect(lookAtExit(path).exit.index).toBe(2);
    expect(takeExitOut(path).exit.index).toBe(2);
  } finally {
    rmSync(path, { recursive: true });
  }
});
