import { ensureXsnap } from "../../scripts/engines/install.ts";
import { startXs } from "../../scripts/engines/xs.ts";
import { describeWholeDevice } from "./whole-device.ts";

const SCRIPTS = ["scripts/engines/boards/xs-prelude.js", "dist/device/engines/xs.js"];

describeWholeDevice("XS", async options => startXs(await ensureXsnap(), { ...options, scripts: SCRIPTS }));
