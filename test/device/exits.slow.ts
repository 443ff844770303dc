/** The exits that the device holds, at every state of a disturbed life, given to a real bitcoind. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Exit, exitOf } from "../../device/channel/exiting.ts";
import { transition } from "../../device/channel/machine.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { transactionBytes } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { channelOf, fundingOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { signedFunding } from "../../src/lightning/funding.ts";
import { signedClosing } from "../lightning/balances.ts";
import { chaos, everyCut, seeded, type Undisturbed, undisturbed } from "./cuts.ts";
import { ExitJudge, fundChannel, groundOf, hurried, objections } from "./mempool.ts";
import { BRIDGE, identityWith } from "./parties.ts";
import { CLOSE_SCRIPT } from "./peer.ts";
import { FATES, LIFE, orderOf, World } from "./world.ts";

let chain: Regtest;
const identity = identityWith();

beforeAll(async () => {
  chain = await startRegtest();
});
afterAll(() => chain?.stop());

describe("on a real chain", () => {
  test("every exit of a life with power cuts is accepted, alone and hurried by its anchor; so is the close", async () => {
    const { deposit, coin } = await groundOf(chain);
    const rpc = { call: chain.rpc };
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
        const { index } = state.books;
        const left = transition(state, box.context, { type: "exit", index }).state;
        exits.push(exitOf(left, box.context, index));
      },
    }).live(LIFE.slice(0, -1));
    expect(world.box.boots).toBe(cuts.length + 1);

    const funding = signedFunding(fundingOf(identity, world.peer.proposal), world.peer.funding!);
    await chain.rpc("sendrawtransaction", [toHex(transactionBytes(funding))]);
    await chain.mine(1);
    const numbers = new Set(exits.map(exit => exit.number));
    expect([...numbers].sort((a, b) => a - b)).toEqual(Array.from(numbers, (_, i) => i));
    for (const exit of exits) {
      expect(await objections(rpc, [exit.commitment])).toEqual([]);
      if (exit.view.htlcs.length > 0) expect(exit.anchor).toBeNull();
      else expect(await objections(rpc, [exit.commitment, hurried(exit, coin)])).toEqual([]);
    }
    expect(exits.filter(exit => exit.anchor).length).toBeGreaterThan(10);
    expect(exits.filter(exit => !exit.anchor).length).toBeGreaterThan(5);

    world.live(LIFE.slice(-1));
    const channel = channelOf(identity, world.peer.proposal);
    const closing = buildClosing(channel, {
      ...world.peer.closes[0]!,
      holderScript: identity.shutdownScript,
      counterpartyScript: CLOSE_SCRIPT,
    });
    const theirs = nobleCurve.sign(closing.sighash, BRIDGE.funding.secret);
    const signed = signedClosing(channel, closing, world.peer.closeSignatures[0]!, theirs);
    expect(await objections(rpc, [transactionBytes(signed)])).toEqual([]);

    // An exit that a thief of the chip could have copied is still only one of two: none confirms after the other.
    await chain.rpc("sendrawtransaction", [toHex(exits[exits.length - 1]!.commitment)]);
    await chain.mine(1);
    expect(await objections(rpc, [exits[0]!.commitment])).not.toEqual([]);
  });

  test("every exit of random lives is, in which device and gateway lose their power (npm run test:chaos has more)", async () => {
    const ground = await groundOf(chain);
    await fundChannel(chain, ground);
    const judge = new ExitJudge(ground);
    const lives = new Map<string, Undisturbed>();
    const cuts = { device: 0, gateway: 0, both: 0 };
    for (let seed = 1; seed <= 40; seed++) {
      const proposal = { deposits: [ground.deposit] };
      const { box, peer } = chaos(seed, lives, { proposal, watch: judge.watch });
      if (box.boots > 1) cuts.device++;
      if (peer.boots > 1) cuts.gateway++;
      if (box.boots > 1 && peer.boots > 1) cuts.both++;
    }
    await judge.judge();
    judge.close();
    expect(judge.taken).toBeGreaterThan(80);
    expect(judge.hurried).toBeGreaterThan(40);
    expect(cuts.both).toBeGreaterThan(15);
  });

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
