/**
 * What devices' channels have on the chain: deposits that can fund them, and the transaction that ends them. Both
 * are noted as blocks go by, from where the gateway last was. Before a deposit is used or counted, bitcoind is asked
 * whether it is still there, so a reorg or a spend needs no bookkeeping here.
 */

import type { Database } from "lmdb";
import {
  hashShown,
  type Outpoint,
  shownHash,
  type Transaction,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { MAX_DEPOSITS } from "../../src/channel/terms.ts";
import { codeOf } from "../../src/errors.ts";
import { buildFunding, type Deposit, fundingWeight } from "../../src/lightning/funding.ts";
import type { BitcoinRpc } from "../../src/node/bitcoind-rpc.ts";
import { headerHash } from "../../src/node/block.ts";
import type { Chain } from "../chain/chain.ts";
import type { BlockPoint, ChainClient, Watching } from "../chain/chain-client.ts";

/** An unspent deposit; 0 confirmations: it is not mined yet. */
export interface UnspentDeposit extends Deposit {
  readonly confirmations: number;
}

const TIP = "tip";
/** bitcoind goes through all unspent outputs there are. */
const SCAN_MS = 3_600_000;

/** See the head of this file. */
export class Deposits {
  private readonly table: Database<Uint8Array, string>;
  private readonly rpc: BitcoinRpc;
  private readonly chain: Chain;
  private readonly start: BlockPoint;
  /** Once the blocks are followed. */
  private watching: Watching | undefined;
  /**
   * Blocks that were pruned before they were read: `unscanned` until bitcoind has searched its unspent outputs for deposits,
   * `ended` if some channel's end may be in them. As long as there is a gap, the place before it is remembered.
   */
  private gap: "none" | "unscanned" | "ended" = "none";
  /** Device by its deposit scriptPubKey, hex. */
  private readonly devices = new Map<string, string>();
  private readonly endings = new Map<string, { outpoint: Outpoint; ended: (spend: Transaction) => void }>();

  private constructor(table: Database<Uint8Array, string>, chain: Chain, start: BlockPoint) {
    this.table = table;
    this.rpc = chain.rpc;
    this.chain = chain;
    this.start = start;
  }

  /** Up to which block this table was brought; undefined before the first start. */
  static lastBlock(table: Database<Uint8Array, string>): BlockPoint | undefined {
    const stored = table.get(TIP);
    return stored && readTip(new Uint8Array(stored));
  }

  /** Nothing is noted before `follow`. */
  static async open(table: Database<Uint8Array, string>, chain: Chain): Promise<Deposits> {
    const tip = Deposits.lastBlock(table) ?? (await chain.follower.currentTip());
    return new Deposits(table, chain, tip);
  }

  /**
   * Goes through the blocks from where the gateway last was. Blocks come once: whatever may be in those that were
   * mined meanwhile must be watched before.
   */
  follow(): void {
    this.watching = this.chain.follower.join(this.client(this.start));
    for (const script of this.devices.keys()) this.watching.paymentTo(fromHex(script));
    for (const { outpoint } of this.endings.values()) this.watching.spendOf(outpoint.txid, outpoint.vout);
  }

  /** From now on, outputs with this scriptPubKey belong to this device. */
  watch(deviceId: string, script: Uint8Array): void {
    this.devices.set(toHex(script), deviceId);
    this.watching?.paymentTo(script);
  }

  /** Calls back with a confirmed transaction that spends this output. */
  onSpent(outpoint: Outpoint, ended: (spend: Transaction) => void): void {
    this.endings.set(keyOf(outpoint), { outpoint, ended });
    this.watching?.spendOf(outpoint.txid, outpoint.vout);
  }

  /** The unspent deposits of a device, mined or not; one that is spent by a waiting transaction counts no more. */
  async of(deviceId: string): Promise<UnspentDeposit[]> {
    const prefix = `${deviceId}/`;
    const found: UnspentDeposit[] = [];
    for (const { key, value } of this.table.getRange({ start: prefix, end: `${prefix}~` })) {
      const [txid = "", vout = ""] = key.slice(prefix.length).split(":");
      const unspent = await this.rpc.call<{ confirmations: number } | null>("gettxout", [
        txid,
        Number(vout),
        true,
      ]);
      if (unspent === null) continue;
      found.push({
        txid: hashShown(txid),
        vout: Number(vout),
        valueSat: Number(new TextDecoder().decode(value)),
        confirmations: unspent.confirmations,
      });
    }
    return found;
  }

  private see(transaction: Transaction): void {
    for (const [vout, { script, valueSat }] of transaction.outputs.entries()) {
      const deviceId = this.devices.get(toHex(script));
      if (deviceId === undefined) continue;
      this.note(deviceId, { txid: txidOf(transaction), vout }, valueSat);
    }
    for (const input of transaction.inputs) this.endings.get(keyOf(input))?.ended(transaction);
  }

  private client(start: BlockPoint): ChainClient {
    let tip = start;
    return {
      tip: () => tip,
      confirmed: () => [],
      transactionsConfirmed: (_header, transactions) => {
        for (const { transaction } of transactions) this.see(transaction);
      },
      transactionUnconfirmed: () => {},
      bestBlock: (header, height) => {
        tip = { hash: headerHash(header), height };
        if (this.gap === "unscanned") void this.scan();
        else if (this.gap === "none") this.table.putSync(TIP, writeTip(tip));
      },
      // Deposits can be found without the blocks that they are in.
      passOver: async () => {
        this.gap = "unscanned";
        return true;
      },
    };
  }

  /** Finds what was paid in a gap. Tried again with the next block if bitcoind is away or scans already; never throws. */
  private async scan(): Promise<void> {
    const scripts = [...this.devices.keys()].map(script => `raw(${script})`);
    try {
      const { unspents } = await this.rpc.call<{
        unspents: { txid: string; vout: number; scriptPubKey: string; amount: number }[];
      }>("scantxoutset", ["start", scripts], SCAN_MS);
      for (const { txid, vout, scriptPubKey, amount } of unspents) {
        const deviceId = this.devices.get(scriptPubKey);
        const sat = Math.round(amount * 1e8);
        if (deviceId) this.note(deviceId, { txid: hashShown(txid), vout }, sat);
      }
      for (const { outpoint } of this.endings.values()) {
        const txid = shownHash(outpoint.txid);
        const unspent = await this.rpc.call("gettxout", [txid, outpoint.vout, false]);
        if (unspent === null) {
          this.gap = "ended";
          return;
        }
      }
      this.gap = "none";
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
    }
  }

  private note(deviceId: string, outpoint: Outpoint, valueSat: number): void {
    this.table.putSync(`${deviceId}/${keyOf(outpoint)}`, new TextEncoder().encode(String(valueSat)));
  }
}

/**
 * The deposits that a channel is funded from: the largest first, as many as one funding transaction may spend, and none
 * of which less would be left than its spending costs (and a presignature). Anybody can send dust to a deposit address,
 * as much of it as they like. `maxFeeSat`: of the whole transaction, by the owner's policy.
 */
export function depositsToSpend(
  standing: readonly UnspentDeposit[],
  depositScript: Uint8Array,
  feeratePerKw: number,
  maxFeeSat = Number.POSITIVE_INFINITY,
): { readonly deposits: readonly Deposit[]; readonly valueSat: number; readonly feeSat: number } {
  let chosen: { deposits: readonly Deposit[]; valueSat: number; feeSat: number } = {
    deposits: [],
    valueSat: 0,
    feeSat: 0,
  };
  for (const { txid, vout, valueSat } of [...standing].sort((a, b) => b.valueSat - a.valueSat)) {
    if (chosen.deposits.length === MAX_DEPOSITS) break;
    const deposits = [...chosen.deposits, { txid, vout, valueSat }];
    const sum = chosen.valueSat + valueSat;
    // The fee depends on the weight only, which any 2-of-2 script gives.
    const draft = buildFunding(deposits, depositScript, new Uint8Array(71), sum, 0);
    const feeSat = Math.ceil((fundingWeight(draft) * feeratePerKw) / 1000);
    if (feeSat > maxFeeSat || valueSat < 2 * (feeSat - chosen.feeSat)) break;
    chosen = { deposits, valueSat: sum, feeSat };
  }
  return chosen;
}

/** The least deposit of which a channel of this size can be made, with some room for a feerate that rises meanwhile. */
export function leastDepositSat(channelSat: number, depositScript: Uint8Array, feeratePerKw: number): number {
  const deposit = { txid: new Uint8Array(32), vout: 0, valueSat: channelSat };
  const weight = fundingWeight(buildFunding([deposit], depositScript, new Uint8Array(71), channelSat, 0));
  return Math.ceil((channelSat + (2 * weight * feeratePerKw) / 1000) / 100) * 100;
}

function keyOf({ txid, vout }: Outpoint): string {
  return `${shownHash(txid)}:${vout}`;
}

function writeTip({ hash, height }: BlockPoint): Uint8Array {
  const bytes = new Uint8Array(36);
  bytes.set(hash);
  new DataView(bytes.buffer).setUint32(32, height);
  return bytes;
}

function readTip(bytes: Uint8Array): BlockPoint {
  return { hash: bytes.slice(0, 32), height: new DataView(bytes.buffer).getUint32(32) };
}
