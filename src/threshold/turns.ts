/** A ceremony as a chain of turns, each of which can be taken once. */
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

/** Reads the fields of a message one after the other; throws `threshold-bad-message` unless it fits exactly. */
export class Fields {
  private at = 0;
  private readonly name: string;
  private readonly message: Uint8Array;

  constructor(name: string, message: Uint8Array, length: number) {
    if (message.length !== length) {
      throw lngateError("threshold-bad-message", `${name} must have ${length} bytes`);
    }
    this.name = name;
    // A plain array whatever the caller has: slicing a Node Buffer would not copy.
    this.message = new Uint8Array(message.buffer, message.byteOffset, message.length);
  }

  /** The next `length` bytes, a view of the message. */
  take(length: number): Uint8Array {
    const end = this.at + length;
    if (end > this.message.length) {
      throw lngateError("threshold-bad-message", `${this.name} ends too early`);
    }
    const field = this.message.subarray(this.at, end);
    this.at = end;
    return field;
  }

  /** A big-endian number of 1 to 4 bytes. */
  number(length: number): number {
    return this.take(length).reduce((value, byte) => value * 256 + byte, 0);
  }
}
