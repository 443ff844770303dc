/** What a real bitcoind says to the exits that a device holds. */
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import { type Exit, exitOf } from "../../device/channel/exiting.ts";
import type { ChannelState } from "../../device/channel/state.ts";
import type { Regtest } from "../../scripts/bitcoind.ts";
import { p2wpkh, p2wpkhScriptCode, p2wsh, witnessSignature } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import {
  parseTransaction,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { fundingOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { type Deposit, signedFunding } from "../../src/lightning/funding.ts";
import { type BitcoinRpc, connectRpc, type RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import { Violation } from "./audit.ts";
import type { Box } from "./box.ts";
import { FUNDING, identityWith, keyPair, proposalWith } from "./parties.ts";

const COIN = keyPair("the owner's coin");

/** What a chain has for the tests: the deposit of the device, and a coin that the owner hurries exits with. */
export interface Ground {
  readonly rpc: RpcOptions;
  readonly deposit: Deposit;
  readonly coin: Deposit;
}

export async function groundOf(chain: Regtest): Promise<Ground> {
  return {
    rpc: chain.rpcOptions,
    deposit: await paid(chain, p2wsh(depositScriptOf(identityWith())), 201_000),
    coin: await paid(chain, p2wpkh(COIN.point), 100_000),
  };
}

async function paid(chain: Regtest, script: Uint8Array, valueSat: number): Promise<Deposit> {
  const id = await chain.fund(toHex(script), valueSat);
  const tx = parseTransaction(fromHex(await chain.rpc<string>("getrawtransaction", [id])));
  await chain.mine(1);
  const vout = tx.outputs.findIndex(output => equal(output.script, script));
  return { txid: txidOf(tx), vout, valueSat };
}

/** The channel that every life opens on this ground; by one who has the whole of its key. */
export async function fundChannel(chain: Regtest, { deposit }: Ground): Promise<void> {
  const funding = fundingOf(identityWith(), proposalWith({ deposits: [deposit] }));
  const signatures = funding.sighashes.map(hash => nobleCurve.sign(hash, FUNDING.secret));
  await chain.rpc("sendrawtransaction", [toHex(transactionBytes(signedFunding(funding, signatures)))]);
  await chain.mine(1);
}

type Verdict = { allowed?: boolean; "reject-reason"?: string; "package-error"?: string };

/** What the mempool says to these transactions together: a list of reasons, empty if it takes them. */
export async function objections(
  rpc: Pick<BitcoinRpc, "call">,
  transactions: readonly Uint8Array[],
): Promise<string[]> {
  const verdicts = await rpc.call<Verdict[]>("testmempoolaccept", [transactions.map(toHex)]);
  return verdicts
    .filter(verdict => verdict.allowed !== true)
    .map(verdict => verdict["reject-reason"] ?? verdict["package-error"] ?? "not said");
}

/** The owner adds a coin to the signed anchor, and so pays what the fee lacks. */
export function hurried(exit: Exit, coin: Deposit): Uint8Array {
  const anchor = parseTransaction(exit.anchor!);
  const child: Transaction = {
    ...anchor,
    inputs: [...anchor.inputs, { txid: coin.txid, vout: coin.vout, sequence: 0xfffffffd }],
    outputs: [...anchor.outputs, { valueSat: coin.valueSat - 20_000, script: p2wpkh(COIN.point) }],
  };
  const hash = sighash(child, 1, p2wpkhScriptCode(COIN.point), coin.valueSat);
  const witness = [witnessSignature(nobleCurve.sign(hash, COIN.secret)), COIN.point];
  return transactionBytes({ ...child, inputs: [child.inputs[0]!, { ...child.inputs[1]!, witness }] });
}

/** Sees every state that is in flash, and shows bitcoind each exit that is new: alone, or at rest with its child. */
export class ExitJudge {
  private readonly ground: Ground;
  private readonly rpc: BitcoinRpc;
  private readonly seen = new Set<string>();
  private exits: Exit[] = [];
  /** Exits that bitcoind took, and those of them that it took together with a child of their anchor. */
  taken = 0;
  hurried = 0;

  constructor(ground: Ground) {
    this.ground = ground;
    this.rpc = connectRpc(ground.rpc);
  }

  /** For `WorldOptions.watch`. */
  readonly watch = (state: ChannelState, box: Box): void => {
    const { holder, parameters, books } = state;
    if (holder === null || parameters?.funding === undefined || books.phase === "none") return;
    const name = toHex(holder.ownSignature);
    if (this.seen.has(name)) return;
    this.seen.add(name);
    this.exits.push(exitOf(state, box.context, books.index));
  };

  /** Throws a Violation if bitcoind does not take all that was seen since this was asked last. */
  async judge(): Promise<void> {
    for (const exit of this.exits.splice(0)) await this.judgeOne(exit);
  }

  private async judgeOne(exit: Exit): Promise<void> {
    const child = exit.anchor === null ? [] : [hurried(exit, this.ground.coin)];
    const reasons = await objections(this.rpc, [exit.commitment, ...child]);
    if (reasons.length > 0)
      throw new Violation(`bitcoind does not take exit ${exit.number}: ${reasons.join(", ")}`);
    this.taken++;
    this.hurried += child.length;
  }

  close(): void {
    this.rpc.close();
  }
}
