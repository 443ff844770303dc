/**
 * A program of its own in dist/: reads all that the store at the given path holds. lmdb maps its file into memory and
 * believes what it finds there: a damaged one ends the process that reads it by a signal, so that is not the gateway; or
 * some rows are silently not there.
 */
import { type Database, open } from "lmdb";

/** What lmdb keeps of a table, under its name (MDB_db): its number of rows is at ROWS_AT. No row of the root is so long. */
const TABLE_BYTES = 48;
const ROWS_AT = 32;

const store = open<Uint8Array, string>({
  path: process.argv[2]!,
  readOnly: true,
  maxDbs: 64,
  encoding: "binary",
});

const tables = new Map<string, Database<Uint8Array, string>>();
const names = [...store.getRange()].filter(({ value }) => value.length === TABLE_BYTES).map(({ key }) => key);
for (const name of names) tables.set(name, store.openDB<Uint8Array, string>({ name, encoding: "binary" }));
// What is opened later than a look at the store is not in it: this is another look, one for all (nothing is awaited).
store.resetReadTxn();
for (const { key, value } of store.getRange()) {
  const table = tables.get(key);
  if (!table) continue;
  const expected = Number(new DataView(value.buffer, value.byteOffset).getBigUint64(ROWS_AT, true));
  let rows = 0;
  for (const row of table.getRange()) if (row.value.length >= 0) rows++;
  if (rows !== expected) throw new Error(`${rows} of ${expected} rows of "${key}" can be read`);
}
process.exit(0);
