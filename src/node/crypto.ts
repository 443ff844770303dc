/** What the link needs of a platform, by Node's own cryptography. */
import { createCipheriv, randomBytes } from "node:crypto";
import type { LinkCrypto } from "../link/envelope.ts";

export const nodeLinkCrypto: LinkCrypto = {
  aes256Ctr(key, iv, bytes) {
    return new Uint8Array(createCipheriv("aes-256-ctr", key, iv).update(bytes));
  },
  random(length) {
    return new Uint8Array(randomBytes(length));
  },
};
