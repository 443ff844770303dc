/** A ceremony as a chain of turns, each of which can be taken once. */
import { Fields } from "../bytes/fields.ts";
import { lngateError } from "../errors.ts";

/** `length` fresh random bytes. */
export type Random = (length: number) => Uint8Array;

/**
 * A party waiting for one message. The secrets of the ceremony live inside; receiving moves them on into `Next`
 * and spends this turn, whether the message was good or not.
 */
export interface Turn<Name extends string, Next> {
  /** The message that is due. */
  readonly awaits: Name;
  /** Throws `threshold-step-spent` the second time, otherwise what the ceremony throws. */
  receive(message: Uint8Array): Next;
}

/** A message for the other party, and the turn that follows. */
export interface Sent<Next> {
  readonly send: Uint8Array;
  readonly next: Next;
}

/** A turn that `read` takes. */
export function turn<Name extends string, Next>(
  awaits: Name,
  read: (message: Uint8Array) => Next,
): Turn<Name, Next> {
  let next: typeof read | undefined = read;
  return {
    awaits,
    receive(message) {
      if (next === undefined) {
        throw lngateError("threshold-step-spent", `this party has already received its ${awaits}`);
      }
      const once = next;
      next = undefined;
      return once(message);
    },
  };
}

/** Reads the fields of a message; throws `threshold-bad-message` unless it fits exactly. */
export function fieldsOf(name: string, message: Uint8Array, length: number): Fields {
  return new Fields(message, length, why => lngateError("threshold-bad-message", `${name} ${why}`));
}
