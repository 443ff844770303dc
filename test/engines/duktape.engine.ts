import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { makeKeyTable } from "../../owner/board/key-table.ts";
import { startDuktape } from "../../scripts/engines/duktape.ts";
import { ensureDuktape } from "../../scripts/engines/install.ts";
import { describeWholeDevice } from "./whole-device.ts";

const SCRIPTS = ["scripts/engines/boards/es5-prelude.js", "dist/device/engines/es5.js"];

/** Made once, from a copy, as for the board's image. */
let keyTable: Uint8Array | undefined;

describeWholeDevice(
  "Duktape, as ES5 and without a curve",
  async options => {
    const { pageBytes, pageCount } = options.flash;
    const content = options.flash.read(0, pageBytes * pageCount);
    keyTable ??= makeKeyTable(openVault(memoryFlash(pageBytes, pageCount, content)));
    return startDuktape(await ensureDuktape(), { ...options, keyTable, scripts: SCRIPTS });
  },
  true,
);
