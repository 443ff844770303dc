/** What a plain peer keeps of its own in the store beside LDK's state. */
import type { NodeStore } from "../../gateway/lightning/store.ts";

const OWN = "own/";

/** Rows by name. A change goes to the store in one transaction with LDK's next state. */
export class OwnRows {
  private readonly store: NodeStore;
  private readonly storeSoon: () => void;
  /** Changed, and not handed over to be stored yet. */
  private changed = new Map<string, Uint8Array | null>();
  /** All that were changed since the start, stored or not. */
  private readonly current = new Map<string, Uint8Array | null>();

  /** `storeSoon` is called after each change. */
  constructor(store: NodeStore, storeSoon: () => void) {
    this.store = store;
    this.storeSoon = storeSoon;
  }

  /** What was put, or stored before. */
  get(name: string): Uint8Array | undefined {
    const key = OWN + name;
    return this.current.get(key) ?? this.store.get(key);
  }

  /** The names of the stored rows that begin like this, in order. */
  stored(begin: string): string[] {
    return this.store.keys(OWN + begin).map(key => key.slice(OWN.length));
  }

  /** Null removes the row. */
  put(name: string, value: Uint8Array | null): void {
    this.changed.set(OWN + name, value);
    this.current.set(OWN + name, value);
    this.storeSoon();
  }

  /** The changes since this was called last, by the keys of the store: they are about to be stored. */
  takeChanged(): ReadonlyMap<string, Uint8Array | null> {
    const { changed } = this;
    this.changed = new Map();
    return changed;
  }
}
