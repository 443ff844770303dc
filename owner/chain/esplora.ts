/** The owner's chain from an Esplora server (its HTTP API as Blockstream documents it): a public one, or one's own. */

import type { Network } from "../../src/bitcoin/network.ts";
import {
  hashShown,
  parseTransaction,
  shownHash,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import {
  bodyUpTo,
  ESTIMATES,
  OUTSPEND,
  type Shape,
  STATUS,
  TRANSACTION,
  UNSPENT,
} from "../chain/esplora-answers.ts";
import {
  type ChainOutput,
  type ConfirmationStatus,
  ensureNetwork,
  networkOfGenesis,
  type OwnerChain,
  type Spender,
  scanBlocks,
  spends,
} from "./chain.ts";
import { createPatience, type PatienceOptions, withRetryAfter } from "./patience.ts";

const TIMEOUT_MS = 30_000;
/** Most that is read of an answer: a transaction that fills a block has no more in hex, a list of outputs is a few kilobytes. */
const MAX_ANSWER_BYTES = 8_000_000;
/** Questions on the way at a time, until the server finds that too fast. */
const AT_ONCE = 4;

interface Answer {
  readonly status: number;
  readonly content: Uint8Array;
}

const textOf = (content: Uint8Array) => new TextDecoder().decode(content);

/** @param base e.g. `https://blockstream.info/api` */
export function esploraChain(base: string, patience: PatienceOptions = {}): OwnerChain {
  const { host } = new URL(base);
  const name = `Esplora server at ${host}`;
  const patiently = createPatience(patience);
  let atOnce = AT_ONCE;
  const unreachable = (why: string) =>
    lngateError("chain-unreachable", `the ${name} does not answer (${why})`);

  async function askOnce(path: string, body?: string) {
    let answer: Response;
    let content: Uint8Array | null;
    try {
      answer = await fetch(`${base.replace(/\/$/, "")}${path}`, {
        ...(body === undefined ? {} : { method: "POST", body }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      content = await bodyUpTo(answer, MAX_ANSWER_BYTES);
    } catch (error) {
      // The cause says more than "fetch failed".
      throw unreachable(((error as Error).cause as Error | undefined)?.message || (error as Error).message);
    }
    const { status } = answer;
    if (status === 429 || status === 503) {
      atOnce = 1;
      const busy = lngateError(
        "chain-busy",
        `the ${name} has too many questions to answer (status ${status})`,
      );
      throw withRetryAfter(busy, answer.headers.get("retry-after"));
    }
    if (status > 503 || status === 502) throw unreachable(`status ${status}`);
    return { status, content };
  }

  async function ask(path: string, body?: string): Promise<Answer> {
    const { status, content } = await patiently(() => askOnce(path, body));
    if (content === null) throw unreachable("its answer is too long");
    return { status, content };
  }

  /** Undefined for what the server does not know. */
  async function get(path: string): Promise<string | undefined> {
    const { status, content } = await ask(path);
    if (status === 404) return undefined;
    if (status !== 200) throw unreachable(`status ${status} for ${path.split("/")[1]}`);
    return textOf(content);
  }

  async function json<T>(path: string, shape: Shape<T>): Promise<T | undefined> {
    const text = await get(path);
    try {
      return text === undefined ? undefined : shape(JSON.parse(text));
    } catch {
      throw unreachable(`what it answers to ${path.split("/")[1]} makes no sense`);
    }
  }

  async function outputsOf(script: Uint8Array): Promise<ChainOutput[]> {
    const found = await json(`/scripthash/${toHex(sha256(script))}/utxo`, UNSPENT);
    return (found ?? []).map(({ txid, vout, value, status }) => ({
      txid: hashShown(txid),
      vout,
      valueSat: value,
      script,
      height: status.confirmed ? status.block_height : null,
    }));
  }

  async function confirmationOf(txid: string): Promise<ConfirmationStatus> {
    const status = await json(`/tx/${txid}/status`, STATUS);
    if (status === undefined) return "unknown";
    if (status.confirmed) return status.block_height ?? "unknown";
    // Some servers answer the same for what they have never heard of.
    return (await get(`/tx/${txid}/hex`)) === undefined ? "unknown" : "waiting";
  }

  async function network(): Promise<Network> {
    return networkOfGenesis((await get("/block-height/0"))?.trim(), name);
  }

  return {
    name,
    close() {},
    network,
    async check(expected: Network) {
      ensureNetwork(await network(), expected, name);
    },
    async height() {
      const tip = Number(await get("/blocks/tip/height"));
      if (!Number.isSafeInteger(tip) || tip < 0) throw unreachable("it names no height");
      return tip;
    },
    async unspent(scripts) {
      const found: ChainOutput[] = [];
      for (let at = 0; at < scripts.length; ) {
        const some = scripts.slice(at, at + atOnce);
        at += some.length;
        const lists = await Promise.all(some.map(outputsOf));
        found.push(...lists.flat().filter(({ height }) => height !== null));
      }
      return found;
    },
    async output({ txid, vout }) {
      const id = shownHash(txid);
      const [transaction, spend] = await Promise.all([
        json(`/tx/${id}`, TRANSACTION),
        json(`/tx/${id}/outspend/${vout}`, OUTSPEND),
      ]);
      const output = transaction?.vout[vout];
      if (!transaction || !output || spend?.spent !== false) return null;
      const { confirmed, block_height } = transaction.status;
      return {
        txid,
        vout,
        valueSat: output.value,
        script: fromHex(output.scriptpubkey),
        height: confirmed ? block_height : null,
      };
    },
    confirmation: (transaction: Transaction) => confirmationOf(shownHash(txidOf(transaction))),
    async spender(outpoint): Promise<Spender | null> {
      const spend = await json(`/tx/${shownHash(outpoint.txid)}/outspend/${outpoint.vout}`, OUTSPEND);
      const txid = spend?.spent ? spend.txid : null;
      const raw = txid === null ? undefined : await get(`/tx/${txid}/hex`);
      if (txid === null || raw === undefined) return null;
      let transaction: Transaction;
      try {
        transaction = parseTransaction(fromHex(raw.trim()));
      } catch {
        throw unreachable("it names a transaction that is none");
      }
      if (shownHash(txidOf(transaction)) !== txid || !spends(transaction, outpoint))
        throw unreachable("it names a transaction that does not spend what was asked for");
      const { confirmed, block_height } = spend?.status ?? { confirmed: false, block_height: null };
      return { transaction, height: confirmed ? block_height : null };
    },
    async feerate(blocks) {
      const estimates = (await json("/fee-estimates", ESTIMATES)) ?? [];
      const [, perVbyte] = estimates.filter(([within]) => within <= blocks).pop() ?? estimates[0] ?? [];
      return perVbyte === undefined ? null : Math.ceil(perVbyte * 250);
    },
    async publish(transactions) {
      const raw = transactions.map(each => toHex(transactionBytes(each)));
      const single = raw.length === 1;
      const { status, content } = single
        ? await ask("/tx", raw[0]!)
        : await ask("/txs/package", JSON.stringify(raw));
      const text = textOf(content);
      if (!single && status === 404)
        throw lngateError(
          "chain-refused",
          `the ${name} takes no parent together with its child; use a bitcoind, or a server with /txs/package`,
        );
      const known = /already in (mempool|utxo set|block chain)|txn-already/i.test(text);
      const refused = () => lngateError("chain-refused", `the ${name} refused: ${text.slice(0, 300)}`);
      if (status !== 200 && !known) throw refused();
      if (single || known) return;
      // The answer is bitcoind's: success there is no status of HTTP's.
      let message: string | undefined;
      try {
        message = (JSON.parse(text) as { package_msg?: string }).package_msg;
      } catch {
        throw refused();
      }
      if (message !== "success") throw refused();
    },
    async revealedScripts(fromHeight, accepts, onProgress) {
      const tip = await this.height();
      return scanBlocks(fromHeight, tip, accepts, onProgress, async height => {
        const hash = (await get(`/block-height/${height}`))?.trim();
        const { status, content } = await ask(`/block/${hash}/raw`);
        if (status !== 200) throw unreachable(`status ${status} for a block`);
        return content;
      });
    },
  };
}
