/** An error that users and tests can name: `code` is stable, the sentence (`message`) may improve. */
export interface LngateError extends Error {
  readonly code: string;
}

/**
 * Makes an error with a stable code. Codes are lower-case words joined by hyphens; the rules of the device
 * start with `policy-`. A secret never appears in either part. (A function and not a class: Espruino's
 * engine cannot extend Error.)
 */
export function lngateError(code: string, sentence: string): LngateError {
  const error = new Error(sentence) as Error & { code: string };
  error.code = code;
  return error;
}

/** The stable code of anything caught, or undefined if it is not an error of ours. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === "string" ? code : undefined;
}
