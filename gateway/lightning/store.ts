/** LDK's state in lmdb: the rows of many nodes in one table, each under its own prefix. */
import type { Database } from "lmdb";

/** The rows of one node, by name. */
export interface NodeStore {
  get(key: string): Uint8Array | undefined;
  /** Names that begin like this, in order. */
  keys(begin: string): string[];
  /** Writes all these rows (null: removes) or none; resolves when a power cut can't undo it. */
  write(rows: ReadonlyMap<string, Uint8Array | null>): Promise<void>;
}

/**
 * The rows of the node called `name`. Writes of different nodes that come at the same time go to the disk together,
 * and meanwhile nobody waits but LDK. The environment must be opened with `overlappingSync: false`: otherwise
 * lmdb says "written" before the disk does.
 */
export function openNodeStore(table: Database<Uint8Array, string>, name: string): NodeStore {
  const prefix = `${name}/`;
  return {
    get(key) {
      const stored = table.get(prefix + key);
      return stored && new Uint8Array(stored);
    },
    keys(begin) {
      const start = prefix + begin;
      return [...table.getKeys({ start, end: `${start}~` })].map(key => key.slice(prefix.length));
    },
    async write(rows) {
      // A batch is one transaction of lmdb's writing thread. `transaction` would have that thread wait for this one,
      // and a process that ends at that moment would wait for ever.
      await table.batch(() => {
        for (const [key, value] of rows) {
          if (value === null) void table.remove(prefix + key);
          else void table.put(prefix + key, value);
        }
      });
    },
  };
}
