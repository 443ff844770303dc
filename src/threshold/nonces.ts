/** Nonces prepared for the device's own HTLC key: the curve's half of online.ts's signWithNonce. */
import { writeScalar } from "../crypto/scalar-bigint.ts";
import { lngateError } from "../errors.ts";
import { NONCE_RECORD_BYTES } from "./online.ts";
import { G, invert, randomScalar, xsModN } from "./points.ts";
import type { Batch } from "./records.ts";
import type { Random } from "./turns.ts";

/** `count` (1 … 65,535) nonces as records `w ‖ r`, w = 1/k and r = x(k·G). Whoever knows one knows the HTLC key. */
export function makeNonces(epoch: number, firstId: number, count: number, random: Random): Batch {
  if (!(Number.isInteger(count) && count > 0 && count <= 0xffff)) {
    throw lngateError("bad-batch", "a batch has 1 to 65,535 records");
  }
  const nonces = Array.from({ length: count }, () => randomScalar(random));
  const rs = xsModN(nonces.map(k => G.multiply(k)));
  const records = new Uint8Array(count * NONCE_RECORD_BYTES);
  const view = new DataView(records.buffer);
  nonces.forEach((k, i) => {
    writeScalar(view, i * NONCE_RECORD_BYTES, invert(k));
    writeScalar(view, i * NONCE_RECORD_BYTES + 32, rs[i]!);
  });
  return { kind: "H", epoch, firstId, count, records };
}
