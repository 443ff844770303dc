/** Which chip is at the port: esptool says its MAC address, burnt in when it was made, whenever it connects. */
import { lngateError } from "../../src/errors.ts";

const LINE = /^\s*MAC:\s+([0-9a-f]{2}(?::[0-9a-f]{2}){5,7})\s*$/im;

/** From what esptool has said. Throws `chip-unknown`. */
export function chipIn(said: string): string {
  const mac = LINE.exec(said)?.[1];
  if (mac !== undefined) return mac.toLowerCase();
  throw lngateError(
    "chip-unknown",
    "esptool did not say the MAC address of the chip at the port, so that nothing could tell this board from another one; nothing was written. Use esptool 2 to 5",
  );
}
