/** Between somebody and bitcoind: what that says of feerates is the test's to choose. */
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";

export interface Estimates {
  readonly rpc: RpcOptions;
  /** sat per 1000 weight units; undefined: what bitcoind says. */
  urgent: number | undefined;
  normal: number | undefined;
  minimum: number | undefined;
  close(): void;
}

/** For whoever asks bitcoind by `rpc`. The feerates of a gateway are asked for once a minute at most. */
export async function estimatesBefore(rpc: RpcOptions): Promise<Estimates> {
  const btcPerKvb = (perKw: number) => (perKw * 4) / 1e8;
  const server = createServer((question, answer) => {
    const chunks: Buffer[] = [];
    question.on("data", (chunk: Buffer) => chunks.push(chunk));
    question.on("end", () => {
      const body = Buffer.concat(chunks);
      const { method, params } = JSON.parse(body.toString()) as { method: string; params: unknown[] };
      const { host: _, ...headers } = question.headers;
      const on = request(rpc.url, { method: "POST", headers }, from => {
        const parts: Buffer[] = [];
        from.on("data", (part: Buffer) => parts.push(part));
        from.on("end", () => {
          let text = Buffer.concat(parts).toString();
          const isUrgent = method === "estimatesmartfee" && params[0] === 2;
          const chosen =
            method === "getmempoolinfo"
              ? estimates.minimum
              : method === "estimatesmartfee"
                ? isUrgent
                  ? estimates.urgent
                  : estimates.normal
                : undefined;
          if (chosen !== undefined) {
            const name = method === "getmempoolinfo" ? "mempoolminfee" : "feerate";
            const { result, ...rest } = JSON.parse(text) as { result: object };
            text = JSON.stringify({ ...rest, result: { ...result, [name]: btcPerKvb(chosen) } });
          }
          answer.writeHead(from.statusCode ?? 500, { "content-type": "application/json" }).end(text);
        });
      });
      on.on("error", () => answer.destroy());
      answer.on("close", () => on.destroy());
      on.end(body);
    });
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const estimates: Estimates = {
    rpc: { ...rpc, url: `http://127.0.0.1:${port}` },
    urgent: undefined,
    normal: undefined,
    minimum: undefined,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
  return estimates;
}
