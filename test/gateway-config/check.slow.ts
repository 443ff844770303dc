/** `lngate gateway check` as a program, against a real bitcoind, a real Lightning peer and brokers that say no. */

import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Aedes } from "aedes";
import { Deposits } from "../../gateway/channel/deposits.ts";
import { KNOWLEDGE } from "../../gateway/lightning/knowledge.ts";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import { openStore } from "../../gateway/store/registry.ts";
import { encodeStored } from "../../gateway/store/values.ts";
import type { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { reservePort } from "../../scripts/ports.ts";
import type { GraphKnowledge } from "../../src/lightning/graph-knowledge.ts";
import { World } from "../lightning-node/world.ts";

const STRANGER = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

describe("the configuration is checked against reality", () => {
  let world: World;
  let bridge: PlainPeer;
  let folder: string;
  let base: { [key: string]: unknown };

  beforeAll(async () => {
    world = await World.start();
    bridge = await world.peer("bridge");
    folder = mkdtempSync(join(tmpdir(), "lngate-check-"));
    const { url, cookieFile } = world.bitcoind.rpcOptions;
    base = {
      dataDir: join(folder, "data"),
      network: "regtest",
      bitcoind: { url, cookieFile },
      mqtt: { host: "127.0.0.1", port: await reservePort() },
      lightning: { bridge: `${bridge.nodeId}@127.0.0.1:${bridge.port}` },
    };
  });
  afterAll(async () => {
    await world?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** What the check prints for a configuration that differs in this. */
  async function check(changed: object = {}, mode = 0o600): Promise<Outcome> {
    const file = join(folder, "gateway.conf");
    writeFileSync(file, JSON.stringify({ ...base, ...changed }));
    chmodSync(file, mode);
    const child = spawn(process.execPath, ["dist/lngate.mjs", "gateway", "check", "--config", file]);
    let [out, err] = ["", ""];
    child.stdout.on("data", chunk => (out += chunk));
    child.stderr.on("data", chunk => (err += chunk));
    return new Promise(resolve => child.on("close", code => resolve({ code, out, err })));
  }

  /** Exactly this check fails, with this. */
  async function failure(what: string, changed: object, mode?: number): Promise<string> {
    const { code, out, err } = await check(changed, mode);
    expect([code, err]).toEqual([1, expect.stringMatching(/^check-failed: 1 of 5 checks failed/)]);
    expect(out).not.toContain("Everything is in place");
    return new RegExp(`^FAILED {2}${what}: (.*)$`, "m").exec(out)?.[1] ?? out;
  }

  test("everything is in place", async () => {
    const { code, out, err } = await check();
    expect(out.match(/^ok /gm)).toHaveLength(5);
    expect(out).toContain("is that node, and opens anchors channels");
    expect([code, err, out.trim().split("\n").pop()]).toEqual([
      0,
      "",
      "Everything is in place: lngate gateway run",
    ]);
  });

  test("a gateway that has run and knows nothing of the network, or nothing new, is a note", async () => {
    const dataDir = join(folder, "has-run");
    const know = async (knowledge: GraphKnowledge) => {
      const store = openStore(dataDir);
      const table = store.openDB<Uint8Array, string>({ name: "lightning", encoding: "binary" });
      await openNodeStore(table, "shared").write(new Map([[KNOWLEDGE, encodeStored(knowledge)]]));
      await store.close();
    };
    const now = Math.floor(Date.now() / 1000);
    for (const [knowledge, note] of [
      [{ channels: 0, changedAt: 0 }, /the gateway knows no channel of the network/],
      [{ channels: 40_000, changedAt: now - 3 * 86_400 }, /nothing new of the network for 72 h/],
    ] as const) {
      await know(knowledge);
      const { code, out } = await check({ dataDir });
      expect(code).toBe(0);
      expect(out).toMatch(note);
      expect(out).toContain("Nothing stands in the way, but look at the note");
    }
    await know({ channels: 40_000, changedAt: now });
    expect((await check({ dataDir })).out).toContain("Everything is in place");
  });

  test("a bridge that has another key than it should have is found by the handshake, and one that only listens as well", async () => {
    const other = await failure("bridge", { lightning: { bridge: `${STRANGER}@127.0.0.1:${bridge.port}` } });
    expect(other).toMatch(/does not prove to be the node with this public key/);
    const mute = createTcpServer(socket => {
      // Whom we greet so hangs up.
      socket.on("error", () => {}).end("220 welcome\r\n");
    });
    await new Promise<void>(resolve => mute.listen(0, "127.0.0.1", resolve));
    const { port } = mute.address() as AddressInfo;
    const listening = await failure("bridge", {
      lightning: { bridge: `${bridge.nodeId}@127.0.0.1:${port}` },
    });
    expect(listening).toMatch(/does not prove to be the node/);
    mute.close();
  });

  test("a broker elsewhere is logged in to: a wrong password and a forbidden topic are found", async () => {
    let isForbidden = false;
    const aedes = await Aedes.createBroker({
      authenticate(_client, name, password, done) {
        const matches = name === "lngate" && String(password) === "sesame";
        if (matches) done(null, true);
        else done(Object.assign(new Error("no"), { returnCode: 5 }) as never, false);
      },
      authorizeSubscribe: (_client, subscription, done) => done(null, isForbidden ? null : subscription),
    });
    const server = createTcpServer(socket => void aedes.handle(socket));
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const mqtt = { url, user: "lngate", password: "sesame" };
    expect((await check({ mqtt })).out).toContain(`ok      MQTT broker: ${url} lets the gateway in`);
    expect(await failure("MQTT broker", { mqtt: { ...mqtt, password: "guess" } })).toMatch(
      /does not let the gateway in \(.*ot authorized\)/,
    );
    isForbidden = true;
    expect(await failure("MQTT broker", { mqtt })).toMatch(/refused the subscription.*l\/\+\/up/);
    expect(
      await failure("configuration", { mqtt: { ...mqtt, url: "mqtt://127.0.0.1:1" } }, 0o644).catch(String),
    ).toMatch(/2 of 5 checks failed/);
    server.close();
    await new Promise<void>(resolve => aedes.close(resolve));
  });

  test("files that others may read are found: the data folder, and a configuration with a password in it", async () => {
    const { url } = world.bitcoind.rpcOptions;
    const cookie = readFileSync(world.bitcoind.rpcOptions.cookieFile!, "utf8").split(":");
    const bitcoind = { url, user: cookie[0], password: cookie[1] };
    expect((await check({ bitcoind })).code).toBe(0);
    expect(await failure("configuration", { bitcoind }, 0o644)).toMatch(/chmod 600/);
    // Without a password in it, it is nobody's secret.
    expect((await check({}, 0o644)).code).toBe(0);
    const dataDir = join(folder, "open");
    mkdirSync(dataDir, { mode: 0o755 });
    expect(await failure("data folder", { dataDir })).toMatch(/may look into .* chmod 700/);
    chmodSync(dataDir, 0o700);
    expect((await check({ dataDir })).code).toBe(0);
  });

  test("a bitcoind that keeps too few blocks, or does not let us ask, is found", async () => {
    const bitcoind = await between(answer => answer);
    expect((await check({ bitcoind: { ...bitcoind.login } })).code).toBe(0);
    bitcoind.change = (method, answer) =>
      method === "getblockchaininfo"
        ? { ...answer, result: { ...(answer["result"] as object), pruned: true, pruneheight: 60 } }
        : answer;
    const few = await check({ bitcoind: bitcoind.login });
    expect([few.code, few.out]).toEqual([
      0,
      expect.stringMatching(/^note {4}bitcoind: it keeps the last \d+ blocks/m),
    ]);
    expect(few.out).not.toContain("Everything is in place");
    expect(few.out).toContain("Nothing stands in the way, but look at the note");

    // The gateway was here before, and has read up to block 10.
    const store = openStore(base["dataDir"] as string);
    const table = store.openDB<Uint8Array, string>({ name: "deposits", encoding: "binary" });
    const tip = new Uint8Array(36);
    new DataView(tip.buffer).setUint32(32, 10);
    table.putSync("tip", tip);
    expect(Deposits.lastBlock(table)?.height).toBe(10);
    expect(await failure("bitcoind", { bitcoind: bitcoind.login })).toMatch(
      /pruned its blocks below 60, and this gateway has read up to 10/,
    );
    // The same place, which a bitcoind that has lost blocks does not know.
    bitcoind.change = (_method, answer) => answer;
    expect(await failure("bitcoind", { bitcoind: bitcoind.login })).toMatch(/does not know block 10 /);
    table.removeSync("tip");
    await store.close();

    const unknown = { result: null, error: { code: -32601, message: "Method not found" } };
    bitcoind.change = (method, answer) => (method === "waitfornewblock" ? unknown : answer);
    expect((await check({ bitcoind: bitcoind.login })).out).toMatch(/^note .*the gateway asks every second/m);
    bitcoind.change = (method, answer) => (method === "submitpackage" ? unknown : answer);
    expect(await failure("bitcoind", { bitcoind: bitcoind.login })).toMatch(/does not know submitpackage/);
    bitcoind.change = (method, answer) =>
      method === "getblockchaininfo"
        ? { ...answer, result: { ...(answer["result"] as object), headers: 900_000 } }
        : answer;
    expect(await failure("bitcoind", { bitcoind: bitcoind.login })).toMatch(/still downloading the chain/);
    bitcoind.server.close();
  });

  type Answer = { readonly [name: string]: unknown };

  /** The real bitcoind, behind something that changes what it says. */
  async function between(change: (answer: Answer) => Answer) {
    const { url, cookieFile = "" } = world.bitcoind.rpcOptions;
    const proxy: { change: (method: string, answer: Answer) => Answer; server: Server } = {
      change: (_method, answer) => change(answer),
      server: createServer((asked, response) => {
        const chunks: Buffer[] = [];
        asked.on("data", (chunk: Buffer) => chunks.push(chunk));
        asked.on("end", () => {
          const body = Buffer.concat(chunks);
          const auth = readFileSync(cookieFile, "utf8");
          const real = request(url, { method: "POST", auth }, answered => {
            const parts: Buffer[] = [];
            answered.on("data", (part: Buffer) => parts.push(part));
            answered.on("end", () => {
              const { method } = JSON.parse(body.toString()) as { method: string };
              const answer = JSON.parse(Buffer.concat(parts).toString()) as Answer;
              response.end(JSON.stringify(proxy.change(method, answer)));
            });
          });
          real.end(body);
        });
      }),
    };
    await new Promise<void>(resolve => proxy.server.listen(0, "127.0.0.1", resolve));
    const { port } = proxy.server.address() as AddressInfo;
    return Object.assign(proxy, { login: { url: `http://127.0.0.1:${port}`, user: "a", password: "b" } });
  }
});
