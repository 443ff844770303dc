/** Where Espruino differs from the language: its `slice` of a typed array is a plain array. Imported before all else. */
Uint8Array.prototype.slice = function (
  this: Uint8Array,
  start?: number,
  end?: number,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(this.subarray(start, end === undefined ? this.length : end));
};
