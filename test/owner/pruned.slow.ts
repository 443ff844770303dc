/** A bitcoind without the blocks that are to be looked through. Making enough of them to be pruned takes its time. */
import { expect, test } from "@jest/globals";
import { bitcoindChain } from "../../owner/chain/bitcoind.ts";
import { startRegtest } from "../../scripts/bitcoind.ts";

test("what spends an output is looked for as far back as there are blocks; what is pruned is said", async () => {
  const node = await startRegtest({ extraArgs: ["-prune=1", "-fastprune"], blocks: 700 });
  const chain = bitcoindChain(node.rpcOptions);
  try {
    await node.rpc("pruneblockchain", [400]);
    const nowhere = { txid: new Uint8Array(32).fill(7), vout: 0 };
    expect(await chain.spender(nowhere, 100)).toBeNull();
    await expect(chain.spender(nowhere, 1000)).rejects.toMatchObject({
      code: "block-pruned",
      message: expect.stringMatching(/has no block \d+ any more/),
    });
  } finally {
    chain.close();
    await node.stop();
  }
});
