/** What all Lightning nodes of one process share: LDK's WebAssembly, the network graph and the scorer. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import * as ldk from "lightningdevkit";
import type { Network } from "../../src/bitcoin/network.ts";
import type { GraphKnowledge } from "../../src/lightning/graph-knowledge.ts";
import type { Chain } from "../chain/chain.ts";
import type { FeePurpose } from "../chain/fees.ts";
import { counted, type Log } from "../log.ts";
import { encodeStored } from "../store/values.ts";
import { KNOWLEDGE, readKnowledge } from "./knowledge.ts";
import { channelsIn, Gossip, type GossipOptions } from "./peers/gossip.ts";
import type { NodeStore } from "./store.ts";

let started: Promise<void> | undefined;

/** Loads LDK, once per process. */
export function startLdk(): Promise<void> {
  started ??= (async () => {
    const wasm = createRequire(import.meta.url).resolve("lightningdevkit/liblightningjs.wasm");
    // LDK announces its version on standard output, which belongs to the program's results.
    const { log } = console;
    console.log = () => {};
    try {
      await ldk.initializeWasmFromBinary(readFileSync(wasm));
    } finally {
      console.log = log;
    }
  })();
  return started;
}

const PURPOSES: ReadonlyMap<ldk.ConfirmationTarget, FeePurpose> = new Map([
  [ldk.ConfirmationTarget.LDKConfirmationTarget_MaximumFeeEstimate, "maximum"],
  [ldk.ConfirmationTarget.LDKConfirmationTarget_UrgentOnChainSweep, "urgent"],
  [ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedAnchorChannelRemoteFee, "minimum"],
  [ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedNonAnchorChannelRemoteFee, "minimum"],
  [ldk.ConfirmationTarget.LDKConfirmationTarget_AnchorChannelFee, "commitment"],
  // LDK asks for these two to know the most and the least that a mutual close may pay.
  [ldk.ConfirmationTarget.LDKConfirmationTarget_NonAnchorChannelFee, "urgent"],
  [ldk.ConfirmationTarget.LDKConfirmationTarget_ChannelCloseMinimum, "minimum"],
  [ldk.ConfirmationTarget.LDKConfirmationTarget_OutputSpendingFee, "normal"],
]);

/** Shared by all nodes of a process. Feerates are in satoshis per 1000 weight units. */
export interface LightningRuntime {
  readonly network: Network;
  readonly logger: ldk.Logger;
  /** What that does with a record. */
  logRecord(record: ldk.Record): void;
  readonly feeEstimator: ldk.FeeEstimator;
  /** What that says, sat per 1000 weight units. */
  feerate(target: ldk.ConfirmationTarget): number;
  readonly broadcaster: ldk.BroadcasterInterface;
  readonly graph: ldk.NetworkGraph;
  readonly scorer: ldk.MultiThreadedLockableScore;
  /** The same scorer, to be told how payments went; a lock taken from JavaScript would be held until collected. */
  readonly score: ldk.ProbabilisticScorer;
  readonly chain: Chain;
  /**
   * What this node is to ask its peers for the network graph with: one node at a time, since the graph is everyone's and a
   * bridge need not tell it to each of a thousand devices' nodes.
   */
  takeGossip(node: object, link: Pick<GossipOptions, "wake" | "isConnected" | "run">): Gossip | undefined;
  leaveGossip(node: object): void;
  /** Asks for the policy of a channel by gossip, until `isKnown` or in vain. */
  askPolicy(channel: bigint, isKnown: () => boolean): Promise<void>;
  /** What is known of the network. */
  knowledge(): GraphKnowledge;
  /** Stores what was learnt of the network, and no more. */
  stop(): Promise<void>;
}

const GRAPH = "graph";
const SCORER = "scorer";
const PRUNE_MS = 3_600_000;
/** How soon what is new is stored. */
const SAVE_MS = 3_000;
/** …and how much of the time may go into that: a large graph is stored less often. */
const SAVE_SHARE = 0.005;

const NETWORKS: Readonly<Record<Network, ldk.Network>> = {
  mainnet: ldk.Network.LDKNetwork_Bitcoin,
  testnet: ldk.Network.LDKNetwork_Testnet,
  signet: ldk.Network.LDKNetwork_Signet,
  regtest: ldk.Network.LDKNetwork_Regtest,
};

/** LDK's word for it. */
export function ldkNetwork(network: Network): ldk.Network {
  return NETWORKS[network];
}

/**
 * One graph for all nodes: each reserves some 150 MB of WebAssembly memory, which ends at 2 GiB. With a store the
 * graph and what payments taught are there again at the next start; without, peers must be asked again.
 */
export async function startRuntime(chain: Chain, log: Log, store?: NodeStore): Promise<LightningRuntime> {
  const { network } = chain;
  await startLdk();
  // A peer can cause them at will.
  const errors = counted((text, fields) => log.warn(text, fields));
  const logRecord = (record: ldk.Record) => {
    const level = record.get_level();
    if (level === ldk.Level.LDKLevel_Error)
      errors.note(record.get_args(), { module: record.get_module_path() });
    else if (level >= ldk.Level.LDKLevel_Info)
      log.debug(record.get_args(), { module: record.get_module_path() });
  };
  const logger = ldk.Logger.new_impl({ log: logRecord });
  const feerate = (target: ldk.ConfirmationTarget) => chain.fees.feerate(PURPOSES.get(target) ?? "normal");
  const feeEstimator = ldk.FeeEstimator.new_impl({ get_est_sat_per_1000_weight: feerate });
  const broadcaster = ldk.BroadcasterInterface.new_impl({
    broadcast_transactions: transactions => chain.broadcaster.broadcast(transactions),
  });
  const graph = readGraph(store, ldkNetwork(network), logger);
  const score = readScorer(store, graph, logger);
  let gossiper: object | undefined;
  let gossip: Gossip | undefined;
  let changedAt = readKnowledge(store)?.changedAt ?? 0;
  let saveTimer: NodeJS.Timeout | undefined;
  let restMs = SAVE_MS;

  function knowledge(): GraphKnowledge {
    return { channels: channelsIn(graph).length, changedAt };
  }

  async function save(): Promise<void> {
    clearTimeout(saveTimer);
    saveTimer = undefined;
    if (!store) return;
    const begin = performance.now();
    const rows = [
      [GRAPH, graph.write()] as const,
      [SCORER, score.write()] as const,
      [KNOWLEDGE, encodeStored(knowledge())] as const,
    ];
    restMs = Math.max(SAVE_MS, (performance.now() - begin) / SAVE_SHARE);
    await store.write(new Map(rows));
  }

  function saveSoon(): void {
    saveTimer ??= setTimeout(() => {
      save().catch(error => log.error(`the network graph is not stored: ${(error as Error).message}`));
    }, restMs).unref();
  }

  function changed(): void {
    changedAt = Math.floor(Date.now() / 1000);
    saveSoon();
  }

  const timer = setInterval(() => {
    graph.remove_stale_channels_and_tracking_with_time(BigInt(Math.floor(Date.now() / 1000)));
    saveSoon();
  }, PRUNE_MS);
  timer.unref();

  return {
    network,
    logger,
    logRecord,
    feeEstimator,
    feerate,
    broadcaster,
    graph,
    scorer: ldk.MultiThreadedLockableScore.constructor_new(score.as_Score()),
    score,
    chain,
    takeGossip(node, link) {
      if (gossiper) return undefined;
      gossiper = node;
      gossip = new Gossip({ graph, logger, changed, ...link });
      return gossip;
    },
    leaveGossip(node) {
      if (gossiper !== node) return;
      gossip?.stop();
      gossiper = undefined;
      gossip = undefined;
    },
    askPolicy: (channel, isKnown) => gossip?.ask(channel, isKnown) ?? Promise.resolve(),
    knowledge,
    async stop() {
      clearInterval(timer);
      await save();
    },
  };
}

/** What can't be read is learnt again: nothing of it is worth refusing to start. */
function readGraph(store: NodeStore | undefined, network: ldk.Network, logger: ldk.Logger): ldk.NetworkGraph {
  const stored = store?.get(GRAPH);
  const read = stored && ldk.NetworkGraph.constructor_read(stored, logger);
  if (read instanceof ldk.Result_NetworkGraphDecodeErrorZ_OK) return read.res;
  return ldk.NetworkGraph.constructor_new(network, logger);
}

function readScorer(
  store: NodeStore | undefined,
  graph: ldk.NetworkGraph,
  logger: ldk.Logger,
): ldk.ProbabilisticScorer {
  const decay = () => ldk.ProbabilisticScoringDecayParameters.constructor_default();
  const stored = store?.get(SCORER);
  const read = stored && ldk.ProbabilisticScorer.constructor_read(stored, decay(), graph, logger);
  if (read instanceof ldk.Result_ProbabilisticScorerDecodeErrorZ_OK) return read.res;
  return ldk.ProbabilisticScorer.constructor_new(decay(), graph, logger);
}
