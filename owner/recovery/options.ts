/** What a recovery is given, and what one run of it has found out of words and chain before it decides anything. */

import type { OwnerChain } from "../chain/chain.ts";
import type { HeldChannel } from "../folder/device-files.ts";
import type { ColdKeys } from "../folder/seed.ts";
import type { ExitFile } from "./exit-file.ts";
import type { FeeCoin } from "./fee-coin.ts";
import type { RecoveryKeys } from "./keys.ts";

/** A device's deposit script, as backup and exit know it: the shared key Q and the delay. */
export interface KnownDeposit {
  readonly fundingKey: Uint8Array;
  readonly depositDelay: number;
}

/** What `planRecovery` is given. */
export interface RecoveryOptions {
  readonly keys: RecoveryKeys;
  readonly chain: OwnerChain;
  /** Sealed exits (readExit). Ones that are not final are refused. */
  readonly exits: readonly ExitFile[];
  /**
   * Exits that devices keep of channels that have ended for them: good for finding what such a channel has paid, whoever
   * closed it. They are not published: that takes the owner, who names one among `exits`.
   */
  readonly kept?: readonly ExitFile[];
  readonly deposits: readonly KnownDeposit[];
  /** Device numbers that are looked for: 0 … gap − 1. */
  readonly gap: number;
  /** Sat per 1000 weight; without it the chain is asked. */
  readonly feeratePerKw?: number;
  /** Where everything is paid; without it to the words' ordinary address of each device. */
  readonly toScript?: Uint8Array;
  /** The coin that hurries an exit, or pays for payments that timed out in it. */
  readonly coin?: FeeCoin;
  /** Channels of which our own commitment may be on the chain, published by somebody else. */
  readonly channels?: readonly HeldChannel[];
  /** Look for deposits whose backup is lost in all blocks from this height on. */
  readonly scanFromHeight?: number;
  onProgress?(sentence: string): void;
}

/** Cold keys of the devices that are looked for, by the devices' numbers among these words. */
export type Devices = ReadonlyMap<number, ColdKeys>;

/** One run: what it was given, and the chain as it is now. */
export interface RecoveryRun {
  readonly options: RecoveryOptions;
  readonly devices: Devices;
  readonly height: number;
  /** Sat per 1000 weight: that of the options, or the chain's. */
  readonly feeratePerKw: number;
  /** It is the chain's word, not the owner's: paid as far as what comes home allows (`boundedFeerate`). */
  readonly isEstimate: boolean;
  /** What could not be found or done, in sentences: grows along the way. */
  readonly remarks: string[];
}
