import { createHmac } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { createBroadcaster } from "../../gateway/chain/broadcaster.ts";
import { createFeeEstimator, MIN_FEERATE } from "../../gateway/chain/fees.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { parseTransaction, strippedBytes, transactionBytes, txidOf } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { type BitcoinRpc, connectRpc, passes, rpcCodeOf } from "../../src/node/bitcoind-rpc.ts";
import { parseBlock } from "../../src/node/block.ts";

let chain: Regtest;
let rpc: BitcoinRpc;
beforeAll(async () => {
  chain = await startRegtest({ extraArgs: LIMITED });
  rpc = connectRpc(chain.rpcOptions);
});
afterAll(async () => {
  rpc?.close();
  await chain?.stop();
});

/** A user of this bitcoind's who may call one method. */
const [USER, PASSWORD] = ["limited", "open sesame"];
const HMAC = createHmac("sha256", "00ff").update(PASSWORD).digest("hex");
const LIMITED = [
  `-rpcauth=${USER}:00ff$${HMAC}`,
  `-rpcwhitelist=${USER}:getblockcount`,
  "-rpcwhitelistdefault=0",
];

/** Something at bitcoind's address that answers every request with this. */
async function answering(
  work: (from: BitcoinRpc) => Promise<void>,
  status: (authorized: boolean) => number,
  text = "",
): Promise<void> {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(status(request.headers.authorization !== undefined)).end(text);
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const from = connectRpc({ url, user: "a", password: "b" });
  await work(from).finally(() => {
    from.close();
    server.close();
  });
}

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
  test("a kept connection that dies under a request is replaced, and one that dies under its answer is told", async () => {
    let asked = 0;
    const server = createServer((request, response) => {
      asked += 1;
      // Every second request comes over the connection of the one before.
      if (request.headers["content-type"] && asked % 2 === 0) {
        if (breaksInAnswer) response.writeHead(200, { "content-length": 100 }).write("{");
        setImmediate(() => request.socket.resetAndDestroy());
        return;
      }
      request.resume();
      request.on("end", () => response.end(JSON.stringify({ result: asked })));
    });
    let breaksInAnswer = false;
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const from = connectRpc({ url, user: "a", password: "b" });
    // So long that the other side is gone while it is being written.
    const long = "00".repeat(4_000_000);
    try {
      expect(await from.call("first")).toBe(1);
      expect(await from.call("sendrawtransaction", [long])).toBe(3);
      expect(await from.call("sendrawtransaction", [long])).toBe(5);
      breaksInAnswer = true;
      await expect(from.call("getblockcount")).rejects.toMatchObject({ code: "bitcoind-unreachable" });
      expect(asked).toBe(6);
    } finally {
      from.close();
      server.closeAllConnections();
      server.close();
    }
  });

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

  test("a method that the user may not call, and one that bitcoind does not know, are named with the remedy", async () => {
    const limited = connectRpc({ url: chain.rpcOptions.url, user: USER, password: PASSWORD });
    expect(await limited.call<number>("getblockcount")).toBeGreaterThan(100);
    const forbidden = await limited.call("waitfornewblock", [1]).catch(error => error);
    expect(forbidden).toMatchObject({
      code: "bitcoind-method",
      message: expect.stringMatching(/does not let "limited" call waitfornewblock: .*rpcwhitelist/),
    });
    const unknown = await rpc.call("getdreams").catch(error => error);
    expect(unknown).toMatchObject({
      code: "bitcoind-method",
      message: expect.stringMatching(/does not know getdreams .* 27 or newer/),
    });
    for (const error of [forbidden, unknown]) expect(passes(error)).toBe(false);
    limited.close();
  });

  test("who is not let in from its address is told so, and not that its password is wrong", async () => {
    // As bitcoind does, by its source: before it looks at the password.
    await answering(
      async from => {
        await expect(from.call("getblockcount")).rejects.toMatchObject({
          code: "bitcoind-address",
          message: expect.stringContaining("rpcallowip"),
        });
      },
      () => 403,
    );
  });

  test("a bitcoind that has too much to do passes, what is no bitcoind does not", async () => {
    for (const status of [429, 503])
      await answering(
        async from => {
          const error = await from.call("getblockcount").catch(caught => caught);
          expect([codeOf(error), passes(error)]).toEqual(["bitcoind-busy", true]);
        },
        () => status,
        "Work queue depth exceeded",
      );
    // As it answers everything while it is being stopped.
    await answering(
      async from => {
        const error = await from.call("getblockcount").catch(caught => caught);
        expect([codeOf(error), passes(error)]).toEqual(["bitcoind-unreachable", true]);
      },
      () => 503,
      "<html><head><title>503 Service Unavailable</title></head></html>",
    );
    await answering(
      async from => {
        const error = await from.call("getblockcount").catch(caught => caught);
        expect([codeOf(error), passes(error)]).toEqual(["bitcoind-url", false]);
      },
      () => 200,
      "<html>It works!</html>",
    );
    const { host } = new URL(chain.rpcOptions.url);
    const tls = connectRpc({ url: `https://${host}`, user: "a", password: "b" });
    await expect(tls.call("getblockcount")).rejects.toMatchObject({
      code: "bitcoind-url",
      message: expect.stringContaining("http://, not https://"),
    });
    tls.close();
  });

  test("a cookie that is of another bitcoind, none at all, or may not be read, is named", async () => {
    const folder = mkdtempSync(join(tmpdir(), "lngate-cookie-"));
    const cookieFile = join(folder, ".cookie");
    const withCookie = connectRpc({ url: chain.rpcOptions.url, cookieFile });
    const complaint = async () => {
      const error = await withCookie.call("getblockcount").catch(caught => caught);
      return `${codeOf(error)}: ${(error as Error).message}`;
    };
    writeFileSync(cookieFile, "__cookie__:of another bitcoind");
    expect(await complaint()).toMatch(/^bitcoind-login: .*does not accept the cookie in .*of this network/);
    writeFileSync(cookieFile, "# a file");
    expect(await complaint()).toMatch(/^bitcoind-login: .*is not a cookie file/);
    writeFileSync(cookieFile, "");
    expect(await complaint()).toMatch(/^bitcoind-unreachable: .*is empty/);
    writeFileSync(cookieFile, "a:b");
    chmodSync(cookieFile, 0);
    // The administrator may read everything.
    if (process.getuid?.() !== 0)
      expect(await complaint()).toMatch(
        /^bitcoind-login: .*may not be read by this user .*rpccookieperms=group/,
      );
    rmSync(folder, { recursive: true });
    expect(await complaint()).toMatch(/^bitcoind-unreachable: .*is not there/);
    withCookie.close();
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

  test("estimates that the user may not ask for are told as trouble, and bitcoind's absence is not", async () => {
    const troubles: unknown[] = [];
    const { url } = chain.rpcOptions;
    const limited = connectRpc({ url, user: USER, password: PASSWORD });
    const nobody = connectRpc({ url: "http://127.0.0.1:1", user: "a", password: "b" });
    const onTrouble = (error: unknown) => troubles.push(error === null ? null : codeOf(error));
    for (const each of [limited, nobody, rpc]) {
      await createFeeEstimator({ rpc: each, onTrouble }).refresh();
    }
    expect(troubles).toEqual(["bitcoind-method", null]);
    limited.close();
    nobody.close();
  });

  test("what is found again counts all at once", async () => {
    const seen: number[] = [];
    let [mempoolminfee, now] = [0.00001, 0];
    const fees = createFeeEstimator({
      now: () => now,
      rpc: {
        async call<Result>(method: string) {
          if (method !== "getmempoolinfo") seen.push(fees.feerate("commitment"));
          return (method === "getmempoolinfo" ? { mempoolminfee } : { feerate: 0.00002 }) as Result;
        },
        close() {},
      },
    });
    await fees.refresh();
    [mempoolminfee, now] = [0.00006, 3_600_000];
    await fees.refresh();
    expect(seen).toEqual([1_000, 1_000, 1_000, 1_000]);
    expect([fees.feerate("minimum"), fees.feerate("commitment")]).toEqual([1_500, 1_600]);
  });

  test("the commitment's feerate moves in steps, up to what all peers take, and above only with the mempool's minimum", async () => {
    let btcPerKvb = 0.00001;
    let mempoolminfee = 0.00001;
    let now = 0;
    const fake: BitcoinRpc = {
      call: async <Result>(method: string) =>
        (method === "getmempoolinfo" ? { mempoolminfee } : { feerate: btcPerKvb }) as Result,
      close() {},
    };
    const fees = createFeeEstimator({ rpc: fake, now: () => now });
    const at = async (perKw: number, minimum = 253) => {
      btcPerKvb = (perKw * 4) / 1e8;
      mempoolminfee = (minimum * 4) / 1e8;
      now += 3_600_000;
      await fees.refresh();
      return fees.feerate("commitment");
    };
    expect(await at(300)).toBe(1_000);
    expect(await at(1_500)).toBe(1_600);
    expect(await at(900)).toBe(1_600);
    expect(await at(40_000)).toBe(2_500);
    expect(await at(1_300)).toBe(2_500);
    expect(await at(9_000, 3_000)).toBe(4_000);
    expect(await at(9_000, 7_000)).toBe(10_000);
    expect(await at(9_000, 5_500)).toBe(10_000);
    expect(await at(260)).toBe(1_000);
    expect(fees.feerate("urgent")).toBeGreaterThanOrEqual(MIN_FEERATE);
  });

  test("a channel opens with what peers want in a busy market, and what mempools take at all is no estimate", async () => {
    const fake: BitcoinRpc = {
      call: async <Result>(method: string) =>
        (method === "getmempoolinfo" ? { mempoolminfee: 0.00004 } : { feerate: 0.00036 }) as Result,
      close() {},
    };
    const fees = createFeeEstimator({ rpc: fake });
    await fees.refresh();
    expect(fees.feerate("minimum")).toBe(1_000);
    expect(fees.feerate("commitment")).toBe(2_500);
    // Half of 9,000 and more: a bridge refused 4,000 at this market.
    expect(fees.feerate("opening")).toBe(5_400);
    const configured = createFeeEstimator({ rpc: fake, commitmentFeerate: 500 });
    await configured.refresh();
    expect(configured.feerate("commitment")).toBe(1_000);
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

  test("one without its signature is not sent, and the signed one of the same id is, also if another was tried before", async () => {
    const refused: string[] = [];
    const broadcaster = createBroadcaster({ rpc, onRefused: (_txid, reason) => refused.push(reason) });
    const transaction = await signedTransaction(90_000);
    const { inputs, ...rest } = parseTransaction(transaction);
    const txid = shown(txidOf(parseTransaction(transaction)));
    broadcaster.broadcast([strippedBytes({ inputs, ...rest })]);
    await broadcaster.resend();
    expect(refused).toEqual([]);
    const wrongly = inputs.map(input => ({ ...input, witness: [new Uint8Array(64), new Uint8Array(33)] }));
    broadcaster.broadcast([transactionBytes({ inputs: wrongly, ...rest })]);
    await broadcaster.resend();
    expect(refused).toHaveLength(1);
    broadcaster.broadcast([transaction]);
    await broadcaster.resend();
    expect(await rpc.call<string[]>("getrawmempool")).toContain(txid);
    // What LDK repeats without a signature takes the place of nothing.
    await chain.mine(1);
    broadcaster.broadcast([strippedBytes({ inputs, ...rest })]);
    await broadcaster.resend();
    expect(refused).toHaveLength(1);
  });

  test("transactions that the user may not send stay pending and are told, until they may be sent", async () => {
    const troubles: unknown[] = [];
    const limited = connectRpc({ url: chain.rpcOptions.url, user: USER, password: PASSWORD });
    let through: BitcoinRpc = limited;
    const broadcaster = createBroadcaster({
      rpc: { call: (...call) => through.call(...call), close() {} },
      onTrouble: error => troubles.push(error === null ? null : codeOf(error)),
    });
    const transaction = await signedTransaction(85_000);
    broadcaster.broadcast([transaction]);
    await broadcaster.resend();
    expect(troubles).toEqual(["bitcoind-method", "bitcoind-method"]);
    through = rpc;
    await broadcaster.resend();
    expect(troubles[2]).toBe(null);
    expect(await rpc.call<string[]>("getrawmempool")).toContain(shown(txidOf(parseTransaction(transaction))));
    limited.close();
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
