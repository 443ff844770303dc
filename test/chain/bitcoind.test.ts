import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { parseBlock } from "../../gateway/chain/block.ts";
import { createBroadcaster } from "../../gateway/chain/broadcaster.ts";
import { createFeeEstimator, MIN_FEERATE } from "../../gateway/chain/fees.ts";
import { type BitcoinRpc, connectRpc, rpcCodeOf } from "../../gateway/chain/rpc.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { parseTransaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";

let chain: Regtest;
let rpc: BitcoinRpc;
beforeAll(async () => {
  chain = await startRegtest();
  rpc = connectRpc(chain.rpcOptions);
});
afterAll(async () => {
  rpc?.close();
  await chain?.stop();
});

const shown = (hash: Uint8Array) => toHex(hash.slice().reverse());

/** A signed transaction that pays the wallet itself and is not sent. */
async function signedTransaction(sat: number): Promise<Uint8Array> {
  const address = await chain.rpc<string>("getnewaddress", ["", "bech32"]);
  const raw = await chain.rpc<string>("createrawtransaction", [[], [{ [address]: sat / 1e8 }]]);
  const { hex } = await rpc.call<{ hex: string }>("fundrawtransaction", [raw, { fee_rate: 2 }]);
  const signed = await chain.rpc<{ hex: string }>("signrawtransactionwithwallet", [hex]);
  return fromHex(signed.hex);
}

describe("blocks", () => {
  test("a block is read as bitcoind reads it", async () => {
    await chain.fund(await chain.rpc<string>("getnewaddress", ["", "bech32m"]), 50_000);
    await chain.fund(await chain.rpc<string>("getnewaddress", ["", "legacy"]), 60_000);
    const [hash = ""] = await chain.mine(1);
    type Told = { previousblockhash: string; time: number; tx: { txid: string; hex: string }[] };
    const told = await rpc.call<Told>("getblock", [hash, 2]);
    const block = parseBlock(fromHex(await rpc.call<string>("getblock", [hash, 0])));
    expect(shown(block.hash)).toBe(hash);
    expect(shown(block.previous)).toBe(told.previousblockhash);
    expect(block.time).toBe(told.time);
    expect(block.transactions.map(each => shown(each.txid))).toEqual(told.tx.map(each => each.txid));
    expect(block.transactions.map(each => toHex(each.raw))).toEqual(told.tx.map(each => each.hex));
    // The strict reader of single transactions agrees about inputs and outputs.
    for (const each of block.transactions) {
      const strict = parseTransaction(each.raw);
      expect(each.outputs.map(output => ({ ...output, script: toHex(output.script) }))).toEqual(
        strict.outputs.map(output => ({ ...output, script: toHex(output.script) })),
      );
      expect(each.inputs.map(input => `${toHex(input.txid)}:${input.vout}`)).toEqual(
        strict.inputs.map(input => `${toHex(input.txid)}:${input.vout}`),
      );
    }
  });

  test("bytes that are no block are refused by code, wherever they end", async () => {
    const hash = await rpc.call<string>("getbestblockhash");
    const bytes = fromHex(await rpc.call<string>("getblock", [hash, 0]));
    for (let length = 0; length < bytes.length; length += 7)
      expect(() => parseBlock(bytes.subarray(0, length))).toThrow(
        expect.objectContaining({ code: "bad-block" }),
      );
    expect(() => parseBlock(new Uint8Array([...bytes, 0]))).toThrow(
      expect.objectContaining({ code: "bad-block" }),
    );
  });
});

describe("RPC", () => {
  test("bitcoind's refusal, a wrong password and nobody there are three different things", async () => {
    const refused = await rpc.call("getblockhash", [1_000_000]).catch(error => error);
    expect([codeOf(refused), rpcCodeOf(refused)]).toEqual(["bitcoind-refused", -8]);
    const { url } = chain.rpcOptions;
    const stranger = connectRpc({ url, user: "nobody", password: "wrong" });
    await expect(stranger.call("getblockcount")).rejects.toMatchObject({ code: "bitcoind-login" });
    const nobody = connectRpc({ url: "http://127.0.0.1:1", user: "a", password: "b" });
    await expect(nobody.call("getblockcount")).rejects.toMatchObject({ code: "bitcoind-unreachable" });
    const nocookie = connectRpc({ url, cookieFile: "/nonexistent/.cookie" });
    await expect(nocookie.call("getblockcount")).rejects.toMatchObject({ code: "bitcoind-unreachable" });
    for (const each of [stranger, nobody, nocookie]) each.close();
  });

  test("an answer that does not come in time counts as nobody there, and the next call works", async () => {
    await expect(rpc.call("waitfornewblock", [5_000], 50)).rejects.toMatchObject({
      code: "bitcoind-unreachable",
    });
    expect(await rpc.call<number>("getblockcount")).toBeGreaterThan(100);
  });
});

describe("feerates", () => {
  test("without estimates the fallback serves, and the commitment's feerate is what was configured", async () => {
    const fees = createFeeEstimator({ rpc, fallbackFeerate: 1_234, commitmentFeerate: 2_500 });
    await fees.refresh();
    expect(fees.feerate("normal")).toBe(1_234);
    expect(fees.feerate("commitment")).toBe(2_500);
    expect(fees.feerate("minimum")).toBe(MIN_FEERATE);
  });

  test("the commitment's feerate moves in steps, up at once and down late, and stays inside its bounds", async () => {
    let btcPerKvb = 0.00001;
    let now = 0;
    const fake: BitcoinRpc = {
      call: async <Result>(method: string) =>
        (method === "getmempoolinfo" ? { mempoolminfee: 0.00001 } : { feerate: btcPerKvb }) as Result,
      close() {},
    };
    const fees = createFeeEstimator({ rpc: fake, now: () => now });
    const at = async (perKw: number) => {
      btcPerKvb = (perKw * 4) / 1e8;
      now += 3_600_000;
      await fees.refresh();
      return fees.feerate("commitment");
    };
    expect(await at(300)).toBe(1_000);
    expect(await at(1_500)).toBe(2_000);
    expect(await at(900)).toBe(2_000);
    expect(await at(40_000)).toBe(4_000);
    expect(await at(1_900)).toBe(4_000);
    expect(await at(260)).toBe(1_000);
    expect(fees.feerate("urgent")).toBeGreaterThanOrEqual(MIN_FEERATE);
  });
});

describe("broadcasting", () => {
  test("what is already in the mempool or a block is no trouble, and nonsense is refused by code", async () => {
    const refused: string[] = [];
    const broadcaster = createBroadcaster({ rpc, onRefused: (_txid, reason) => refused.push(reason) });
    const transaction = await signedTransaction(70_000);
    const txid = shown(txidOf(parseTransaction(transaction)));
    expect(await broadcaster.send(transaction)).toBe(txid);
    broadcaster.broadcast([transaction]);
    await broadcaster.resend();
    await chain.mine(1);
    await broadcaster.resend();
    await broadcaster.resend();
    expect(refused).toEqual([]);
    const broken = transaction.slice();
    broken[broken.length - 20]! ^= 1;
    await expect(broadcaster.send(broken)).rejects.toMatchObject({ code: "bitcoind-refused" });
  });

  test("what a reorg takes out is sent again, although bitcoind has forgotten it; what is spent is no trouble", async () => {
    const refused: string[] = [];
    const broadcaster = createBroadcaster({ rpc, onRefused: (_txid, reason) => refused.push(reason) });
    const transaction = await signedTransaction(75_000);
    const txid = shown(txidOf(parseTransaction(transaction)));
    broadcaster.broadcast([transaction]);
    await broadcaster.resend();
    const [block] = await chain.mine(12);
    await broadcaster.resend();
    await rpc.call("invalidateblock", [block]);
    expect(await rpc.call<string[]>("getrawmempool")).not.toContain(txid);
    await broadcaster.resend();
    expect(await rpc.call<string[]>("getrawmempool")).toContain(txid);
    await rpc.call("reconsiderblock", [block]);
    await broadcaster.resend();
    expect(refused).toEqual([]);
  });

  test("what could not be sent because bitcoind was away is sent when it is back", async () => {
    const broadcaster = createBroadcaster({ rpc });
    const transaction = await signedTransaction(80_000);
    const txid = shown(txidOf(parseTransaction(transaction)));
    await chain.stop({ keep: true });
    broadcaster.broadcast([transaction]);
    await broadcaster.resend();
    await chain.restart();
    expect(await rpc.call<string[]>("getrawmempool")).not.toContain(txid);
    await broadcaster.resend();
    expect(await rpc.call<string[]>("getrawmempool")).toContain(txid);
  });
});
