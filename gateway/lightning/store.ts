/** LDK's state in lmdb: the rows of many nodes in one table, each under its own prefix. */
import type { Database } from "lmdb";
import type { NodeStore } from "./node.ts";

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
    write(rows) {
      table.transactionSync(() => {
        for (const [key, value] of rows) {
          if (value === null) table.removeSync(prefix + key);
          else table.putSync(prefix + key, value);
        }
      });
    },
  };
}
