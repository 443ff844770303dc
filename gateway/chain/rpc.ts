/** Bitcoin Core's JSON-RPC: one call, one answer, errors a person understands. */
import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { lngateError } from "../../src/errors.ts";

/** Where bitcoind listens and how to log in: its cookie file (read anew for every call, since it changes with every start) or a name and password. */
export interface RpcOptions {
  /** e.g. `http://127.0.0.1:8332`; a wallet's calls go to `…/wallet/<name>`. */
  readonly url: string;
  readonly cookieFile?: string;
  readonly user?: string;
  readonly password?: string;
  /** How long one call may take, 30 s unless told. */
  readonly timeoutMs?: number;
}

export interface BitcoinRpc {
  /**
   * One call. Throws `bitcoind-unreachable` (not running, still starting, no answer in time),
   * `bitcoind-login` (it refuses our credentials) or `bitcoind-refused` (it answered with an error; then
   * `rpcCode` is its number, see {@link rpcCodeOf}).
   */
  call<Result>(method: string, params?: readonly unknown[], timeoutMs?: number): Promise<Result>;
  /** Ends every call that is under way. */
  close(): void;
}

const RPC_IN_WARMUP = -28;

export function connectRpc(options: RpcOptions): BitcoinRpc {
  const url = new URL(options.url);
  const agent = new Agent({ keepAlive: true });
  let closed = false;

  function credentials(): string {
    if (options.cookieFile === undefined) return `${options.user ?? ""}:${options.password ?? ""}`;
    try {
      return readFileSync(options.cookieFile, "utf8").trim();
    } catch {
      throw unreachable(url, `its cookie file ${options.cookieFile} is not there`);
    }
  }

  function post(body: string, timeoutMs: number): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const req = request(url, {
        method: "POST",
        agent,
        auth: credentials(),
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
      });
      const timer = setTimeout(
        () => req.destroy(unreachable(url, `no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      const fail = (error: Error) => {
        clearTimeout(timer);
        // bitcoind closes idle connections; a kept one that dies under a request was never read by it.
        if (!closed && req.reusedSocket && "code" in error && error.code === "ECONNRESET")
          post(body, timeoutMs).then(resolve, reject);
        else
          reject(
            "code" in error && error.code === "bitcoind-unreachable"
              ? error
              : unreachable(url, error.message),
          );
      };
      req.on("error", fail);
      req.on("response", response => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", fail);
        response.on("end", () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") });
        });
      });
      req.end(body);
    });
  }

  return {
    async call<Result>(
      method: string,
      params: readonly unknown[] = [],
      timeoutMs = options.timeoutMs ?? 30_000,
    ) {
      const body = JSON.stringify({ jsonrpc: "1.0", id: "lngate", method, params });
      const { status, text } = await post(body, timeoutMs);
      if (status === 401 || status === 403)
        throw lngateError(
          "bitcoind-login",
          `bitcoind at ${url.host} does not accept our user name and password`,
        );
      let answer: { result?: unknown; error?: { code?: number; message?: string } | null };
      try {
        answer = JSON.parse(text) as typeof answer;
      } catch {
        throw unreachable(url, `HTTP status ${status} without an answer`);
      }
      if (answer.error) {
        const { code = 0, message = "" } = answer.error;
        if (code === RPC_IN_WARMUP) throw unreachable(url, `still starting: ${message}`);
        throw Object.assign(lngateError("bitcoind-refused", `bitcoind refused ${method}: ${message}`), {
          rpcCode: code,
        });
      }
      return answer.result as Result;
    },
    close() {
      closed = true;
      agent.destroy();
    },
  };
}

/** bitcoind's own error number of a caught `bitcoind-refused`. */
export function rpcCodeOf(error: unknown): number | undefined {
  const code = (error as { rpcCode?: unknown } | null)?.rpcCode;
  return typeof code === "number" ? code : undefined;
}

function unreachable(url: URL, why: string) {
  return lngateError(
    "bitcoind-unreachable",
    `bitcoind does not answer at ${url.host} (${why}); is it running?`,
  );
}
