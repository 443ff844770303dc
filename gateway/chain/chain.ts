/** All that Lightning needs of bitcoind, once per process: the chain followed, transactions sent, feerates. */
import { lngateError } from "../../src/errors.ts";
import type { Log } from "../log.ts";
import { type Broadcaster, createBroadcaster } from "./broadcaster.ts";
import { createFeeEstimator, type FeeEstimator, type FeeOptions } from "./fees.ts";
import { type BlockPoint, createFollower, type Follower } from "./follower.ts";
import { type BitcoinRpc, connectRpc, type RpcOptions } from "./rpc.ts";

export type BitcoinNetwork = "mainnet" | "testnet" | "signet" | "regtest";

export interface ChainOptions extends Pick<FeeOptions, "commitmentFeerate" | "fallbackFeerate"> {
  readonly rpc: RpcOptions;
  readonly network: BitcoinNetwork;
  readonly log: Log;
  /** The chain has been followed up to here. */
  readonly onTip?: (tip: BlockPoint) => void;
}

export interface Chain {
  readonly network: BitcoinNetwork;
  readonly rpc: BitcoinRpc;
  readonly follower: Follower;
  readonly broadcaster: Broadcaster;
  readonly fees: FeeEstimator;
  /** Resolves when bitcoind has answered for the first time, however long that takes. Throws `wrong-network`. */
  start(): Promise<void>;
  stop(): Promise<void>;
}

const CHAIN_NAMES: { readonly [network in BitcoinNetwork]: readonly string[] } = {
  mainnet: ["main"],
  testnet: ["test", "testnet4"],
  signet: ["signet"],
  regtest: ["regtest"],
};

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
  const fees = createFeeEstimator({ ...options, rpc });
  const broadcaster = createBroadcaster({
    rpc,
    onRefused: (txid, reason) => log.warn("bitcoind does not take a transaction", { txid, reason }),
  });
  const follower = createFollower({
    rpc,
    onTip: tip => {
      log.debug("the chain is followed", { height: tip.height });
      options.onTip?.(tip);
      void fees.refresh();
      void broadcaster.resend();
    },
    onTrouble: error => {
      if (error === null) {
        log.info("bitcoind answers again");
        void broadcaster.resend();
      } else log.error((error as Error).message);
    },
  });

  async function rightNetwork(): Promise<void> {
    const { chain } = await rpc.call<{ chain: string }>("getblockchaininfo");
    if (!CHAIN_NAMES[network].includes(chain))
      throw lngateError("wrong-network", `bitcoind is on ${chain}, this gateway on ${network}`);
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
          break;
        } catch (error) {
          if ((error as { code?: string }).code !== "bitcoind-unreachable") throw error;
          if (delay === 250) log.error((error as Error).message);
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
