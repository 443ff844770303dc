/**
 * `lngate owner watch` and an Esplora server that lies: about feerates, in answers of another shape, in answers without end. What it
 * says of the chain is true otherwise, so that the command sees that the bridge has cheated.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "@jest/globals";
import { esploraChain } from "../../owner/chain/esplora.ts";
import { watchCommands } from "../../owner/cli/watch-command.ts";
import { createOwner } from "../../owner/folder/folder.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { writeExit } from "../../owner/recovery/exit-file.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import {
  parseTransaction,
  shownHash,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, holderBasepoints } from "../../src/channel/device-keys.ts";
import { channelOf, commitmentOf, fundingOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import {
  ANCHOR_SAT,
  type Commitment,
  commitmentFeeSat,
  signedCommitment,
} from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { commitmentSecret, EMPTY_SECRET_STORE, storeSecret } from "../../src/lightning/shachain.ts";
import { runCommandLine } from "../../src/node/command.ts";
import { derived } from "../device/dealer.ts";
import { BRIDGE, DEPOSIT, FUNDING, proposalWith } from "../device/parties.ts";
import { pairedKeys } from "./paired-keys.ts";

const REGTEST = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
const CHANNEL_SAT = 200_000;
const SEED = derived("the bridge's seed");
const COUNT = 5;

const folder = mkdtempSync(join(tmpdir(), "lngate-esplora-"));
afterAll(() => rmSync(folder, { recursive: true }));
const words = newWords();
createOwner(join(folder, "owner"), "regtest", words);
const keys = recoveryKeys(words, "regtest");
const hot = keys.device(FUNDING.point);
const ours = pairedKeys(words, "regtest", FUNDING.point);
const proposal = proposalWith({ deposits: [DEPOSIT], channelSat: CHANNEL_SAT });
const channel = channelOf(ours, proposal);
const view = (counterpartySat: number) => ({
  feeratePerKw: 1000,
  counterpartySat,
  holderSat: CHANNEL_SAT - counterpartySat - commitmentFeeSat(1000, 0) - 2 * ANCHOR_SAT,
  htlcs: [],
});
const pointOf = (number: number) => nobleCurve.publicKey(commitmentSecret(SEED, number));
const signed = (commitment: Commitment): Transaction => {
  const [own, bridges] = [FUNDING, BRIDGE.funding].map(({ secret }) =>
    nobleCurve.sign(commitment.sighash, secret),
  ) as [Uint8Array, Uint8Array];
  return signedCommitment(channel, commitment, own, bridges);
};

/** The bridge's revoked state 2, in which it had 150,000 sat. */
const CHEAT_SAT = 150_000;
const cheat = signed(
  commitmentOf(
    channel,
    false,
    2,
    deriveCommitmentKeys(nobleCurve, pointOf(2), counterpartyBasepoints(proposal), holderBasepoints(ours)),
    view(CHEAT_SAT),
  ),
);

/** A copy of the exit, with the secrets of five states. */
const file = join(folder, "copy.json");
{
  const point = keys.commitmentPoint(FUNDING.point, proposal.index, 3);
  const at = deriveCommitmentKeys(
    nobleCurve,
    point,
    holderBasepoints(ours),
    counterpartyBasepoints(proposal),
  );
  const commitment = commitmentOf(channel, true, 3, at, view(20_000));
  let secrets = EMPTY_SECRET_STORE;
  for (let number = 0; number < COUNT; number++)
    secrets = storeSecret(secrets, commitmentSecret(SEED, number));
  const source = {
    network: "regtest",
    deviceId: "toll2345",
    keys: ours,
    commitmentMaster: hot.commitmentMaster,
  } as const;
  const exit = {
    index: proposal.index,
    number: 3,
    point,
    proposal,
    view: view(20_000),
    commitment: transactionBytes(signed(commitment)),
    ownSignature: nobleCurve.sign(commitment.sighash, FUNDING.secret),
    bridgeSignature: nobleCurve.sign(commitment.sighash, BRIDGE.funding.secret),
    anchor: null,
    anchorSignature: null,
    htlcSignatures: [],
    counterparty: [{ number: COUNT, point: pointOf(COUNT), view: view(20_000) }],
    secrets,
    paymentHashes: [],
  };
  writeFileSync(file, writeExit(source, exit, false));
}

let stop = () => {};
afterEach(() => stop());

/** An Esplora server of the bridge's. `lies` answers before it does. */
async function serve(lies: (path: string, response: ServerResponse) => boolean) {
  const [funding, close] = [shownHash(fundingOf(ours, proposal).txid), shownHash(txidOf(cheat))];
  const status = { confirmed: true, block_height: 195 };
  const outputsOf = ({ outputs }: Transaction) =>
    outputs.map(({ script, valueSat }) => ({ scriptpubkey: toHex(script), value: valueSat }));
  const published: Transaction[] = [];
  const server = createServer((request, response) => {
    const path = request.url!;
    if (lies(path, response)) return;
    const json = (value: unknown) => void response.end(JSON.stringify(value));
    if (request.method === "POST") {
      let body = "";
      request.on("data", chunk => {
        body += chunk;
      });
      request.on("end", () => {
        published.push(parseTransaction(fromHex(body)));
        response.end(shownHash(txidOf(published.at(-1)!)));
      });
    } else if (path === "/block-height/0") response.end(REGTEST);
    else if (path === "/blocks/tip/height") response.end(published.length > 0 ? "220" : "200");
    else if (path === "/fee-estimates") json({ "6": 2 });
    else if (path === `/tx/${funding}`)
      json({ vout: outputsOf(fundingOf(ours, proposal).transaction), status });
    else if (path === `/tx/${funding}/outspend/0`) json({ spent: true, txid: close, status });
    else if (path === `/tx/${close}/hex`) response.end(toHex(transactionBytes(cheat)));
    else if (path === `/tx/${close}`) json({ vout: outputsOf(cheat), status });
    else if (path.startsWith(`/tx/${close}/outspend/`))
      json(published[0] ? { spent: true, txid: shownHash(txidOf(published[0])), status } : { spent: false });
    else if (published[0] && path === `/tx/${shownHash(txidOf(published[0]))}/hex`)
      response.end(toHex(transactionBytes(published[0])));
    else response.writeHead(404).end("not found");
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url, published };
}

async function watch(url: string, ...more: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const code = await runCommandLine(
    watchCommands,
    { intro: "", version: "0" },
    ["owner", "watch", "--data", join(folder, "owner"), "--exit", file, "--esplora", url, "--yes", ...more],
    {
      out(text) {
        out += text;
      },
      err(text) {
        err += text;
      },
      interactive: false,
    },
  );
  return { code, out, err };
}

/** Answers these questions with these words, in this order, and then tells the truth. */
function odd(question: RegExp, answers: string[]) {
  return (path: string, response: ServerResponse): boolean => {
    const answer = question.test(path) ? answers.shift() : undefined;
    if (answer !== undefined) response.end(answer);
    return answer !== undefined;
  };
}

test("an honest server: the penalty comes home", async () => {
  const { url, published } = await serve(() => false);
  const { code, out } = await watch(url, "--once");
  expect([code, published.length]).toEqual([0, 1]);
  expect(out).toContain("Published");
  expect(published[0]!.outputs[0]!.valueSat).toBeGreaterThan(CHEAT_SAT - 1_000);
});

test("a feerate that a server names takes a quarter of a penalty at the most, and that is said", async () => {
  const { url, published } = await serve(odd(/^\/fee/, Array<string>(2).fill('{"6":1000}')));
  const { code, err } = await watch(url, "--once");
  expect([code, published.length]).toEqual([0, 1]);
  expect(published[0]!.outputs[0]!.valueSat).toBeGreaterThan(CHEAT_SAT * 0.74);
  expect(err).toContain("names a feerate of 1000 sat/vB; no more than 250 is believed");
});

test("a feerate that the owner names is paid as it is", async () => {
  const { url, published } = await serve(() => false);
  expect(await watch(url, "--once", "--feerate", "600")).toMatchObject({ code: 0 });
  expect(published).toHaveLength(1);
  expect(published[0]!.outputs[0]!.valueSat).toBeLessThan(CHEAT_SAT * 0.6);
});

test("an odd answer is told, and the watch goes on and punishes", async () => {
  const answers = ["{}", '{"vout":[{"scriptpubkey":5,"value":1}],"status":{"confirmed":true}}'];
  const { url, published } = await serve(odd(/^\/tx\/[0-9a-f]+$/, answers));
  const { code, err } = await watch(url, "--every", "1");
  expect(err).toContain("chain-unreachable");
  expect(err).toContain("makes no sense");
  expect([answers, code, published.length]).toEqual([[], 0, 1]);
});

test("without an estimate the penalty pays the feerate of before", async () => {
  // The first is asked for before the first look.
  const { url, published } = await serve(odd(/^\/fee/, ['{"6":3}', '{"6":"dear"}']));
  const { code, err } = await watch(url, "--once");
  expect([code, published.length]).toEqual([0, 1]);
  expect(err).toContain("makes no sense");
});

const id = "ab".repeat(32);
const outpoint = { txid: fromHex(id), vout: 0 };
const funding = { vout: [{ scriptpubkey: "0014", value: 5 }], status: { confirmed: true, block_height: 7 } };

test.each<[string, (chain: ReturnType<typeof esploraChain>) => Promise<unknown>, RegExp, unknown[]]>([
  [
    "unspent outputs",
    chain => chain.unspent([new Uint8Array(1)]),
    /utxo$/,
    [
      {},
      [{}],
      [{ txid: id, vout: 0, value: -1, status: { confirmed: true } }],
      [{ txid: "x", vout: 0, value: 1 }],
    ],
  ],
  [
    "a transaction",
    chain => chain.output(outpoint),
    /^\/tx\/\w+$/,
    [null, 5, {}, { ...funding, vout: {} }, { ...funding, status: 1 }, { ...funding, vout: [{ value: 5 }] }],
  ],
  [
    "a spend",
    chain => chain.spender(outpoint, 1),
    /outspend/,
    [[], { spent: "yes" }, { spent: true, txid: "../../etc" }, { spent: true, txid: id, status: [] }],
  ],
  [
    "estimates",
    chain => chain.feerate(6),
    /^\/fee/,
    [null, "2", { soon: 2 }, { 6: -1 }, { 6: null }, { 6: 1e300 }],
  ],
])("of %s no answer of another shape is taken", async (_, ask, question, answers) => {
  const left = answers.map(answer => JSON.stringify(answer));
  const { url } = await serve(odd(question, left));
  for (const _ of answers)
    await expect(ask(esploraChain(url))).rejects.toMatchObject({ code: "chain-unreachable" });
  expect(left).toEqual([]);
});

test("an answer without end is not read to its end", async () => {
  let sent = 0;
  const chunk = Buffer.alloc(1 << 20, 32);
  const { url } = await serve((path, response) => {
    if (path !== "/blocks/tip/height") return false;
    const more = () => {
      if (sent >= 200 || response.destroyed) return void response.end();
      sent++;
      if (response.write(chunk)) setImmediate(more);
      else response.once("drain", more);
    };
    more();
    return true;
  });
  await expect(esploraChain(url, { wait: async () => {} }).height()).rejects.toThrow("too long");
  expect(sent).toBeLessThan(100);
});
