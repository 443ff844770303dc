/**
 * What an XS engine in a process of its own asks of its host: one question at a time, answered before the call returns
 * (`issueCommand` of the worker). This module runs inside the engine.
 */
declare function issueCommand(question: ArrayBuffer): ArrayBuffer;
/** Collects garbage; slots and bytes of chunks that are alive. */
declare function gc(): [slots: number, chunkBytes: number];

let watching = false;
let slots = 0;
let chunkBytes = 0;

/** From here on every question is an occasion to see how much memory is alive; what is now. */
export function watchMemory(): { slots: number; chunkBytes: number } {
  watching = true;
  slots = 0;
  chunkBytes = 0;
  look();
  return { slots, chunkBytes };
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
