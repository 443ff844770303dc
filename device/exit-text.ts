/**
 * The exit as text, for boards that write no files: the owner reads it off a console, and `lngate device exit --from`
 * makes a file of it. It carries the channel's state as it is in flash, from which the owner's computer builds the exit.
 *
 *     lngate-exit:<hex of the content, and of 32 bytes of HMAC-SHA-256 over it>.
 *
 * There is no secret in it. The key of the MAC follows from the owner's words: a text that was cut short, changed or
 * made by somebody else is noticed.
 */
import { ascii, concat, toHex } from "../src/bytes/bytes.ts";
import { bytesUpTo, encodeValue, list, struct, text, UINT16, uint } from "../src/bytes/schema.ts";
import { hmacSha256 } from "../src/crypto/hash.ts";
import { KEY, MAX_SECRETS } from "./channel/state.ts";
import type { DeviceIdentity } from "./identity.ts";
import type { Journal } from "./vault/journal.ts";

/** Values of the journal, without the payments. */
export const exitTextCodec = struct({
  deviceId: [1, text(8)],
  values: [
    2,
    list(struct({ key: [1, uint(UINT16)], value: [2, bytesUpTo(32768)] }), KEY.payments + MAX_SECRETS),
  ],
});

/** The MAC behind the content, by a key that follows from the owner's words. */
export function exitTextMac(commitmentMaster: Uint8Array, content: Uint8Array): Uint8Array {
  return hmacSha256(hmacSha256(commitmentMaster, ascii("lngate/1/exit-text")), content);
}

/** Of a device whose channel has ended. */
export function exitText(
  journal: Pick<Journal, "keys" | "get">,
  { deviceId, commitmentMaster }: Pick<DeviceIdentity, "deviceId" | "commitmentMaster">,
): string {
  const values: { key: number; value: Uint8Array }[] = [];
  for (const key of journal.keys()) {
    const value = key < KEY.payments || key >= KEY.secrets ? journal.get(key) : null;
    if (value !== null) values.push({ key, value });
  }
  const content = encodeValue(exitTextCodec, { deviceId, values });
  return `lngate-exit:${toHex(concat([content, exitTextMac(commitmentMaster, content)]))}.`;
}
