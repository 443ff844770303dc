/** The device's decoder alone, from the build that makes the bundles: what a board makes of a message, hex to hex. */
import { fromHex, toHex } from "../../../src/bytes/bytes.ts";
import { codeOf } from "../../../src/errors.ts";
import { toDevice } from "../../../src/messages/device.ts";

/** The message encoded again, or the code with which it is refused. */
(globalThis as unknown as { tell(hex: string): string }).tell = hex => {
  try {
    return toHex(toDevice.encode(toDevice.decode(fromHex(hex))));
  } catch (error) {
    return codeOf(error) || "no code";
  }
};
