/** UTF-8 for engines without TextEncoder: strict in both directions (RFC 3629). */
import { lngateError } from "../errors.ts";

/** Text as UTF-8. Throws `bad-text` for half a surrogate pair. */
export function utf8(text: string): Uint8Array {
  const out: number[] = [];
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code >= 0xd800 && code < 0xe000) {
      const low = i + 1 < text.length ? text.charCodeAt(i + 1) : 0;
      if (code >= 0xdc00 || low < 0xdc00 || low >= 0xe000) {
        throw lngateError("bad-text", "text has half a surrogate pair");
      }
      code = 0x10000 + (code - 0xd800) * 0x400 + (low - 0xdc00);
      i++;
    }
    if (code < 0x80) {
      out.push(code);
    } else if (code < 0x800) {
      out.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    } else if (code < 0x10000) {
      out.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    } else {
      out.push(
        0xf0 | (code >> 18),
        0x80 | ((code >> 12) & 63),
        0x80 | ((code >> 6) & 63),
        0x80 | (code & 63),
      );
    }
  }
  return new Uint8Array(out);
}

/** UTF-8 as text. Throws `bad-text` for overlong forms, surrogates, cut or stray bytes, codes above U+10FFFF. */
export function fromUtf8(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; ) {
    const lead = bytes[i++]!;
    if (lead < 0x80) {
      out += String.fromCharCode(lead);
      continue;
    }
    const more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4 || i + more > bytes.length) throw badUtf8();
    let code = lead & (0x3f >> more);
    for (let k = 0; k < more; k++) {
      const next = bytes[i++]!;
      if ((next & 0xc0) !== 0x80) throw badUtf8();
      code = code * 64 + (next & 63);
    }
    const smallest = more === 1 ? 0x80 : more === 2 ? 0x800 : 0x10000;
    if (code < smallest || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) throw badUtf8();
    if (code < 0x10000) {
      out += String.fromCharCode(code);
    } else {
      const rest = code - 0x10000;
      out += String.fromCharCode(0xd800 + (rest >> 10), 0xdc00 + (rest & 1023));
    }
  }
  return out;
}

function badUtf8(): Error {
  return lngateError("bad-text", "bytes are no UTF-8 text");
}
