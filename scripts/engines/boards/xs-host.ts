/**
 * What an XS engine in a process of its own asks of its host: one question at a time, answered before the call returns
 * (`issueCommand` of the worker). This module runs inside the engine.
 */
declare function issueCommand(question: ArrayBuffer): ArrayBuffer;
/** Collects garbage; slots and bytes of chunks that are alive. */
declare function gc(): [slots: number, chunkBytes: number];

/** First byte of a question. scripts/engines/xs.ts answers them. */
export const ASK = {
  flashRead: 0,
  flashProgram: 1,
  flashErase: 2,
  flashSize: 3,
  sha256: 4,
  hmacSha256: 5,
  ripemd160: 6,
  aes256Ctr: 7,
  now: 8,
  ticks: 9,
  after: 10,
  cancel: 11,
  connect: 12,
  publish: 13,
  disconnect: 14,
  report: 15,
};

/** First byte of what the host tells the engine. */
export const TELL = { open: 0, message: 1, close: 2, timer: 3, call: 4 };

let watching = false;
let slots = 0;
let chunkBytes = 0;

/** From here on every question is an occasion to see how much memory is alive. */
export function watchMemory(): void {
  watching = true;
  slots = 0;
  chunkBytes = 0;
  look();
}

export function memorySeen(): { slots: number; chunkBytes: number } {
  watching = false;
  return { slots, chunkBytes };
}

function look(): void {
  const [liveSlots, liveBytes] = gc();
  slots = Math.max(slots, liveSlots);
  chunkBytes = Math.max(chunkBytes, liveBytes);
}

export function ask(what: number, ...parts: readonly Uint8Array[]): Uint8Array {
  if (watching) look();
  let length = 1;
  for (const part of parts) length += part.length;
  const question = new Uint8Array(length);
  question[0] = what;
  let at = 1;
  for (const part of parts) {
    question.set(part, at);
    at += part.length;
  }
  return new Uint8Array(issueCommand(question.buffer));
}

export function numbers(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float64Array(values).buffer);
}

export function numberOf(bytes: Uint8Array, index = 0): number {
  return new Float64Array(bytes.slice(8 * index, 8 * index + 8).buffer)[0]!;
}
