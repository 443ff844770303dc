/** RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996) for boards that have none: a few short hashes per payment. */

interface Line {
  /** Which word of the block each of the 80 steps takes, and how far it rotates: a hex digit each. */
  readonly words: string;
  readonly shifts: string;
  /** A constant per round of 16 steps. */
  readonly constants: readonly number[];
}

const LEFT: Line = {
  words: "0123456789abcdef74d1a6f3c0952eb83ae49f812706db5c19ba08c4d37fe56240597c2ae138b6fd",
  shifts: "befc5879bdef6798768db97f7cf9b7dcbd67e9dfe8d65c75bcefef989e56865c9f5b68dc5cdeb856",
  constants: [0, 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xa953fd4e],
};
const RIGHT: Line = {
  words: "5e7092b4d6f81a3c6b370d5aef8c4912f5137e69b8c2a04d86413bf05c2d97aecfa4158762de039b",
  shifts: "899bdff5778beec69df7c89b77c76fdb97fb866ecd5edd75f58bee6e69c9c5f885c9c5e68d65fdbb",
  constants: [0x50a28be6, 0x5c4dd124, 0x6d703ef3, 0x7a6d76e9, 0],
};

function mix(round: number, x: number, y: number, z: number): number {
  if (round === 0) return x ^ y ^ z;
  if (round === 1) return (x & y) | (~x & z);
  if (round === 2) return (x | ~y) ^ z;
  if (round === 3) return (x & z) | (y & ~z);
  return x ^ (y | ~z);
}

function rotate(x: number, by: number): number {
  return (x << by) | (x >>> (32 - by));
}

/** The five words of the state after the 80 steps of one line; the right one goes through its functions backwards. */
function run(line: Line, state: readonly number[], block: readonly number[], backwards: boolean): number[] {
  let [a, b, c, d, e] = state as [number, number, number, number, number];
  for (let i = 0; i < 80; i++) {
    const round = i >> 4;
    const word = block[parseInt(line.words.charAt(i), 16)]!;
    const sum = (a + mix(backwards ? 4 - round : round, b, c, d) + word + line.constants[round]!) | 0;
    const next = (rotate(sum, parseInt(line.shifts.charAt(i), 16)) + e) | 0;
    a = e;
    e = d;
    d = rotate(c, 10);
    c = b;
    b = next;
  }
  return [a, b, c, d, e];
}

/** 20 bytes. */
export function ripemd160(bytes: Uint8Array): Uint8Array {
  const blocks = Math.floor((bytes.length + 8) / 64) + 1;
  const padded = new Uint8Array(64 * blocks);
  padded.set(bytes);
  padded[bytes.length] = 128;
  // The length in bits, little-endian; nothing here is longer than 2^29 bytes.
  for (let i = 0; i < 4; i++) padded[64 * blocks - 8 + i] = (bytes.length << 3) >>> (8 * i);
  let state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  for (let at = 0; at < padded.length; at += 64) {
    const block: number[] = [];
    for (let i = at; i < at + 64; i += 4) {
      block.push(padded[i]! | (padded[i + 1]! << 8) | (padded[i + 2]! << 16) | (padded[i + 3]! << 24));
    }
    const left = run(LEFT, state, block, false);
    const right = run(RIGHT, state, block, true);
    const next: number[] = [];
    for (let i = 0; i < 5; i++) next.push(state[(i + 1) % 5]! + left[(i + 2) % 5]! + right[(i + 3) % 5]!);
    state = next;
  }
  const out = new Uint8Array(20);
  for (let i = 0; i < 20; i++) out[i] = state[i >> 2]! >> (8 * (i & 3));
  return out;
}
