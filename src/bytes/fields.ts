/** Reading the fields of a message of known length, one after the other. */

/** A reader. What does not fit exactly is what `fault` makes of the reason. */
export class Fields {
  private at = 0;
  private readonly message: Uint8Array;
  private readonly fault: (why: string) => Error;

  constructor(message: Uint8Array, length: number, fault: (why: string) => Error) {
    if (message.length !== length) throw fault(`must have ${length} bytes`);
    // A plain array whatever the caller has: slicing a Node Buffer would not copy.
    this.message = new Uint8Array(message.buffer, message.byteOffset, message.length);
    this.fault = fault;
  }

  /** The next `length` bytes, a view of the message. */
  take(length: number): Uint8Array {
    const end = this.at + length;
    if (end > this.message.length) throw this.fault("ends too early");
    const field = this.message.subarray(this.at, end);
    this.at = end;
    return field;
  }

  /** A big-endian number of 1 to 4 bytes. */
  number(length: number): number {
    return this.take(length).reduce((value, byte) => value * 256 + byte, 0);
  }
}
