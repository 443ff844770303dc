/** All that Lightning needs of bitcoind, once per process: the chain followed, transactions sent, feerates. */
import { BITCOIND_CHAINS, type Network } from "../../src/bitcoin/network.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type BitcoinRpc, connectRpc, passes, type RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import { type Log, lastingTrouble } from "../log.ts";
import { type Broadcaster, createBroadcaster } from "./broadcaster.ts";
import type { BlockPoint } from "./chain-client.ts";
import { createFeeEstimator, type FeeEstimator, type FeeOptions } from "./fees.ts";
import { createFollower, type Follower } from "./follower.ts";

/** Which bitcoind, and of which network it has to be. */
export interface ChainOptions extends Pick<FeeOptions, "commitmentFeerate" | "fallbackFeerate"> {
  readonly rpc: RpcOptions;
  readonly network: Network;
  readonly log: Log;
  /** The chain has been followed up to here. */
  readonly onTip?: (tip: BlockPoint) => void;
}

/** One bitcoind, for everybody in the process. Feerates are in satoshis per 1000 weight units. */
export interface Chain {
  readonly network: Network;
  readonly rpc: BitcoinRpc;
  readonly follower: Follower;
  readonly broadcaster: Broadcaster;
  readonly fees: FeeEstimator;
  /** Resolves when bitcoind has answered for the first time, however long that takes. Throws `wrong-network`, `bitcoind-…`. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Asks bitcoind nothing before `start`. */
export function createChain(options: ChainOptions): Chain {
  const { network, log } = options;
  const connection = connectRpc(options.rpc);
  let stopped = false;
  const rpc: BitcoinRpc = {
    async call<Result>(method: string, params?: readonly unknown[], timeoutMs?: number) {
      // Of a bitcoind that hangs, one answer after the other would be waited for.
      if (stopped)
        throw lngateError("bitcoind-unreachable", "bitcoind is not asked any more: the gateway ends");
      return connection.call<Result>(method, params, timeoutMs);
    },
    close: () => connection.close(),
  };
  const trouble = lastingTrouble(error => {
    if (error) log.error(error.message, { code: codeOf(error) });
    else {
      log.info("bitcoind answers again");
      void broadcaster.resend();
    }
  });
  const fees = createFeeEstimator({
    ...options,
    rpc,
    onTrouble: lastingTrouble(error => {
      if (error) log.warn(`feerates are not up to date: ${error.message}`, { code: codeOf(error) });
      else log.info("feerates are up to date again");
    }),
  });
  const broadcaster = createBroadcaster({
    rpc,
    onRefused: (txid, reason) => log.warn("bitcoind does not take a transaction", { txid, reason }),
    onTrouble: lastingTrouble(error => {
      if (error) log.error(`transactions can't be sent: ${error.message}`, { code: codeOf(error) });
      else log.info("transactions can be sent again");
    }),
  });
  const follower = createFollower({
    rpc,
    onTip: tip => {
      log.debug("the chain is followed", { height: tip.height });
      options.onTip?.(tip);
      void fees.refresh();
      void broadcaster.resend();
    },
    onTrouble: trouble,
    onPolling: error =>
      log.warn(`a new block is found by asking every second: ${error.message}`, { code: codeOf(error) }),
    onPassedOver: (from, to) =>
      log.warn(
        "blocks that bitcoind has pruned were passed over: nothing in them concerned a channel of this node",
        {
          from: from + 1,
          to,
        },
      ),
  });

  async function rightNetwork(): Promise<void> {
    const { chain } = await rpc.call<{ chain: string }>("getblockchaininfo");
    if (!BITCOIND_CHAINS[network].includes(chain))
      throw lngateError(
        "wrong-network",
        `bitcoind is on "${chain}", and "network" in the configuration is "${network}"`,
      );
  }

  return {
    network,
    rpc,
    follower,
    broadcaster,
    fees,
    async start() {
      for (let delay = 250; !stopped; delay = Math.min(delay * 2, 10_000)) {
        try {
          await rightNetwork();
          await follower.sync();
          trouble(null);
          break;
        } catch (error) {
          if (!passes(error)) throw error;
          trouble(error);
          await new Promise(resolve => setTimeout(resolve, delay));
        }
      }
      await fees.refresh();
      follower.start();
    },
    async stop() {
      stopped = true;
      const stopping = follower.stop();
      rpc.close();
      await stopping;
    },
  };
}
