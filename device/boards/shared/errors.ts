/** Errors on a board, in place of src/errors.ts: the stable code alone. Docs and gateway know the sentences. */
import type { LngateError } from "../../../src/errors.ts";

export type { LngateError };

/** An error with this code, which is its message as well. */
export function lngateError(code: string, _sentence?: string): LngateError {
  const error = new Error(code) as Error & { code: string };
  error.code = code;
  return error;
}

/** The stable code of an error; undefined for any other. */
export function codeOf(error: unknown): string | undefined {
  return error ? (error as { code?: string }).code : undefined;
}
