/**
 * A small Esplora server over a regtest bitcoind: the endpoints of Esplora's documented HTTP API that the owner's
 * computer uses, answered from blocks and mempool. It is written for these tests, a peer for the protocol and no more.
 */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Regtest } from "../../scripts/bitcoind.ts";

interface Tx {
  readonly txid: string;
  readonly hex: string;
  readonly vin: readonly { readonly txid?: string; readonly vout?: number }[];
  readonly vout: readonly { readonly value: number; readonly scriptPubKey: { readonly hex: string } }[];
}

interface Known {
  readonly tx: Tx;
  readonly height: number | null;
}

export class EsploraServer {
  readonly requests: string[] = [];
  /** So many requests are answered with 429, as public servers do. */
  busyFor = 0;
  private readonly bitcoind: Regtest;
  private readonly server: Server;
  private last: { readonly state: string; readonly known: Map<string, Known> } | undefined;
  private readonly blocks = new Map<string, readonly Tx[]>();

  private constructor(bitcoind: Regtest) {
    this.bitcoind = bitcoind;
    this.server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        this.requests.push(`${request.method} ${request.url}`);
        if (this.busyFor > 0) {
          this.busyFor--;
          response.writeHead(429, { "retry-after": "1" }).end("Too Many Requests");
          return;
        }
        this.answer(request.method ?? "", request.url ?? "", Buffer.concat(chunks).toString()).then(
          answer => {
            if (answer === undefined) response.writeHead(404).end("not found");
            else response.writeHead(200).end(typeof answer === "string" ? answer : Buffer.from(answer));
          },
          error => response.writeHead(400).end(`sendrawtransaction RPC error: ${(error as Error).message}`),
        );
      });
    });
  }

  static async start(bitcoind: Regtest): Promise<EsploraServer> {
    const esplora = new EsploraServer(bitcoind);
    await new Promise<void>(resolve => esplora.server.listen(0, "127.0.0.1", resolve));
    return esplora;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise(resolve => this.server.close(resolve));
  }

  private async answer(method: string, path: string, body: string): Promise<string | Uint8Array | undefined> {
    const { bitcoind } = this;
    const [, first = "", second = "", third = "", fourth = ""] = path.split("/");
    if (method === "POST") {
      if (path === "/tx") return bitcoind.rpc<string>("sendrawtransaction", [body]);
      if (path === "/txs/package")
        return JSON.stringify(await bitcoind.rpc("submitpackage", [JSON.parse(body) as string[]]));
      return undefined;
    }
    switch (first) {
      case "blocks":
        return path === "/blocks/tip/height"
          ? String(await bitcoind.rpc<number>("getblockcount"))
          : undefined;
      case "block-height":
        return bitcoind.rpc<string>("getblockhash", [Number(second)]).catch(() => undefined);
      case "block":
        return third === "raw"
          ? Buffer.from(await bitcoind.rpc<string>("getblock", [second, 0]), "hex")
          : undefined;
      case "fee-estimates":
        return JSON.stringify({ "2": 6.1, "6": 2.5, "144": 1.01 });
      case "scripthash":
        return third === "utxo" ? JSON.stringify(await this.unspent(second)) : undefined;
      case "tx": {
        const all = await this.all();
        const known = all.get(second);
        if (!known) return undefined;
        if (third === "hex") return known.tx.hex;
        if (third === "status") return JSON.stringify(status(known));
        if (third === "outspend") {
          const spent = spentIn(all).has(`${second}:${fourth}`);
          return JSON.stringify({ spent });
        }
        const vout = known.tx.vout.map(({ value, scriptPubKey }) => ({
          value: Math.round(value * 1e8),
          scriptpubkey: scriptPubKey.hex,
        }));
        return third === "" ? JSON.stringify({ txid: second, vout, status: status(known) }) : undefined;
      }
    }
    return undefined;
  }

  private async all(): Promise<Map<string, Known>> {
    const { bitcoind } = this;
    const best = await bitcoind.rpc<string>("getbestblockhash");
    const state = [best, ...(await bitcoind.rpc<string[]>("getrawmempool"))].join();
    if (this.last?.state === state) return this.last.known;
    const known = new Map<string, Known>();
    this.last = { state, known };
    for (let height = 1, tip = await bitcoind.rpc<number>("getblockcount"); height <= tip; height++) {
      const hash = await bitcoind.rpc<string>("getblockhash", [height]);
      let transactions = this.blocks.get(hash);
      if (!transactions) {
        transactions = (await bitcoind.rpc<{ tx: readonly Tx[] }>("getblock", [hash, 2])).tx;
        this.blocks.set(hash, transactions);
      }
      for (const tx of transactions) known.set(tx.txid, { tx, height });
    }
    for (const txid of await bitcoind.rpc<string[]>("getrawmempool")) {
      known.set(txid, { tx: await bitcoind.rpc<Tx>("getrawtransaction", [txid, true]), height: null });
    }
    return known;
  }

  private async unspent(scripthash: string): Promise<object[]> {
    const all = await this.all();
    const spent = spentIn(all);
    const found: object[] = [];
    for (const each of all.values()) {
      for (const [vout, { value, scriptPubKey }] of each.tx.vout.entries()) {
        const hash = createHash("sha256").update(Buffer.from(scriptPubKey.hex, "hex")).digest("hex");
        if (hash !== scripthash || spent.has(`${each.tx.txid}:${vout}`)) continue;
        found.push({ txid: each.tx.txid, vout, value: Math.round(value * 1e8), status: status(each) });
      }
    }
    return found;
  }
}

function status({ height }: Known): object {
  return height === null ? { confirmed: false } : { confirmed: true, block_height: height };
}

function spentIn(all: ReadonlyMap<string, Known>): Set<string> {
  return new Set([...all.values()].flatMap(({ tx }) => tx.vin.map(({ txid, vout }) => `${txid}:${vout}`)));
}
