/**
 * Standard output and standard error, whoever reads them: a reader that has gone (EPIPE) or a full disk (ENOSPC) must
 * not end the program. Node's own streams end it, or stay silent for good after the first failure; they also make the
 * file non-blocking, for everybody who shares it.
 */
import { writeSync } from "node:fs";

/** How long a reader that is behind is waited for, where its pipe does not block by itself. */
const PATIENCE_MS = 1_000;
const STEP_MS = 5;

/** Writes all of the text to a file number. False if it could not be written, or not to its end. */
export function writeText(file: number, text: string): boolean {
  const bytes = Buffer.from(text, "utf8");
  let waited = 0;
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(file, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN" || waited >= PATIENCE_MS) return false;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STEP_MS);
      waited += STEP_MS;
    }
  }
  return true;
}
