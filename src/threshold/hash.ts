/**
 * Domain-separated hashing: H(tag, f1, f2, …) = SHA256(SHA256(tag) ‖ SHA256(tag) ‖ u32be(|f1|) ‖ f1 ‖ …), the tag
 * prefixed with the protocol's name and version, so that no hash of one use can stand for one of another.
 */
import { _SHA256, sha256 } from "@noble/hashes/sha2.js";
import { ascii, concat, u32be } from "../bytes/bytes.ts";
import { N, readScalar, toBigInt } from "../crypto/scalar-bigint.ts";

const PROTOCOL = "2pe/v1/";
const prefixes = new Map<string, Uint8Array>();

/** SHA256(tag) ‖ SHA256(tag): one whole block. */
function tagBlock(tag: string): Uint8Array {
  let block = prefixes.get(tag);
  if (block === undefined) {
    const digest = sha256(ascii(PROTOCOL + tag));
    block = concat([digest, digest]);
    prefixes.set(tag, block);
  }
  return block;
}

/** H(tag, …fields), 32 bytes. */
export function tagged(tag: string, ...fields: Uint8Array[]): Uint8Array {
  const hash = sha256.create().update(tagBlock(tag));
  for (const field of fields) hash.update(u32be(field.length)).update(field);
  return hash.digest();
}

/** H(tag, …fields) modulo n. */
export function taggedScalar(tag: string, ...fields: Uint8Array[]): bigint {
  return toBigInt(tagged(tag, ...fields)) % N;
}

/**
 * H(tag, …fields) for very many hashes of one shape: whatever fills whole blocks at the start is compressed once,
 * and the rest fits one block, which the caller changes in place between hashes.
 */
export class RepeatedHash extends _SHA256 {
  /** The last block of the message, to be changed where it varies. */
  readonly block = new Uint8Array(64);
  private readonly blockView = new DataView(this.block.buffer);
  private readonly output = new DataView(new ArrayBuffer(32));
  private readonly midstate: readonly [number, number, number, number, number, number, number, number];

  /** @param fields their lengths are final; the bytes of those in the last block may change. */
  constructor(tag: string, ...fields: Uint8Array[]) {
    super();
    const message = concat([tagBlock(tag), ...fields.flatMap(field => [u32be(field.length), field])]);
    const rest = message.length % 64;
    const whole = message.length - rest;
    if (rest > 55) throw new RangeError("the end of a repeated hash must leave room for the padding");
    const view = new DataView(message.buffer);
    for (let at = 0; at < whole; at += 64) this.process(view, at);
    this.midstate = this.get();
    this.block.set(message.subarray(whole));
    this.block[rest] = 0x80;
    this.blockView.setUint32(60, 8 * message.length);
  }

  /** Writes the hash of the block as it stands now. */
  into(view: DataView, at: number): void {
    const [a, b, c, d, e, f, g, h] = this.midstate;
    this.set(a, b, c, d, e, f, g, h);
    this.process(this.blockView, 0);
    view.setUint32(at, this.A);
    view.setUint32(at + 4, this.B);
    view.setUint32(at + 8, this.C);
    view.setUint32(at + 12, this.D);
    view.setUint32(at + 16, this.E);
    view.setUint32(at + 20, this.F);
    view.setUint32(at + 24, this.G);
    view.setUint32(at + 28, this.H);
  }

  /** The hash of the block as it stands now, modulo n. */
  scalar(): bigint {
    this.into(this.output, 0);
    const value = readScalar(this.output, 0);
    return value < N ? value : value - N;
  }

  /** Clears everything that depended on secrets. */
  erase(): void {
    this.block.fill(0);
    this.into(this.output, 0); // runs over noble's shared message schedule
    this.destroy();
  }
}
