import type { Regtest } from "../../scripts/bitcoind.ts";

/** For `startRegtest`: block files so small that a test can fill one. */
export const PRUNABLE = ["-prune=1", "-fastprune"];
/** bitcoind keeps at least so many blocks. */
const KEPT = 288;

/** Mines until bitcoind can prune all blocks that there are now, and has it do so. */
export async function pruneAll(bitcoind: Regtest): Promise<void> {
  const height = await bitcoind.rpc<number>("getblockcount");
  // A file is pruned as a whole: this block is too large for the present one, and the next too large for its own.
  for (let i = 0; i < 2; i++) {
    const raw = await bitcoind.rpc<string>("createrawtransaction", [[], [{ data: "00".repeat(64_000) }]]);
    const { hex: funded } = await bitcoind.rpc<{ hex: string }>("fundrawtransaction", [raw]);
    const { hex } = await bitcoind.rpc<{ hex: string }>("signrawtransactionwithwallet", [funded]);
    const address = await bitcoind.rpc<string>("getnewaddress", ["", "bech32"]);
    await bitcoind.rpc("generateblock", [address, [hex]]);
  }
  for (let mined = 0; mined < KEPT + 2; mined += 29) await bitcoind.mine(29);
  await bitcoind.rpc("pruneblockchain", [height]);
  const { pruneheight } = await bitcoind.rpc<{ pruneheight: number }>("getblockchaininfo");
  if (pruneheight <= height) throw new Error(`block ${height} is not pruned`);
}
