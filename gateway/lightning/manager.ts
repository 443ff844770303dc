/** Makes a node's ChannelManager: from nothing, or from what was stored of it. */
import * as ldk from "lightningdevkit";
import { lngateError } from "../../src/errors.ts";
import type { BlockPoint } from "../chain/chain-client.ts";
import { withoutPendingClaims } from "./manager-repair.ts";
import type { NodeKeys } from "./node-options.ts";
import { type LightningRuntime, ldkNetwork } from "./runtime.ts";

/** What a ChannelManager works with. */
export interface ManagerParts {
  readonly runtime: LightningRuntime;
  readonly keys: NodeKeys;
  readonly feeEstimator: ldk.FeeEstimator;
  readonly monitor: ldk.ChainMonitor;
  readonly router: ldk.Router;
  readonly messageRouter: ldk.MessageRouter;
  readonly config: ldk.UserConfig;
}

/** Of a node that begins its life at this block. */
export function newManager(parts: ManagerParts, tip: BlockPoint): ldk.ChannelManager {
  const { runtime, keys } = parts;
  return ldk.ChannelManager.constructor_new(
    parts.feeEstimator,
    parts.monitor.as_Watch(),
    runtime.broadcaster,
    parts.router,
    parts.messageRouter,
    runtime.logger,
    keys.entropySource,
    keys.nodeSigner,
    keys.signerProvider,
    parts.config,
    ldk.ChainParameters.constructor_new(
      ldkNetwork(runtime.network),
      ldk.BestBlock.constructor_new(tip.hash, tip.height),
    ),
    Math.floor(Date.now() / 1000),
  );
}

/** Of a node that was stored, with all monitors of its channels. Throws `store-damaged`. */
export function readManager(
  parts: ManagerParts,
  stored: Uint8Array,
  monitors: ldk.ChannelMonitor[],
): ldk.ChannelManager {
  const { runtime, keys } = parts;
  const readFrom = (serialized: Uint8Array) =>
    ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelManagerZ_read(
      serialized,
      keys.entropySource,
      keys.nodeSigner,
      keys.signerProvider,
      parts.feeEstimator,
      parts.monitor.as_Watch(),
      runtime.broadcaster,
      parts.router,
      parts.messageRouter,
      runtime.logger,
      parts.config,
      monitors,
    );
  let read = readFrom(stored);
  if (!read.is_ok()) read = readFrom(withoutPendingClaims(stored) ?? stored);
  if (!(read instanceof ldk.Result_C2Tuple_ThirtyTwoBytesChannelManagerZDecodeErrorZ_OK)) {
    throw lngateError("store-damaged", "the Lightning node's state in the store can't be read");
  }
  return read.res.get_b();
}
