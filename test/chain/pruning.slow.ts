/** What becomes of clients of the chain whose blocks bitcoind has pruned. */
import { expect, test } from "@jest/globals";
import type { BlockPoint, ChainClient, ConfirmedTransaction } from "../../gateway/chain/chain-client.ts";
import { createFollower } from "../../gateway/chain/follower.ts";
import { startRegtest } from "../../scripts/bitcoind.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { connectRpc } from "../../src/node/bitcoind-rpc.ts";
import { headerHash } from "../../src/node/block.ts";
import { until } from "../link/until.ts";
import { PRUNABLE, pruneAll } from "./prune.ts";

const shown = (hash: Uint8Array) => toHex(hash.slice().reverse());
const internal = (hash: string) => fromHex(hash).reverse();
const troubles: (string | null | undefined)[] = [];

/** A client that knows only where it is. */
class Witness implements ChainClient {
  at: BlockPoint;
  constructor(at: BlockPoint) {
    this.at = at;
  }
  tip = () => this.at;
  confirmed = (): readonly ConfirmedTransaction[] => [];
  transactionsConfirmed() {}
  transactionUnconfirmed() {}
  bestBlock(header: Uint8Array, height: number) {
    this.at = { hash: headerHash(header), height };
  }
}

test("blocks that are pruned: who has missed nothing goes on, who may have is named, and holds up nobody", async () => {
  const pruned = await startRegtest({ extraArgs: PRUNABLE });
  const itsRpc = connectRpc(pruned.rpcOptions);
  const passed: number[] = [];
  const its = createFollower({
    rpc: itsRpc,
    onTrouble: error => troubles.push(error === null ? null : codeOf(error)),
    onPassedOver: (_from, to) => passed.push(to),
  });
  try {
    const point = async () => {
      const { blocks, bestblockhash } = await pruned.rpc<{ blocks: number; bestblockhash: string }>(
        "getblockchaininfo",
      );
      return { hash: internal(bestblockhash), height: blocks };
    };
    /** A coin of the wallet's that it spends for nothing else. */
    const coinOf = async (sat: number) => {
      const txid = await pruned.fund(await pruned.rpc("getnewaddress", ["", "bech32"]), sat);
      await pruned.mine(1);
      const coins = await pruned.rpc<{ txid: string; vout: number; amount: number }[]>("listunspent");
      const { vout } = coins.find(each => each.txid === txid && Math.round(each.amount * 1e8) === sat)!;
      await pruned.rpc("lockunspent", [false, [{ txid, vout }]]);
      return { txid: internal(txid), vout };
    };
    const { txid: kept, vout: keptVout } = await coinOf(50_000);
    const { txid: spent, vout } = await coinOf(60_000);
    const before = await point();
    const [atRest, lost] = [new Witness(before), new Witness(before)];
    const raw = await pruned.rpc<string>("createrawtransaction", [
      [{ txid: shown(spent), vout }],
      { [await pruned.rpc<string>("getnewaddress", ["", "bech32"])]: 0.0005 },
    ]);
    const { hex } = await pruned.rpc<{ hex: string }>("signrawtransactionwithwallet", [raw]);
    await pruned.rpc("sendrawtransaction", [hex]);
    await pruned.mine(1);
    await pruneAll(pruned);

    const watching = [its.join(atRest), its.join(lost)] as const;
    watching[0].spendOf(kept, keptVout);
    watching[0].transaction(kept);
    watching[1].spendOf(spent, vout);
    const present = new Witness(await point());
    const third = its.join(present);
    await pruned.mine(2);
    await expect(its.sync()).rejects.toMatchObject({
      code: "block-pruned",
      message: expect.stringMatching(/pruned block \d+, .*getblockfrompeer [0-9a-f]{64}/),
    });
    const now = await point();
    expect([atRest.at, present.at, lost.at]).toEqual([now, now, before]);
    expect(passed).toEqual([now.height]);
    expect(watching.map(each => codeOf(each.trouble()))).toEqual([undefined, "block-pruned"]);
    let hasWaited = false;
    const waiting = its.patientSync([watching[1]], () => {
      hasWaited = true;
    });
    waiting.catch(() => {});
    await its.patientSync([watching[0], third]);
    await until(() => hasWaited);
    expect(troubles).toEqual(["block-pruned"]);
  } finally {
    await its.stop();
    itsRpc.close();
    await pruned.stop();
  }
});
