/** A table of a gateway's store, real and in a folder of its own, until the tests of the file are over. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "@jest/globals";
import { type Database, open } from "lmdb";

/** To be called while the file is loaded. */
export function storeTable(name: string): Database<Uint8Array, string> {
  const folder = mkdtempSync(join(tmpdir(), "lngate-table-"));
  const environment = open<unknown, string>({ path: join(folder, "store"), noSync: true });
  afterAll(async () => {
    await environment.close();
    rmSync(folder, { recursive: true });
  });
  return environment.openDB({ name, encoding: "binary" });
}
