/** UTF-8 for engines without TextEncoder: strict in both directions (RFC 3629). */
import { lngateError } from "../errors.ts";

/** Text as UTF-8. Throws `bad-text` for half a surrogate pair. */
export function utf8(text: string): Uint8Array {
  const out: number[] = [];
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (isSurrogate(code)) {
      // At the end of the text this is NaN, and NaN >> 10 is 0.
      const low = text.charCodeAt(++i);
      if (code > 0xdbff || low >> 10 !== 0xdc00 >> 10) throw badText();
      code = 0x10000 + (code - 0xd800) * 0x400 + (low - 0xdc00);
    }
    if (code < 0x80) {
      out.push(code);
      continue;
    }
    let more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    // The lead byte: as many ones as there are bytes, a zero, the highest bits.
    out.push(((0xff80 >> more) & 0xff) | (code >> (6 * more)));
    while (more-- > 0) out.push(0x80 | ((code >> (6 * more)) & 0x3f));
  }
  return new Uint8Array(out);
}

/** As much of a text as `maxBytes` bytes of UTF-8 hold, and no part of a character. */
export function cutTo(text: string, maxBytes: number): string {
  let length = 0;
  for (let i = 0; i < text.length; ) {
    const code = text.charCodeAt(i);
    const units = code >> 10 === 0xd800 >> 10 ? 2 : 1;
    length += units === 2 ? 4 : code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
    if (length > maxBytes) return text.slice(0, i);
    i += units;
  }
  return text;
}

/** UTF-8 as text. Throws `bad-text` for overlong forms, surrogates, cut or stray bytes, codes above U+10FFFF. */
export function fromUtf8(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; ) {
    let code = bytes[i++]!;
    if (code >= 0x80) {
      const more = code < 0xe0 ? 1 : code < 0xf0 ? 2 : 3;
      if (code < 0xc2 || code > 0xf4 || i + more > bytes.length) throw badText();
      code &= 0x3f >> more;
      for (let left = more; left > 0; left--) {
        const next = bytes[i++]!;
        if (next >> 6 !== 2) throw badText();
        code = code * 64 + (next & 0x3f);
      }
      const smallest = more === 1 ? 0x80 : more === 2 ? 0x800 : 0x10000;
      if (code < smallest || code > 0x10ffff || isSurrogate(code)) throw badText();
    }
    out +=
      code < 0x10000
        ? String.fromCharCode(code)
        : String.fromCharCode(0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
  }
  return out;
}

function isSurrogate(code: number): boolean {
  return code >> 11 === 0xd800 >> 11;
}

function badText(): Error {
  return lngateError("bad-text", "text is not valid Unicode");
}
