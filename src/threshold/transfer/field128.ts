/**
 * The field of 2^128 elements, polynomials modulo x^128 + x^7 + x^2 + x + 1. An element is 16 bytes, the
 * coefficient of x^k being bit k % 8 of byte k / 8 (lowest bit first), and four little-endian 32-bit words inside.
 *
 * The check of the OT extension must use this multiplication. XOR in its place is a published implementation flaw
 * (GHSA-7f6p-phw2-8253): it lets the receiver find the sender's secret.
 */

/** Bytes of an element. */
export const ELEMENT_BYTES = 16;

/** Public weights χ_0, χ_1, … prepared for many combinations. */
export interface Weights {
  readonly count: number;
  /** For each power of x, the elements (by number) whose weight has it. */
  readonly withPower: readonly Uint16Array[];
}

/** Reads `count` weights, one after the other in `bytes`. */
export function prepareWeights(bytes: Uint8Array, count: number): Weights {
  const withPower: Uint16Array[] = [];
  for (let power = 0; power < 128; power++) {
    const elements: number[] = [];
    for (let j = 0; j < count; j++) {
      if ((bytes[j * ELEMENT_BYTES + (power >> 3)]! >> (power & 7)) & 1) elements.push(j);
    }
    withPower.push(Uint16Array.from(elements));
  }
  return { count, withPower };
}

/**
 * Σ χ_j·e_j ⊕ e_last over the elements of `row`, of which there is one more than weights. The weights are public
 * and steer the loop; the elements are secret, and are only XORed and shifted.
 */
export function combine(weights: Weights, row: Uint8Array): Uint8Array {
  const words = wordsOf(row);
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let power = 127; power >= 0; power--) {
    // Horner's rule: times x, where x^128 = x^7 + x^2 + x + 1 comes back in at the bottom.
    const over = -(d >>> 31) & 0x87;
    d = (d << 1) | (c >>> 31);
    c = (c << 1) | (b >>> 31);
    b = (b << 1) | (a >>> 31);
    a = (a << 1) ^ over;
    const elements = weights.withPower[power]!;
    for (let i = 0; i < elements.length; i++) {
      const at = 4 * elements[i]!;
      a ^= words[at]!;
      b ^= words[at + 1]!;
      c ^= words[at + 2]!;
      d ^= words[at + 3]!;
    }
  }
  const last = 4 * weights.count;
  const out = new Uint8Array(ELEMENT_BYTES);
  const view = new DataView(out.buffer);
  view.setUint32(0, a ^ words[last]!, true);
  view.setUint32(4, b ^ words[last + 1]!, true);
  view.setUint32(8, c ^ words[last + 2]!, true);
  view.setUint32(12, d ^ words[last + 3]!, true);
  words.fill(0);
  return out;
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const words = new Uint32Array(bytes.length >> 2);
  for (let i = 0; i < words.length; i++) words[i] = view.getUint32(4 * i, true);
  return words;
}
