/** In front of bitcoind, for one party: feerates as a test wants them, and everything else as bitcoind says it. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";

interface Call {
  readonly id?: unknown;
  readonly jsonrpc?: unknown;
  readonly method?: unknown;
}

/** A proxy of one bitcoind's JSON-RPC. */
export class Estimates {
  /** Of this bitcoind, with these feerates. */
  readonly rpcOptions: RpcOptions;
  private readonly server: Server;
  private readonly bitcoind: URL;
  /** What `estimatesmartfee` answers, and the least that the mempool takes: sat/vB. */
  private satPerVbyte: number;
  private minimum = 1;

  private constructor(server: Server, rpc: RpcOptions, port: number, satPerVbyte: number) {
    this.server = server;
    this.bitcoind = new URL(rpc.url);
    this.rpcOptions = { ...rpc, url: `http://127.0.0.1:${port}` };
    this.satPerVbyte = satPerVbyte;
  }

  static async of(rpc: RpcOptions, satPerVbyte: number): Promise<Estimates> {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const estimates = new Estimates(server, rpc, port, satPerVbyte);
    server.on("request", (asked, answer) => void estimates.serve(asked, answer));
    return estimates;
  }

  /** From the next question on. Who remembers an answer goes by it for as long as it does. */
  set(satPerVbyte: number, minimum = 1): void {
    this.satPerVbyte = satPerVbyte;
    this.minimum = minimum;
  }

  private async serve(asked: IncomingMessage, answer: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of asked) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const { method, headers, url: path } = asked;
    const forwarded = request(this.bitcoind, { method, headers, path }, response => {
      const said: Buffer[] = [];
      response.on("data", (chunk: Buffer) => said.push(chunk));
      response.on("end", () => {
        const text = this.changed(body, Buffer.concat(said));
        // Not every client takes an answer of unknown length.
        const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
        answer.writeHead(response.statusCode ?? 502, headers);
        answer.end(text);
      });
    });
    forwarded.on("error", () => answer.destroy());
    forwarded.end(body);
  }

  private changed(body: Buffer, answer: Buffer): Buffer | string {
    const text = body.toString("utf8");
    if (!/"(estimatesmartfee|getmempoolinfo)"/.test(text)) return answer;
    const { method } = JSON.parse(text) as Call;
    const said = JSON.parse(answer.toString("utf8")) as { result: object | null };
    if (!said.result) return answer;
    const perKvb = (satPerVbyte: number) => Number((satPerVbyte / 1e5).toFixed(8));
    const result =
      method === "estimatesmartfee"
        ? { feerate: perKvb(this.satPerVbyte), blocks: 2 }
        : { ...said.result, mempoolminfee: perKvb(this.minimum) };
    return JSON.stringify({ ...said, result });
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise(resolve => this.server.close(resolve));
  }
}
