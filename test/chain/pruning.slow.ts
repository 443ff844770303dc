/** Blocks that are gone before the gateway has read them. Making enough of them to be pruned takes its time. */
import { expect, test } from "@jest/globals";
import { createFollower } from "../../gateway/chain/follower.ts";
import { startRegtest } from "../../scripts/bitcoind.ts";
import { fromHex } from "../../src/bytes/bytes.ts";

test("a block that was pruned before it was read is named, with what brings it back", async () => {
  const pruning = await startRegtest({ extraArgs: ["-prune=1", "-fastprune"], blocks: 300 });
  const pruned = createFollower({ rpc: { call: pruning.rpc, close() {} } });
  try {
    await pruning.mine(290);
    const hash = await pruning.rpc<string>("getblockhash", [10]);
    const at = { hash: fromHex(hash).reverse(), height: 10 };
    pruned.join({
      tip: () => at,
      confirmed: () => [],
      transactionsConfirmed() {},
      transactionUnconfirmed() {},
      bestBlock() {},
    });
    await pruning.rpc("pruneblockchain", [300]);
    await expect(pruned.sync()).rejects.toMatchObject({
      code: "block-pruned",
      message: expect.stringMatching(/pruned block 11, .*getblockfrompeer [0-9a-f]{64}/),
    });
  } finally {
    await pruned.stop();
    await pruning.stop();
  }
}, 240_000);
