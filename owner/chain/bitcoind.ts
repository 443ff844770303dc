/** The owner's chain from a bitcoind: no wallet, no transaction index, pruned or not. */

import type { Network } from "../../src/bitcoin/network.ts";
import {
  hashShown,
  parseTransaction,
  shownHash,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type BitcoinRpc, connectRpc, type RpcOptions, rpcCodeOf } from "../../src/node/bitcoind-rpc.ts";
import { parseBlock } from "../../src/node/block.ts";
import {
  type ChainOutput,
  type ConfirmationStatus,
  ensureNetwork,
  networkOfGenesis,
  type OwnerChain,
  type Spender,
  scanBlocks,
  spends,
} from "./chain.ts";
import { createPatience, type PatienceOptions } from "./patience.ts";

/** The answer to a block that is pruned, among others. */
const RPC_MISC = -1;
const RPC_NOT_FOUND = -5;
const RPC_INVALID_PARAMETER = -8;
const RPC_ALREADY_IN_CHAIN = -27;
/** Going through all unspent outputs takes minutes on a small computer. */
const SCAN_TIMEOUT_MS = 30 * 60_000;

interface Scanned {
  readonly success: boolean;
  readonly height: number;
  readonly unspents: readonly {
    readonly txid: string;
    readonly vout: number;
    readonly scriptPubKey: string;
    readonly amount: number;
    readonly height: number;
  }[];
}

interface TxOut {
  readonly confirmations: number;
  readonly value: number;
  readonly scriptPubKey: { readonly hex: string };
}

const satOf = (bitcoin: number) => Math.round(bitcoin * 1e8);

/** The chain as this bitcoind has it. It is asked again while it is busy (patience.ts). */
export function bitcoindChain(options: RpcOptions, patience: PatienceOptions = {}): OwnerChain {
  const name = `bitcoind at ${new URL(options.url).host}`;
  const once = connectRpc(options);
  const patiently = createPatience(patience);
  const rpc: BitcoinRpc = {
    call: (...call) => patiently(() => once.call(...call)),
    close: () => once.close(),
  };
  const network = async () => networkOfGenesis(await rpc.call<string>("getblockhash", [0]), name);
  const height = () => rpc.call<number>("getblockcount");
  const txOut = (txid: string, vout: number) => rpc.call<TxOut | null>("gettxout", [txid, vout, true]);

  /** Throws `chain-refused`. */
  async function send(transaction: Transaction): Promise<void> {
    try {
      await rpc.call("sendrawtransaction", [toHex(transactionBytes(transaction)), 0]);
    } catch (error) {
      const { message } = error as Error;
      if (rpcCodeOf(error) === RPC_ALREADY_IN_CHAIN || message.includes("already in mempool")) return;
      throw codeOf(error) === "bitcoind-refused" ? lngateError("chain-refused", message) : error;
    }
  }

  /** Null also for one that has come into a block in between. */
  async function waitingSpender(txid: string, vout: number): Promise<Transaction | null> {
    const [found] = await rpc.call<{ spendingtxid?: string }[]>("gettxspendingprevout", [[{ txid, vout }]]);
    if (found?.spendingtxid === undefined) return null;
    try {
      return parseTransaction(fromHex(await rpc.call<string>("getrawtransaction", [found.spendingtxid])));
    } catch (error) {
      if (rpcCodeOf(error) === RPC_NOT_FOUND) return null;
      throw error;
    }
  }

  /** What was read of the chain for an output: from which block on, and which block is to be read next if nothing was found. */
  const read = new Map<string, { top: string; hash: string; at: number; found: Spender | null }>();

  async function rawBlock(hash: string, at: number): Promise<Uint8Array> {
    try {
      return fromHex(await rpc.call<string>("getblock", [hash, 0]));
    } catch (error) {
      if (rpcCodeOf(error) !== RPC_MISC) throw error;
      throw lngateError(
        "block-pruned",
        `this bitcoind has no block ${at} any more (${(error as Error).message}): ask one that is pruned less, or an Esplora server`,
      );
    }
  }

  return {
    name,
    height,
    close: () => rpc.close(),
    network,
    async check(expected: Network) {
      ensureNetwork(await network(), expected, name);
      const { initialblockdownload, blocks } = await rpc.call<{
        initialblockdownload: boolean;
        blocks: number;
      }>("getblockchaininfo");
      if (initialblockdownload && expected !== "regtest")
        throw lngateError("chain-behind", `this bitcoind is still at block ${blocks}: wait until it is done`);
    },
    async unspent(scripts) {
      if (scripts.length === 0) return [];
      const found = await rpc
        .call<Scanned>(
          "scantxoutset",
          ["start", scripts.map(script => `raw(${toHex(script)})`)],
          SCAN_TIMEOUT_MS,
        )
        .catch(error => {
          if (rpcCodeOf(error) !== RPC_INVALID_PARAMETER || !/in progress/.test((error as Error).message))
            throw error;
          throw lngateError(
            "chain-busy",
            `the ${name} goes through its outputs for somebody already (an earlier \`recover\` that was stopped?): wait some minutes, or end that with: bitcoin-cli scantxoutset abort`,
          );
        });
      const outputs: ChainOutput[] = [];
      for (const each of found.unspents) {
        // The scan knows blocks only; what a waiting transaction spends is gone for us.
        if ((await txOut(each.txid, each.vout)) === null) continue;
        outputs.push({
          txid: hashShown(each.txid),
          vout: each.vout,
          valueSat: satOf(each.amount),
          script: fromHex(each.scriptPubKey),
          height: each.height,
        });
      }
      return outputs;
    },
    async output({ txid, vout }) {
      const [found, tip] = [await txOut(shownHash(txid), vout), await height()];
      if (found === null) return null;
      const { confirmations, value, scriptPubKey } = found;
      return {
        txid,
        vout,
        valueSat: satOf(value),
        script: fromHex(scriptPubKey.hex),
        height: confirmations === 0 ? null : tip - confirmations + 1,
      };
    },
    async confirmation(transaction): Promise<ConfirmationStatus> {
      const txid = shownHash(txidOf(transaction));
      try {
        await rpc.call("getmempoolentry", [txid]);
        return "waiting";
      } catch (error) {
        if (rpcCodeOf(error) !== RPC_NOT_FOUND) throw error;
      }
      // Without an index only its unspent outputs tell; an exit always has one that only its owner can spend.
      const tip = await height();
      for (const vout of transaction.outputs.keys()) {
        const found = await txOut(txid, vout);
        if (found !== null && found.confirmations > 0) return tip - found.confirmations + 1;
      }
      return "unknown";
    },
    async spender(outpoint, blocks, onProgress): Promise<Spender | null> {
      const waiting = await waitingSpender(shownHash(outpoint.txid), outpoint.vout);
      if (waiting) return { transaction: waiting, height: null };
      if (blocks === 0) return null;
      const name = `${shownHash(outpoint.txid)}:${outpoint.vout}`;
      const before = read.get(name);
      const top = await rpc.call<string>("getbestblockhash");
      const { height: tip } = await rpc.call<{ height: number }>("getblockheader", [top]);
      const lowest = Math.max(1, tip - blocks + 1);
      let [hash, at, found]: [string, number, Spender | null] = [top, tip, null];
      try {
        // By the blocks' own links, so that a reorg in the meantime makes no gap.
        while (found === null && at >= lowest) {
          if (hash === before?.top) {
            ({ hash, at, found } = before);
            continue;
          }
          onProgress?.(at, lowest);
          const { transactions, previous } = parseBlock(await rawBlock(hash, at));
          const spending = transactions.find(each => spends(each, outpoint));
          if (spending) found = { transaction: parseTransaction(spending.raw.slice()), height: at };
          [hash, at] = [shownHash(previous), at - 1];
        }
      } finally {
        read.set(name, { top, hash, at, found });
      }
      return found;
    },
    async feerate(blocks) {
      const { feerate } = await rpc.call<{ feerate?: number }>("estimatesmartfee", [blocks]);
      return feerate === undefined ? null : Math.ceil(satOf(feerate) / 4);
    },
    async publish(transactions) {
      if (transactions.length === 1) return send(transactions[0]!);
      const raw = transactions.map(each => toHex(transactionBytes(each)));
      const result = await rpc
        .call<{
          package_msg: string;
          "tx-results": { [wtxid: string]: { error?: string } };
        }>("submitpackage", [raw, 0])
        .catch(error => {
          if (codeOf(error) !== "bitcoind-refused") throw error;
          throw lngateError("chain-refused", (error as Error).message);
        });
      if (result.package_msg === "success") return;
      const reasons = Object.values(result["tx-results"]).flatMap(({ error }) => (error ? [error] : []));
      throw lngateError("chain-refused", `${result.package_msg}: ${reasons.join("; ")}`);
    },
    async revealedScripts(fromHeight, accepts, onProgress) {
      return scanBlocks(fromHeight, await height(), accepts, onProgress, async at => {
        const hash = await rpc.call<string>("getblockhash", [at]);
        return fromHex(await rpc.call<string>("getblock", [hash, 0]));
      });
    },
  };
}
