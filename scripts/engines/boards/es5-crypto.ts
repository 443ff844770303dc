/**
 * SHA-256 and AES-256 in plain ES5, for Duktape alone: it has nothing native, and a board has both. Straightforward,
 * with no thought of secrets or speed.
 */

const K: number[] = [];
const H0: number[] = [];

/** The first 32 bits of a root's fraction. */
function fraction(x: number): number {
  return ((x - Math.floor(x)) * 4294967296) | 0;
}

function makeConstants(): void {
  for (let n = 2; K.length < 64; n++) {
    let isPrime = true;
    for (let d = 2; d * d <= n; d++) if (n % d === 0) isPrime = false;
    if (!isPrime) continue;
    if (H0.length < 8) H0.push(fraction(Math.sqrt(n)));
    let root = Math.exp(Math.log(n) / 3);
    for (let i = 0; i < 4; i++) root -= (root * root * root - n) / (3 * root * root);
    K.push(fraction(root));
  }
}
makeConstants();

function rotate(x: number, by: number): number {
  return (x >>> by) | (x << (32 - by));
}

export function sha256(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(64 * (Math.floor((bytes.length + 8) / 64) + 1));
  padded.set(bytes);
  padded[bytes.length] = 128;
  for (let i = 0; i < 4; i++) padded[padded.length - 1 - i] = (bytes.length << 3) >>> (8 * i);
  const state = H0.slice();
  const w: number[] = [];
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        const p = at + 4 * i;
        w[i] = (padded[p]! << 24) | (padded[p + 1]! << 16) | (padded[p + 2]! << 8) | padded[p + 3]!;
        continue;
      }
      const s0 = rotate(w[i - 15]!, 7) ^ rotate(w[i - 15]!, 18) ^ (w[i - 15]! >>> 3);
      const s1 = rotate(w[i - 2]!, 17) ^ rotate(w[i - 2]!, 19) ^ (w[i - 2]! >>> 10);
      w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0;
    }
    const v = state.slice();
    for (let i = 0; i < 64; i++) {
      const e = v[4]!;
      const a = v[0]!;
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (v[7]! + s1 + ((e & v[5]!) ^ (~e & v[6]!)) + K[i]! + w[i]!) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & v[1]!) ^ (a & v[2]!) ^ (v[1]! & v[2]!))) | 0;
      v.pop();
      v.unshift((t1 + t2) | 0);
      v[4] = (v[4]! + t1) | 0;
    }
    for (let i = 0; i < 8; i++) state[i] = (state[i]! + v[i]!) | 0;
  }
  const out = new Uint8Array(32);
  for (let i = 0; i < 32; i++) out[i] = state[i >> 2]! >>> (24 - 8 * (i & 3));
  return out;
}

const SBOX: number[] = [];

/** Multiplication by x in AES's field. */
function double(a: number): number {
  return ((a << 1) ^ (a & 128 ? 0x11b : 0)) & 255;
}

function makeSbox(): void {
  // p runs through the powers of 3, q through those of its inverse.
  let p = 1;
  let q = 1;
  do {
    p ^= double(p);
    q ^= q << 1;
    q ^= q << 2;
    q ^= q << 4;
    q &= 255;
    if (q & 128) q ^= 9;
    const turned = q | (q << 8);
    SBOX[p] = ((q ^ (turned >> 7) ^ (turned >> 6) ^ (turned >> 5) ^ (turned >> 4)) & 255) ^ 0x63;
  } while (p !== 1);
  SBOX[0] = 0x63;
}
makeSbox();

function expandKey(key: Uint8Array): number[] {
  const words: number[] = [];
  for (let i = 0; i < 32; i++) words.push(key[i]!);
  let round = 1;
  for (let i = 32; i < 240; i += 4) {
    let last = words.slice(i - 4, i);
    if (i % 32 === 0) {
      last = [SBOX[last[1]!]! ^ round, SBOX[last[2]!]!, SBOX[last[3]!]!, SBOX[last[0]!]!];
      round = double(round);
    } else if (i % 32 === 16) last = last.map(byte => SBOX[byte]!);
    for (let j = 0; j < 4; j++) words.push(words[i - 32 + j]! ^ last[j]!);
  }
  return words;
}

function encryptBlock(keys: readonly number[], block: Uint8Array): number[] {
  let state: number[] = [];
  for (let i = 0; i < 16; i++) state.push(block[i]! ^ keys[i]!);
  for (let round = 1; round <= 14; round++) {
    const moved: number[] = [];
    for (let i = 0; i < 16; i++) moved.push(SBOX[state[(i + 4 * (i & 3)) & 15]!]!);
    const mixed: number[] = [];
    for (let i = 0; i < 16; i++) {
      const column = i & 12;
      const a = moved[i]!;
      const b = moved[column | ((i + 1) & 3)]!;
      const rest = moved[column | ((i + 2) & 3)]! ^ moved[column | ((i + 3) & 3)]!;
      mixed.push((round === 14 ? a : double(a) ^ double(b) ^ b ^ rest) ^ keys[16 * round + i]!);
    }
    state = mixed;
  }
  return state;
}

export function aes256Ctr(key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): Uint8Array {
  const keys = expandKey(key);
  const counter = new Uint8Array(16);
  counter.set(iv);
  const out = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at += 16) {
    const pad = encryptBlock(keys, counter);
    for (let i = 0; i < 16 && at + i < bytes.length; i++) out[at + i] = bytes[at + i]! ^ pad[i]!;
    for (let i = 15; i >= 0; i--) {
      counter[i] = (counter[i]! + 1) & 255;
      if (counter[i] !== 0) break;
    }
  }
  return out;
}
