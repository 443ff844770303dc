/** Reads bitcoind's best chain: its tip, its blocks, and where another branch leaves it. */
import { hashShown, shownHash } from "../../src/bitcoin/transaction.ts";
import { fromHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { BitcoinRpc } from "../../src/node/bitcoind-rpc.ts";
import { type Block, parseBlock } from "../../src/node/block.ts";
import type { BlockPoint } from "./chain-client.ts";

/** A header as bitcoind knows it. */
export interface KnownHeader {
  readonly header: Uint8Array;
  readonly height: number;
  readonly onBestChain: boolean;
}

/** Throws what the rpc throws, as all of these do. */
export async function bestPoint(rpc: BitcoinRpc): Promise<BlockPoint> {
  const info = await rpc.call<{ blocks: number; bestblockhash: string }>("getblockchaininfo");
  return { hash: hashShown(info.bestblockhash), height: info.blocks };
}

/** The header of this block, on whatever branch. Throws `bitcoind-refused` if bitcoind does not know it. */
export async function readHeader(rpc: BitcoinRpc, hash: Uint8Array): Promise<KnownHeader> {
  const shown = shownHash(hash);
  const [raw, info] = await Promise.all([
    rpc.call<string>("getblockheader", [shown, false]),
    rpc.call<{ height: number; confirmations: number }>("getblockheader", [shown, true]),
  ]);
  return { header: fromHex(raw), height: info.height, onBestChain: info.confirmations > 0 };
}

/** The best chain's block at this height. Throws `block-pruned`. */
export async function readBlock(rpc: BitcoinRpc, height: number): Promise<Block> {
  const hash = await rpc.call<string>("getblockhash", [height]);
  try {
    return parseBlock(fromHex(await rpc.call<string>("getblock", [hash, 0])));
  } catch (error) {
    if (codeOf(error) !== "bitcoind-refused" || !/pruned/i.test((error as Error).message)) throw error;
    throw lngateError(
      "block-pruned",
      `bitcoind has pruned block ${height}, which this gateway has not read yet: it was away for longer than blocks are kept. Fetch the block again (bitcoin-cli getblockfrompeer ${hash} PEER), or use a bitcoind that still has it; then keep more with a larger "prune="`,
    );
  }
}

/** From this block back, the first that is in the best chain, and its header. Throws `block-unknown`. */
export async function forkPoint(
  rpc: BitcoinRpc,
  from: BlockPoint,
): Promise<BlockPoint & { readonly header: Uint8Array }> {
  let { hash } = from;
  for (;;) {
    let found: KnownHeader;
    try {
      found = await readHeader(rpc, hash);
    } catch (error) {
      if (codeOf(error) !== "bitcoind-refused") throw error;
      throw lngateError(
        "block-unknown",
        `bitcoind does not know block ${shownHash(hash)}, up to which this gateway has followed the chain: it is still catching up, or on another chain`,
      );
    }
    if (found.onBestChain) return { hash, height: found.height, header: found.header };
    hash = found.header.slice(4, 36);
  }
}

/** False also for a block that bitcoind does not know. */
export async function isOnBestChain(rpc: BitcoinRpc, hash: Uint8Array): Promise<boolean> {
  try {
    return (await readHeader(rpc, hash)).onBestChain;
  } catch (error) {
    if (codeOf(error) === "bitcoind-refused") return false;
    throw error;
  }
}
