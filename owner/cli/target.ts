/** Which owner's folder a command means, and which device in it. */

import type { Given } from "../../src/node/command.ts";
import { chooseDevice, defaultOwnerFolder, openOwner } from "../folder/folder.ts";

/** The option that names the owner's folder. */
export const DATA = {
  data: { value: "DIR", help: "the owner's folder (default: ~/.lngate/owner, or $LNGATE_OWNER)" },
};

/** The folder that was named, or the usual one. */
export function ownerFolder(given: Given): string {
  return given.text("data") ?? defaultOwnerFolder();
}

/** The options of a command that is about one device. */
export const DEVICE = {
  ...DATA,
  device: { value: "ID", help: "which device, if several are paired" },
};

/** The owner's folder and the device that is meant. Throws what `openOwner` and `chooseDevice` throw. */
export function target(given: Given): { folder: string; deviceId: string } {
  const { folder } = openOwner(ownerFolder(given));
  return { folder, deviceId: chooseDevice(folder, given.text("device")) };
}
