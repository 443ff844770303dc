/** Which device a command means. */

import type { Given } from "../../src/node/command.ts";
import { chooseDevice, openOwner } from "../folder/folder.ts";
import { DATA, ownerFolder } from "./owner-commands.ts";

export const DEVICE = {
  ...DATA,
  device: { value: "ID", help: "which device, if several are paired" },
};

/** The owner's folder and the device that is meant. */
export function target(given: Given): { folder: string; deviceId: string } {
  const { folder } = openOwner(ownerFolder(given));
  return { folder, deviceId: chooseDevice(folder, given.text("device")) };
}
