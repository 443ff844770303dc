/**
 * A ChannelManager of LDK 0.1.2 that is stored between the storing of a claim (an incoming payment taken) and its
 * completion cannot be read again: the claim is in the manager and in the monitor, and reading takes that for
 * corruption (later releases of LDK do not, but the binding has none of them). The monitor's half is enough: LDK
 * rebuilds the manager's from it. So the manager's is taken out.
 */
import { concat } from "../../src/bytes/bytes.ts";
import { bigSizeBytes, readBigSize, readTlvStream } from "../../src/lightning/tlv.ts";

/** The last part of a serialized manager is a length-prefixed TLV stream (BOLT #1) that has all of these. */
const ALWAYS_PRESENT = [1, 3, 5, 7, 11, 15];
const PENDING_CLAIMS = 4;

/** The serialized manager without its pending claims; null if it has none (or is not a manager). */
export function withoutPendingClaims(manager: Uint8Array): Uint8Array | null {
  for (let at = manager.length - 1; at >= 0; at--) {
    const length = readBigSize(manager, at);
    if (length === null || length.end + length.value !== manager.length) continue;
    const records = readTlvStream(manager.subarray(length.end));
    const types = records?.map(record => record.type) ?? [];
    if (!records || !ALWAYS_PRESENT.every(type => types.includes(type))) continue;
    if (!types.includes(PENDING_CLAIMS)) return null;
    const kept = concat(records.filter(({ type }) => type !== PENDING_CLAIMS).map(({ bytes }) => bytes));
    return concat([manager.subarray(0, at), bigSizeBytes(kept.length), kept]);
  }
  return null;
}
