/** Transposing the bit matrix of the OT extension: 128 long rows in, one 128-bit row per column out. */

/**
 * Bit j of a byte string is bit j % 8 of byte j / 8, lowest first. Result: for each of `columns` columns from
 * column `first` on, 16 bytes whose bit i is that column's bit of row i.
 *
 * @param matrix 128 rows of `rowBytes` each
 * @param first multiple of 32
 * @param columns multiple of 32
 */
export function transpose128(
  matrix: Uint8Array,
  rowBytes: number,
  first: number,
  columns: number,
): Uint8Array {
  const input = new DataView(matrix.buffer, matrix.byteOffset, matrix.length);
  const out = new Uint8Array(columns * 16);
  const output = new DataView(out.buffer);
  const block = new Uint32Array(32);
  for (let rows = 0; rows < 128; rows += 32) {
    for (let column = 0; column < columns; column += 32) {
      const at = rows * rowBytes + ((first + column) >> 3);
      for (let i = 0; i < 32; i++) block[i] = input.getUint32(at + i * rowBytes, true);
      transpose32(block);
      for (let i = 0; i < 32; i++) output.setUint32((column + i) * 16 + (rows >> 3), block[i]!, true);
    }
  }
  block.fill(0);
  return out;
}

/** 32 × 32 bits in place: swaps the off-diagonal quarters of ever smaller squares. */
function transpose32(block: Uint32Array): void {
  let mask = 0x0000ffff;
  for (let size = 16; size !== 0; size >>= 1) {
    for (let i = 0; i < 32; i = ((i | size) + 1) & ~size) {
      const swap = ((block[i]! >>> size) ^ block[i | size]!) & mask;
      block[i | size] = block[i | size]! ^ swap;
      block[i] = block[i]! ^ (swap << size);
    }
    mask ^= mask << (size >> 1);
  }
}
