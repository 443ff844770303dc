/** The owner's link to the gateway of a device that is paired. */
import { join } from "node:path";
import { lngateError } from "../../src/errors.ts";
import { lockPath } from "../../src/node/lock.ts";
import type { DeviceInfo } from "../folder/device-files.ts";
import { connectOwner, type OwnerConnection } from "./connection.ts";

/**
 * Opens the owner's link to a paired device's gateway. There is one link, so one program at a time uses it: throws
 * `owner-busy`, besides what `connectOwner` throws.
 */
export async function connectToDevice(
  folder: string,
  info: DeviceInfo,
  timeouts: { readonly connectTimeoutMs?: number; readonly answerTimeoutMs?: number } = {},
): Promise<OwnerConnection> {
  const unlock = lockPath(join(folder, "owner-link.lock"), () =>
    lngateError(
      "owner-busy",
      "another lngate is talking to the gateway about this device; wait until it is done",
    ),
  );
  try {
    const connection = await openLinkOf(info, timeouts);
    return {
      ask: connection.ask,
      get bytes() {
        return connection.bytes;
      },
      close() {
        connection.close();
        unlock();
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

function openLinkOf(
  info: DeviceInfo,
  timeouts: { readonly connectTimeoutMs?: number; readonly answerTimeoutMs?: number },
): Promise<OwnerConnection> {
  return connectOwner({
    brokerUrl: info.brokerUrl,
    identity: `${info.deviceId}.owner`,
    password: info.ownerPassword,
    linkKey: info.ownerLinkKey,
    refusedLogin: [
      "gateway-forgot-device",
      `the gateway at ${new URL(info.brokerUrl).host} does not know this device any more, or another gateway is there now`,
    ],
    ...(timeouts.connectTimeoutMs === undefined ? {} : { connectTimeoutMs: timeouts.connectTimeoutMs }),
    ...(timeouts.answerTimeoutMs === undefined ? {} : { answerTimeoutMs: timeouts.answerTimeoutMs }),
  });
}
