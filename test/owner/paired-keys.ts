/** The keys of a device that was paired with these words, without the pairing. */
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import type { DeviceKeys } from "../../src/channel/device-keys.ts";

/** Of device number 0 among the words' devices, whose threshold key is `fundingKey`. */
export function pairedKeys(words: string, network: Network, fundingKey: Uint8Array): DeviceKeys {
  const keys = recoveryKeys(words, network);
  const [cold, hot] = [keys.cold(0), keys.device(fundingKey)];
  return {
    fundingKey,
    revocationBasepoint: hot.revocationBasepoint,
    htlcBasepoint: hot.htlcBasepoint,
    paymentBasepoint: cold.paymentBasepoint,
    delayedPaymentBasepoint: cold.delayedPaymentBasepoint,
    depositOwnerKey: cold.depositOwnerKey,
    depositDelay: 4320,
    shutdownScript: cold.shutdownScript,
  };
}
