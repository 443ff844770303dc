/** The words between a device in an engine and its host. Numbers are doubles, little-endian; text is ASCII. */

/** First byte of a question. scripts/engines/engine.ts answers them. */
export const ASK = {
  flashRead: 0,
  flashProgram: 1,
  flashErase: 2,
  flashSize: 3,
  sha256: 4,
  hmacSha256: 5,
  ripemd160: 6,
  aes256Ctr: 7,
  now: 8,
  ticks: 9,
  after: 10,
  cancel: 11,
  connect: 12,
  publish: 13,
  disconnect: 14,
  report: 15,
};

/** First byte of what the host tells the engine. */
export const TELL = { open: 0, message: 1, close: 2, timer: 3, call: 4 };
