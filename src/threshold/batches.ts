/**
 * Many batches one after the other, over any link that keeps order. One party runs presignManyP1, the other
 * presignManyP2, each with its own store.
 *
 * Every batch is stored by P1 before it sends S4, and by P2 before it sends S4 back. If the link breaks in between,
 * one side may have records that the other has not. That costs records and no key, but before a device is charged
 * both should compare their lists (RecordStore.unused) and drop the difference: burnUnshared.
 */
import { equal } from "../bytes/bytes.ts";
import { lngateError } from "../errors.ts";
import { MAX_BATCH, type Presigner, presignP1, presignP2 } from "./presign.ts";
import type { RecordKind, RecordStore, Run } from "./records.ts";

/** Carries whole messages of up to 1.8 MB, in order, authenticated and encrypted, or rejects. */
export interface MessageLink {
  send(message: Uint8Array): Promise<void>;
  receive(): Promise<Uint8Array>;
}

export interface Progress {
  /** Called after each batch with the presignatures made so far. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Asked before each batch; true ends the run there, and nothing is lost. */
  readonly cancelled?: () => boolean;
}

/** Either side says so instead of S0 or S1: there is no further batch. */
const NO_MORE = new Uint8Array(0);

/**
 * Makes `total` presignatures (rounded up to a multiple of 4) on P1's side, and returns how many were made: fewer
 * if one of the parties cancelled.
 */
export async function presignManyP1(
  presigner: Presigner,
  store: RecordStore,
  link: MessageLink,
  total: number,
  { onProgress, cancelled }: Progress = {},
): Promise<number> {
  const { kind } = presigner.setup;
  let done = 0;
  while (done < total && !cancelled?.()) {
    const count = Math.min(MAX_BATCH, Math.ceil((total - done) / 4) * 4);
    const begun = presignP1(presigner, store.reserve(kind, count), count);
    await link.send(begun.send);
    const s1 = await link.receive();
    if (s1.length === 0) return done;
    const multiplied = begun.next.receive(s1);
    await link.send(multiplied.send);
    const finished = multiplied.next.receive(await link.receive());
    store.activate(finished.batch);
    finished.batch.records.fill(0);
    await link.send(finished.send);
    if (!equal(await link.receive(), finished.send)) {
      throw lngateError("threshold-bad-confirmation", "P2 has not stored the batch");
    }
    done += count;
    onProgress?.(done, total);
  }
  await link.send(NO_MORE);
  return done;
}

/** Takes part in whatever P1 makes, until P1 says there is no more; returns how many were made. */
export async function presignManyP2(
  presigner: Presigner,
  store: RecordStore,
  link: MessageLink,
  total: number,
  { onProgress, cancelled }: Progress = {},
): Promise<number> {
  const { kind } = presigner.setup;
  let done = 0;
  for (;;) {
    const s0 = await link.receive();
    if (s0.length === 0) return done;
    if (cancelled?.()) {
      await link.send(NO_MORE);
      return done;
    }
    const chosen = presignP2(presigner, store.nextId(kind)).receive(s0);
    await link.send(chosen.send);
    const multiplied = chosen.next.receive(await link.receive());
    await link.send(multiplied.send);
    const s4 = await link.receive();
    const { batch } = multiplied.next.receive(s4);
    store.activate(batch);
    done += batch.count;
    batch.records.fill(0);
    await link.send(s4);
    onProgress?.(done, total);
  }
}

/** Burns the unused records that the other side's list does not have. */
export function burnUnshared(store: RecordStore, kind: RecordKind, theirs: readonly Run[]): void {
  for (const { firstId, count } of store.unused(kind)) {
    for (let id = firstId; id < firstId + count; id++) {
      const shared = theirs.some(run => id >= run.firstId && id < run.firstId + run.count);
      if (!shared) store.burn(kind, { firstId: id, count: 1 });
    }
  }
}
