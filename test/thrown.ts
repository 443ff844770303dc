import { codeOf } from "../src/errors.ts";

/** The stable code of what `work` throws (undefined for a foreign error). It has to throw. */
export function codeThrownBy(work: () => unknown): string | undefined {
  try {
    work();
  } catch (error) {
    return codeOf(error);
  }
  throw new Error("this was expected to throw");
}
