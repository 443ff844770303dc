/** The boards that a device can be flashed into: where everything goes, and with which tools (docs/boards.md). */

export type BoardName = "moddable" | "espruino";

/** A program that flashing needs, under any of its names, and how to get it. */
export interface Tool {
  readonly names: readonly string[];
  readonly get: string;
}

/** What the owner's computer knows of a kind of board. */
export interface BoardSpec {
  /** Pages of 4 KiB for the vault, and where they are in the chip's flash. */
  readonly vaultPages: number;
  readonly vaultAddress: number;
  readonly hasCurve: boolean;
  readonly tools: { readonly esptool: Tool; readonly mcconfig?: Tool };
  /** Variables that the tools need, and what they say. */
  readonly environment: { readonly [name: string]: string };
}

const esptool: Tool = {
  names: ["esptool.py", "esptool"],
  get: "Debian, Ubuntu: `sudo apt install esptool`; elsewhere: `pipx install esptool`",
};

export const boards: Readonly<Record<BoardName, BoardSpec>> = {
  moddable: {
    vaultPages: 256,
    vaultAddress: 0x300000,
    hasCurve: true,
    tools: {
      esptool,
      mcconfig: {
        names: ["mcconfig"],
        get: "install the Moddable SDK and Espressif's ESP-IDF as its documentation says (github.com/Moddable-OpenSource/moddable, documentation/devices/esp32.md)",
      },
    },
    environment: {
      MODDABLE: "the folder of the Moddable SDK",
      IDF_PATH: "the folder of ESP-IDF (source its export.sh)",
    },
  },
  espruino: {
    vaultPages: 16,
    vaultAddress: 0x310000,
    hasCurve: false,
    tools: { esptool },
    environment: {},
  },
};

/** Espruino's Storage on every ESP32: boards/ESP32*.py and the partition table of its builds. */
export const ESPRUINO_STORAGE = { address: 0x320000, bytes: 224 * 4096 };
