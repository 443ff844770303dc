/**
 * Espruino's Storage as the bytes of its flash: files one behind the other, each with a head of 32 bytes.
 *
 *     file    size 4, little-endian | name 28, zeros behind | content | ones up to a multiple of 4
 */
import { lngateError } from "../../src/errors.ts";

const HEAD = 32;
const LONGEST_NAME = 28;

/** An area of this many bytes with these files, the rest erased. Throws `image-too-large`. */
export function espruinoStorage(
  files: { readonly [name: string]: string | Uint8Array },
  areaBytes: number,
): Uint8Array {
  const area = new Uint8Array(areaBytes).fill(255);
  let at = 0;
  for (const [name, text] of Object.entries(files)) {
    const content = typeof text === "string" ? Buffer.from(text, "latin1") : text;
    const end = at + HEAD + content.length;
    if (name.length > LONGEST_NAME || end > areaBytes)
      throw lngateError("image-too-large", `${name} does not fit into Espruino's Storage`);
    const head = Buffer.alloc(HEAD);
    head.writeUInt32LE(content.length, 0);
    head.write(name, 4, "latin1");
    area.set(head, at);
    area.set(content, at + HEAD);
    at = 4 * Math.ceil(end / 4);
  }
  return area;
}
