import { test } from "@jest/globals";
import { ensureXsnap } from "../../scripts/engines/install.ts";
import { curveSources, missingForCurve } from "../../scripts/engines/native-curve.ts";
import { startXs } from "../../scripts/engines/xs.ts";
import { describeWholeDevice } from "./whole-device.ts";

const SCRIPTS = ["scripts/engines/boards/xs-prelude.js", "dist/device/engines/xs.js"];

describeWholeDevice("XS", async options => startXs(await ensureXsnap(), { ...options, scripts: SCRIPTS }));

const missing = missingForCurve();
if (missing !== null) test.skip(`a whole device in XS with the native curve: ${missing}`, () => {});
else {
  describeWholeDevice("XS with the native curve", async options =>
    startXs(await ensureXsnap(await curveSources()), { ...options, scripts: SCRIPTS }),
  );
}
