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

/** XS's own: joins buffers. */
type Joining = ArrayBuffer & { concat(...buffers: ArrayBuffer[]): ArrayBuffer };

const HEADS: Joining[] = [];
for (let what = 0; what < 16; what++) HEADS.push(new Uint8Array([what]).buffer as unknown as Joining);

/** By XS's native means, because this stands in for what a board does natively, but is counted as the device's work. */
export function ask(what: number, a?: Uint8Array, b?: Uint8Array, c?: Uint8Array): Uint8Array {
  if (watching) look();
  const head = HEADS[what]!;
  return new Uint8Array(
    issueCommand(
      a === undefined
        ? head
        : b === undefined
          ? head.concat(bufferOf(a))
          : c === undefined
            ? head.concat(bufferOf(a), bufferOf(b))
            : head.concat(bufferOf(a), bufferOf(b), bufferOf(c)),
    ),
  );
}

function bufferOf({ buffer, byteOffset, length }: Uint8Array): ArrayBuffer {
  const all = buffer as ArrayBuffer;
  return length === all.byteLength ? all : all.slice(byteOffset, byteOffset + length);
}

export function numbers(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float64Array(values).buffer);
}

export function numberOf(bytes: Uint8Array, index = 0): number {
  return new Float64Array(bytes.buffer, 8 * index, 1)[0]!;
}
