/** The chain that a command is told to look at, and the feerate. */
import type { Network } from "../../src/bitcoin/network.ts";
import { type Given, usage } from "../../src/node/command.ts";
import { bitcoindChain } from "../chain/bitcoind.ts";
import type { OwnerChain } from "../chain/chain.ts";
import { esploraChain } from "../chain/esplora.ts";

/** The options that say where a command finds the chain. */
export const CHAIN = {
  bitcoind: { value: "URL", help: "a bitcoind, e.g. http://127.0.0.1:8332" },
  cookie: { value: "FILE", help: "its cookie file" },
  user: { value: "NAME", help: "or a user of its rpcauth; the password is in $LNGATE_RPC_PASSWORD" },
  esplora: { value: "URL", help: "or an Esplora server, e.g. https://blockstream.info/api" },
};

/** The chain that was named; `onWait` hears why it takes longer. Throws `usage` unless there is one. */
export function chainOf(given: Given, onWait: (sentence: string) => void): OwnerChain {
  const patience = { onWait };
  const [bitcoind, esplora] = [given.text("bitcoind"), given.text("esplora")];
  if ((bitcoind === undefined) === (esplora === undefined))
    throw usage("say where the chain is: either --bitcoind URL or --esplora URL");
  for (const url of [bitcoind, esplora])
    if (url !== undefined && !URL.canParse(url)) throw usage(`"${url}" is not a URL`);
  if (esplora !== undefined) return esploraChain(esplora, patience);
  const [cookieFile, user] = [given.text("cookie"), given.text("user")];
  if (cookieFile !== undefined) return bitcoindChain({ url: bitcoind!, cookieFile }, patience);
  if (user === undefined) throw usage("bitcoind needs --cookie FILE or --user NAME");
  const password = process.env["LNGATE_RPC_PASSWORD"] ?? "";
  return bitcoindChain({ url: bitcoind!, user, password }, patience);
}

/** The height by the chain that was named, if one was. Throws `wrong-network`, and what the chain throws. */
export async function heightOf(
  given: Given,
  network: Network,
  onWait: (sentence: string) => void,
): Promise<number | undefined> {
  if (given.text("bitcoind") === undefined && given.text("esplora") === undefined) return undefined;
  const chain = chainOf(given, onWait);
  try {
    await chain.check(network);
    return await chain.height();
  } finally {
    chain.close();
  }
}

/** The feerate that was named, sat per 1000 weight. Throws `usage`. */
export function feerateOf(given: Given): number | undefined {
  const text = given.text("feerate");
  if (text === undefined) return undefined;
  const perVb = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || !(perVb >= 0.1 && perVb <= 5000))
    throw usage("--feerate must be a number of sat per virtual byte, from 0.1 to 5000");
  return Math.ceil(perVb * 250);
}
