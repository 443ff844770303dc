/** The exits that the device holds, at every state of a disturbed life, given to a real bitcoind. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Exit } from "../../device/channel/exiting.ts";
import { transition } from "../../device/channel/machine.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { p2wpkh, p2wpkhScriptCode, p2wsh, witnessSignature } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import {
  parseTransaction,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/bytes/curve.ts";
import { buildClosing, signedClosing } from "../../src/lightning/closing.ts";
import { signedFunding } from "../../src/lightning/funding.ts";
import { channelOf, depositScriptOf, fundingOf } from "../../src/link/transactions.ts";
import { everyCut, seeded, undisturbed } from "./cuts.ts";
import { BRIDGE, identityWith, keyPair } from "./parties.ts";
import { CLOSE_SCRIPT } from "./peer.ts";
import { FATES, LIFE, orderOf, World } from "./world.ts";

let chain: Regtest;
const identity = identityWith();
const COIN = keyPair("the owner's coin");

beforeAll(async () => {
  chain = await startRegtest();
}, 120_000);
afterAll(() => chain?.stop());

async function pay(script: Uint8Array, sat: number) {
  const id = await chain.fund(toHex(script), sat);
  const tx = parseTransaction(fromHex(await chain.rpc<string>("getrawtransaction", [id])));
  await chain.mine(1);
  const vout = tx.outputs.findIndex(output => equal(output.script, script));
  return { txid: txidOf(tx), vout, valueSat: sat };
}

type Verdict = { allowed?: boolean; "reject-reason"?: string; "package-error"?: string };

/** What the mempool says to these transactions together: a list of reasons, empty if it takes them. */
async function objections(transactions: readonly Uint8Array[]): Promise<string[]> {
  const verdicts = await chain.rpc<Verdict[]>("testmempoolaccept", [transactions.map(toHex)]);
  return verdicts
    .filter(verdict => verdict.allowed !== true)
    .map(verdict => verdict["reject-reason"] ?? verdict["package-error"] ?? "not said");
}

/** The owner adds a coin to the signed anchor, and so pays what the fee lacks. */
function hurried(exit: Exit, coin: { txid: Uint8Array; vout: number; valueSat: number }): Uint8Array {
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

describe("on a real chain", () => {
  test("every exit of a life with power cuts is accepted, alone and hurried by its anchor; so is the close", async () => {
    const deposit = await pay(p2wsh(depositScriptOf(identity)), 201_000);
    const coin = await pay(p2wpkh(COIN.point), 100_000);
    const proposal = { deposits: [deposit] };
    const life = undisturbed(LIFE, { proposal });
    const cuts = everyCut(life).filter((cut, i) => cut.at === "flash" && i % 23 === 7);
    const exits: Exit[] = [];
    const world = new World({
      proposal,
      cuts,
      random: seeded(5),
      watch: (state, box) => {
        if (state.parameters?.funding === undefined) return;
        const { effects } = transition(state, box.context, { type: "exit", index: state.books.index });
        for (const effect of effects) if (effect.type === "exit") exits.push(effect.exit);
      },
    }).live(LIFE.slice(0, -1));
    expect(world.box.boots).toBe(cuts.length + 1);

    const funding = signedFunding(fundingOf(identity, world.peer.proposal), world.peer.funding!);
    await chain.rpc("sendrawtransaction", [toHex(transactionBytes(funding))]);
    await chain.mine(1);
    const numbers = new Set(exits.map(exit => exit.number));
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from(numbers, (_, i) => i));
    for (const exit of exits) {
      expect(await objections([exit.commitment])).toEqual([]);
      if (exit.view.htlcs.length > 0) expect(exit.anchor).toBeNull();
      else expect(await objections([exit.commitment, hurried(exit, coin)])).toEqual([]);
    }
    expect(exits.filter(exit => exit.anchor).length).toBeGreaterThan(10);
    expect(exits.filter(exit => !exit.anchor).length).toBeGreaterThan(5);

    world.live(LIFE.slice(-1));
    const channel = channelOf(identity, world.peer.proposal);
    const closing = buildClosing(channel, {
      ...world.peer.closes[0]!,
      ourScript: identity.shutdownScript,
      theirScript: CLOSE_SCRIPT,
    });
    const theirs = nobleCurve.sign(closing.sighash, BRIDGE.funding.secret);
    const signed = signedClosing(channel, closing, world.peer.closeSignatures[0]!, theirs);
    expect(await objections([transactionBytes(signed)])).toEqual([]);

    // An exit that a thief of the chip could have copied is still only one of two: none confirms after the other.
    await chain.rpc("sendrawtransaction", [toHex(exits[exits.length - 1]!.commitment)]);
    await chain.mine(1);
    expect(await objections([exits[0]!.commitment])).not.toEqual([]);
  }, 120_000);

  test("after the exit nothing is signed, revoked or paid, and it can be read out again", () => {
    const world = new World().live(LIFE.slice(0, 2));
    const { box } = world;
    box.run({ type: "exit", index: 1 });
    box.restart();
    box.run({ type: "exit", index: 1 });
    expect(box.exits[0]).toEqual(box.exits[1]);
    expect(box.state.books.phase).toBe("exited");
    expect(() => box.run({ type: "pay", order: orderOf(FATES["dust"]!) })).toThrow("exited");
    expect(() => world.live([{ wish: "feerate", feeratePerKw: 2000 }])).toThrow("policy-phase");
  });
});
