/**
 * A plain Lightning node as a process of its own: bridge, toll company, or the payer that ours is compared with.
 *
 *   node dist/peer.mjs --name bridge --data DIR --rpc http://127.0.0.1:18443 --cookie FILE [--wallet NAME]
 *     [--listen PORT] [--network regtest] [--fee-base-msat N] [--fee-ppm N] [--feerate N] [--log LEVEL]
 *
 * It is led by lines of JSON on standard input, `{"id": 1, "command": "…", …}`, answers each with a line
 * `{"id": 1, "result": …}` or `{"id": 1, "error": {"code", "message"}}`, and tells of what happens with lines
 * `{"event": "…", …}`, the first of which is `ready`. It ends when its input does.
 *
 *   info                                                        → { nodeId, port, height }
 *   connect     { peer: "id@host:port" }                        → {}
 *   open        { peer, sat, pushSat?, announced? }             → channel, once it can be used (mine meanwhile)
 *   channels                                                    → [channel]
 *   invoice     { amountMsat: number | null, description, expirySeconds?, hold?, holdMs? } → { invoice }; `holdMs`: it
 *               keeps the payment for so long, and says so (event `held`)
 *   held        { hash }                                        → { held: boolean }, a payment that `hold` has kept
 *   settle, fail { hash }                                       → {}, of one that is held
 *   pay         { invoice, maxFeeMsat? }                        → { hash, preimage, feeMsat, ms }
 *   claimed                                                     → { hash: amountMsat }
 *   policy      { baseMsat, ppm, cltvDelta }                    → {}, of all channels that it has
 *   close       { channelId, force? }                           → {}
 *   address                                                     → { address } of its wallet
 *   memory                                                      → { rssMb }
 *   stop                                                        → {}, then it ends
 */

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Event_PaymentClaimable } from "lightningdevkit";
import { claimOrFail } from "../../gateway/lightning/payments/invoices.ts";
import type { Peer } from "../../gateway/lightning/peers/contacts.ts";
import { createLog } from "../../gateway/log.ts";
import { NETWORKS } from "../../src/bitcoin/network.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { connectRpc } from "../../src/node/bitcoind-rpc.ts";
import { PlainPeer } from "./plain-peer.ts";

const { values: options } = parseArgs({
  options: {
    name: { type: "string", default: "peer" },
    data: { type: "string" },
    rpc: { type: "string" },
    cookie: { type: "string" },
    wallet: { type: "string", default: "regtest" },
    listen: { type: "string", default: "0" },
    network: { type: "string", default: "regtest" },
    "fee-base-msat": { type: "string", default: "1000" },
    "fee-ppm": { type: "string", default: "0" },
    feerate: { type: "string" },
    log: { type: "string", default: "warn" },
  },
});

type Command = { readonly id?: unknown; readonly command?: unknown } & { readonly [field: string]: unknown };

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function oneOf<T extends string>(text: string, allowed: readonly T[], what: string): T {
  const found = allowed.find(each => each === text);
  if (!found) throw lngateError("bad-option", `${what} is one of ${allowed.join(", ")}`);
  return found;
}

function text(command: Command, field: string): string {
  const value = command[field];
  if (typeof value !== "string") throw lngateError("bad-command", `${field} must be a text`);
  return value;
}

function whole(command: Command, field: string, otherwise?: number): number {
  const value = command[field] ?? otherwise;
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw lngateError("bad-command", `${field} must be a whole number`);
  return value as number;
}

function peerOf(command: Command): Peer {
  const match = /^([0-9a-f]{66})@(.+):(\d+)$/.exec(text(command, "peer"));
  if (!match) throw lngateError("bad-command", "peer must be id@host:port");
  return { nodeId: fromHex(match[1]!), host: match[2]!, port: Number(match[3]) };
}

async function main(): Promise<void> {
  const { data, rpc: url, cookie } = options;
  if (!data || !url || !cookie) throw lngateError("bad-option", "--data, --rpc and --cookie are needed");
  const log = createLog(oneOf(options.log, ["debug", "info", "warn", "error"] as const, "--log")).part(
    options.name,
  );
  const rpcOptions = { url, cookieFile: cookie };
  /** Payments that are to be kept, by their hash: null until they are here. */
  const holding = new Map<string, Event_PaymentClaimable | null>();
  /** How long payments are to be kept that are taken then, by their hash. */
  const holdingMs = new Map<string, number>();
  const wallet = connectRpc({ ...rpcOptions, url: `${url}/wallet/${options.wallet}` });
  const peer = await PlainPeer.start({
    dataDir: data,
    network: oneOf(options.network, NETWORKS, "--network"),
    rpc: rpcOptions,
    wallet: options.wallet,
    log,
    port: Number(options.listen),
    forwardingFee: {
      baseMsat: Number(options["fee-base-msat"]),
      proportionalMillionths: Number(options["fee-ppm"]),
    },
    ...(options.feerate ? { commitmentFeerate: Number(options.feerate) } : {}),
    onEvent: say,
    holdsPayment: event => {
      const hash = toHex(event.payment_hash);
      const ms = holdingMs.get(hash);
      if (ms !== undefined) {
        holdingMs.delete(hash);
        say({ event: "held", hash, ms });
        setTimeout(() => claim(event), ms);
        return true;
      }
      if (!holding.has(hash)) return false;
      holding.set(hash, event);
      return true;
    },
  });

  function claim(event: Event_PaymentClaimable): void {
    claimOrFail(peer.node.manager, event);
    peer.node.wake();
  }

  function takeHeld(command: Command): Event_PaymentClaimable {
    const hash = text(command, "hash");
    const held = holding.get(hash);
    if (!held) throw lngateError("bad-command", "no such payment is held");
    holding.delete(hash);
    return held;
  }

  async function run(command: Command): Promise<object> {
    switch (command.command) {
      case "info":
        return { nodeId: peer.nodeId, port: peer.port, height: await wallet.call<number>("getblockcount") };
      case "connect":
        await peer.connect(peerOf(command));
        return {};
      case "open":
        return peer.open(peerOf(command), whole(command, "sat"), {
          pushSat: whole(command, "pushSat", 0),
          announced: command["announced"] === true,
        });
      case "channels":
        return peer.channels();
      case "invoice": {
        const amountMsat = command["amountMsat"] === null ? null : whole(command, "amountMsat");
        const expirySeconds = whole(command, "expirySeconds", 3600);
        const invoice = peer.invoice(amountMsat, text(command, "description"), expirySeconds);
        const hash = () => toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
        if (command["hold"] === true) holding.set(hash(), null);
        else if (whole(command, "holdMs", 0) > 0) holdingMs.set(hash(), whole(command, "holdMs"));
        return { invoice };
      }
      case "held":
        return { held: Boolean(holding.get(text(command, "hash"))) };
      case "settle":
        claim(takeHeld(command));
        return {};
      case "fail":
        peer.node.manager.fail_htlc_backwards(takeHeld(command).payment_hash);
        peer.node.wake();
        return {};
      case "pay":
        return peer.pay(text(command, "invoice"), whole(command, "maxFeeMsat", 100_000));
      case "claimed":
        return Object.fromEntries(peer.claimedMsat());
      case "policy":
        peer.setPolicy(whole(command, "baseMsat"), whole(command, "ppm"), whole(command, "cltvDelta"));
        return {};
      case "close":
        peer.close(text(command, "channelId"), command["force"] === true);
        return {};
      case "address":
        return { address: await wallet.call<string>("getnewaddress", ["", "bech32"]) };
      case "memory":
        return { rssMb: Math.round(process.memoryUsage().rss / 1e6) };
      case "stop":
        setImmediate(end);
        return {};
      default:
        throw lngateError("bad-command", "there is no such command");
    }
  }

  let ending = false;
  function end(): void {
    if (ending) return;
    ending = true;
    peer.stop().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  }

  createInterface({ input: process.stdin })
    .on("line", line => {
      let id: unknown = null;
      void (async () => {
        const command = JSON.parse(line) as Command;
        id = command.id ?? null;
        return run(command);
      })().then(
        result => say({ id, result }),
        error => say({ id, error: { code: codeOf(error) ?? "failed", message: (error as Error).message } }),
      );
    })
    .on("close", end);
  say({ event: "ready", name: options.name, nodeId: peer.nodeId, port: peer.port });
}

main().catch(error => {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
});
