/** Bitcoin Core's JSON-RPC: one call, one answer, errors a person understands. */
import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { codeOf, type LngateError, lngateError } from "../errors.ts";

/** Where bitcoind listens and how to log in: its cookie file (read again for every call, since it changes with every start) or a name and password. */
export interface RpcOptions {
  /** e.g. `http://127.0.0.1:8332` (https where something puts TLS before it); a wallet's calls go to `…/wallet/<name>`. */
  readonly url: string;
  readonly cookieFile?: string;
  readonly user?: string;
  readonly password?: string;
  /** How long one call may take, 30 s by default. */
  readonly timeoutMs?: number;
}

export interface BitcoinRpc {
  /**
   * One call. Throws what passes by itself ({@link passes}):
   * `bitcoind-unreachable` (not running, no answer in time), `bitcoind-starting`, `bitcoind-busy` (too many calls at once);
   * and what somebody has to mend:
   * `bitcoind-url` (what answers there is no bitcoind's RPC), `bitcoind-login` (it refuses our credentials, or its cookie may
   * not be read), `bitcoind-address` (it lets nobody in from here), `bitcoind-method` (it does not know this method, or we
   * may not call it), `bitcoind-refused` (it answered with an error; then `rpcCode` is its number, see {@link rpcCodeOf}).
   */
  call<Result>(method: string, params?: readonly unknown[], timeoutMs?: number): Promise<Result>;
  /** Ends every call that is under way. */
  close(): void;
}

/** What Node calls a connection that the other side has ended. */
const GONE = new Set(["ECONNRESET", "EPIPE"]);
const RPC_IN_WARMUP = -28;
const RPC_METHOD_NOT_FOUND = -32601;

const PASSING: ReadonlySet<string> = new Set(["bitcoind-unreachable", "bitcoind-starting", "bitcoind-busy"]);

/** True for trouble that passes without anybody's doing: it is waited out. */
export function passes(error: unknown): boolean {
  return PASSING.has(codeOf(error) ?? "");
}

export function connectRpc(options: RpcOptions): BitcoinRpc {
  const url = new URL(options.url);
  const { Agent, request } = url.protocol === "https:" ? https : http;
  const agent = new Agent({ keepAlive: true });
  const at = `bitcoind at ${url.host}`;
  let closed = false;

  function credentials(): string {
    const { cookieFile, user = "", password = "" } = options;
    if (cookieFile === undefined) return `${user}:${password}`;
    let cookie: string;
    try {
      cookie = readFileSync(cookieFile, "utf8").trim();
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
      if (why === "ENOENT") throw unreachable(url, `its cookie file ${cookieFile} is not there`);
      throw lngateError(
        "bitcoind-login",
        why === "EACCES" || why === "EPERM"
          ? `the cookie file ${cookieFile} may not be read by this user (${why}): start bitcoind with rpccookieperms=group and join its group, or use a name and password of its rpcauth`
          : `the cookie file ${cookieFile} can't be read (${why})`,
      );
    }
    // It is empty for a moment while bitcoind starts.
    if (cookie === "") throw unreachable(url, `its cookie file ${cookieFile} is empty`);
    if (!cookie.includes(":"))
      throw lngateError("bitcoind-login", `the file ${cookieFile} is not a cookie file of bitcoind's`);
    return cookie;
  }

  function post(body: string, timeoutMs: number, auth?: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const req = request(url, {
        method: "POST",
        agent,
        ...(auth === undefined ? {} : { auth }),
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
      });
      const timer = setTimeout(
        () => req.destroy(unreachable(url, `no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      let isAnswered = false;
      const fail = (error: Error) => {
        clearTimeout(timer);
        // bitcoind closes idle connections; a kept one that dies under a request was never read by it. Whether we hear of it
        // in reading or in writing is chance.
        if (!closed && !isAnswered && req.reusedSocket && GONE.has(codeOf(error) ?? ""))
          post(body, timeoutMs, auth).then(resolve, reject);
        else reject(unanswered(error));
      };
      req.on("error", fail);
      req.on("response", response => {
        isAnswered = true;
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

  /** Why there was no answer. */
  function unanswered(error: Error): LngateError {
    const code = codeOf(error) ?? "";
    if (code === "bitcoind-unreachable") return error as LngateError;
    if (code === "EPROTO")
      return lngateError(
        "bitcoind-url",
        `${url.host} does not speak TLS: bitcoind's own address starts with http://, not https://`,
      );
    if (code.startsWith("HPE_"))
      return lngateError(
        "bitcoind-url",
        `what answers at ${url.host} does not speak HTTP: is this the port of bitcoind's RPC? (https:// where something puts TLS before it)`,
      );
    return unreachable(url, error.message);
  }

  /** What an answer says that is not JSON: it comes from bitcoind's door, or from something else. */
  async function refusal(
    status: number,
    text: string,
    method: string,
    timeoutMs: number,
  ): Promise<LngateError> {
    const { cookieFile, user = "" } = options;
    if (status === 401)
      return lngateError(
        "bitcoind-login",
        cookieFile === undefined
          ? `${at} does not accept the name "${user}" with this password; its rpcauth, or rpcuser and rpcpassword, say which it does`
          : `${at} does not accept the cookie in ${cookieFile}: is it the file of this bitcoind, and of this network?`,
      );
    if (status === 403) {
      // Who is not let in at all is told so before being asked for a password.
      const stranger = await post("{}", timeoutMs);
      if (stranger.status !== 401)
        return lngateError(
          "bitcoind-address",
          `${at} lets nobody in from this machine's address: add the address to its rpcallowip`,
        );
      const name = cookieFile === undefined ? user : "__cookie__";
      return lngateError(
        "bitcoind-method",
        `${at} does not let "${name}" call ${method}: add ${method} to its rpcwhitelist`,
      );
    }
    // So it answers while it is being stopped; a full work queue it calls by its name.
    if (status === 503 && !/work queue/i.test(text))
      return unreachable(url, "HTTP status 503: it is being stopped, or its proxy can't reach it");
    if (status === 429 || status === 503)
      return lngateError(
        "bitcoind-busy",
        `${at} has too many calls to answer (HTTP status ${status}); if that stays so, raise its rpcworkqueue`,
      );
    if (status > 503 || status === 502) return unreachable(url, `HTTP status ${status}`);
    return lngateError(
      "bitcoind-url",
      `what answers at ${url.host} is not bitcoind's RPC (HTTP status ${status}, and no JSON): check address and port`,
    );
  }

  return {
    async call<Result>(
      method: string,
      params: readonly unknown[] = [],
      timeoutMs = options.timeoutMs ?? 30_000,
    ) {
      const body = JSON.stringify({ jsonrpc: "1.0", id: "lngate", method, params });
      const auth = credentials();
      let { status, text } = await post(body, timeoutMs, auth);
      // bitcoind may have started again, with another cookie, since ours was read.
      if (status === 401 && credentials() !== auth) {
        ({ status, text } = await post(body, timeoutMs, credentials()));
      }
      let answer: { result?: unknown; error?: { code?: number; message?: string } | null } | null;
      try {
        answer = JSON.parse(text) as typeof answer;
      } catch {
        answer = null;
      }
      if (typeof answer !== "object" || answer === null || !("result" in answer || "error" in answer))
        throw await refusal(status, text, method, timeoutMs);
      if (answer.error) {
        const { code = 0, message = "" } = answer.error;
        if (code === RPC_IN_WARMUP)
          throw lngateError("bitcoind-starting", `${at} is still starting: ${message}`);
        const unknown = code === RPC_METHOD_NOT_FOUND;
        const refused = unknown
          ? lngateError(
              "bitcoind-method",
              `${at} does not know ${method} (${message}): Bitcoin Core or Knots 27 or newer is needed`,
            )
          : lngateError("bitcoind-refused", `bitcoind refused ${method}: ${message}`);
        throw Object.assign(refused, { rpcCode: code });
      }
      return answer.result as Result;
    },
    close() {
      closed = true;
      agent.destroy();
    },
  };
}

/** bitcoind's own error number of a caught `bitcoind-refused` or `bitcoind-method`. */
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
