/**
 * The whole path in one process: regtest bitcoind, a bridge and a toll company on plain LDK with its stock keys, the
 * gateway with its broker, the owner's computer, and a car with a real flash file, all over TCP.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ldk from "lightningdevkit";
import { type NodeBoard, openNodeBoard } from "../../device/boards/node/board.ts";
import { type Device, openDevice } from "../../device/device.ts";
import { type Chain, createChain } from "../../gateway/chain/chain.ts";
import type { GatewayConfig } from "../../gateway/config.ts";
import { type RunningGateway, runGateway } from "../../gateway/gateway.ts";
import { LightningNode, type NodeStore } from "../../gateway/lightning/node.ts";
import { type LightningRuntime, startRuntime } from "../../gateway/lightning/runtime.ts";
import { createLog, type Log } from "../../gateway/log.ts";
import { openRegistry, openStore } from "../../gateway/registry.ts";
import { askDeposit } from "../../owner/channel.ts";
import { chargeDevice } from "../../owner/charge.ts";
import { createOwner, deviceFolder } from "../../owner/folder.ts";
import { pairDevice } from "../../owner/pair.ts";
import { newWords } from "../../owner/seed.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { encodePairingCode } from "../../src/link/pairing-code.ts";

/** Rows in memory: what a peer remembers until the test ends. */
function memoryStore(): NodeStore {
  const rows = new Map<string, Uint8Array>();
  return {
    get: key => rows.get(key),
    keys: prefix => [...rows.keys()].filter(key => key.startsWith(prefix)),
    async write(changes) {
      for (const [key, value] of changes) {
        if (value === null) rows.delete(key);
        else rows.set(key, value);
      }
    },
  };
}

/** LDK holds what is passed to it weakly. */
const keep: unknown[] = [];

/** Plain LDK with its stock KeysManager: takes channels, forwards, issues invoices and claims them. */
export class Peer {
  readonly name: string;
  readonly node: LightningNode;
  readonly port: number;
  readonly claimed: { readonly hash: string; readonly amountMsat: number }[] = [];
  /** Fails what comes in instead of claiming it. */
  failIncoming = false;
  /** Neither claims nor fails. */
  holdIncoming = false;
  private onEvent: (event: ldk.Event) => void = () => {};

  private constructor(name: string, node: LightningNode, port: number) {
    this.name = name;
    this.node = node;
    this.port = port;
  }

  static async start(name: string, runtime: LightningRuntime, log: Log): Promise<Peer> {
    const keys = ldk.KeysManager.constructor_new(new Uint8Array(randomBytes(32)), 1n, 1);
    let peer: Peer | undefined;
    const node = await LightningNode.start({
      runtime,
      keys: {
        entropySource: keys.as_EntropySource(),
        nodeSigner: keys.as_NodeSigner(),
        signerProvider: keys.as_SignerProvider(),
      },
      store: memoryStore(),
      log: log.part(name),
      routing: true,
      onEvent: event => peer?.handle(event),
      onFatal: error => log.error(`${name}: ${error}`),
    });
    const port = await node.listen("127.0.0.1", 0);
    peer = new Peer(name, node, port);
    keep.push(keys);
    return peer;
  }

  private handle(event: ldk.Event): void {
    if (event instanceof ldk.Event_PaymentClaimable) {
      const { purpose } = event;
      const preimage =
        purpose instanceof ldk.PaymentPurpose_Bolt11InvoicePayment &&
        purpose.payment_preimage instanceof ldk.Option_ThirtyTwoBytesZ_Some
          ? purpose.payment_preimage.some
          : undefined;
      if (this.failIncoming || !preimage) this.node.manager.fail_htlc_backwards(event.payment_hash);
      else if (!this.holdIncoming) this.node.manager.claim_funds(preimage);
    } else if (event instanceof ldk.Event_PaymentClaimed) {
      this.claimed.push({ hash: toHex(event.payment_hash), amountMsat: Number(event.amount_msat) });
    }
    this.onEvent(event);
  }

  /** Opens a channel from bitcoind's wallet and waits until both can use it. */
  async open(to: Peer, chain: Regtest, sat: number, pushMsat: number): Promise<void> {
    await this.node.connect({ nodeId: to.node.nodeId, host: "127.0.0.1", port: to.port });
    const funded = new Promise<void>((resolve, reject) => {
      this.onEvent = event => {
        if (!(event instanceof ldk.Event_FundingGenerationReady)) return;
        this.fund(event, chain, sat).then(resolve, reject);
      };
    });
    this.node.createChannel(to.node.nodeId, sat, pushMsat, 1n);
    await funded;
    this.onEvent = () => {};
    await waitFor(
      "the funding transaction",
      async () => (await chain.rpc<string[]>("getrawmempool")).length > 0,
    );
    await chain.mine(6);
    await waitFor(
      "the channel",
      () =>
        this.node.manager.list_usable_channels().length > 0 &&
        to.node.manager.list_usable_channels().length > 0,
    );
  }

  private async fund(event: ldk.Event_FundingGenerationReady, chain: Regtest, sat: number): Promise<void> {
    const { address } = await chain.rpc<{ address: string }>("decodescript", [toHex(event.output_script)]);
    const raw = await chain.rpc<string>("createrawtransaction", [[], [{ [address]: sat / 1e8 }]]);
    const { hex } = await chain.rpc<{ hex: string }>("fundrawtransaction", [raw]);
    const signed = await chain.rpc<{ hex: string }>("signrawtransactionwithwallet", [hex]);
    this.node.manager.funding_transaction_generated(
      event.temporary_channel_id,
      event.counterparty_node_id,
      fromHex(signed.hex),
    );
    this.node.wake();
  }

  invoice(amountMsat: number | null, description = "toll", expirySeconds = 3600): string {
    const amount =
      amountMsat === null
        ? ldk.Option_u64Z.constructor_none()
        : ldk.Option_u64Z.constructor_some(BigInt(amountMsat));
    const made = ldk.UtilMethods.constructor_create_invoice_from_channelmanager(
      this.node.manager,
      amount,
      description,
      expirySeconds,
      ldk.Option_u16Z.constructor_none(),
    );
    if (!(made instanceof ldk.Result_Bolt11InvoiceSignOrCreationErrorZ_OK)) throw new Error("no invoice");
    return made.res.to_str();
  }
}

export async function waitFor(what: string, test: () => unknown, ms = 20_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await test())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

async function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

export class World {
  readonly folder: string;
  readonly bitcoind: Regtest;
  readonly bridge: Peer;
  readonly toll: Peer;
  readonly config: GatewayConfig;
  gateway: RunningGateway | undefined;
  private readonly peerChain: Chain;
  private readonly log: Log;
  readonly lines: string[];

  private constructor(
    parts: Pick<World, "folder" | "bitcoind" | "bridge" | "toll" | "config" | "lines"> & {
      peerChain: Chain;
      log: Log;
    },
  ) {
    this.folder = parts.folder;
    this.bitcoind = parts.bitcoind;
    this.bridge = parts.bridge;
    this.toll = parts.toll;
    this.config = parts.config;
    this.lines = parts.lines;
    this.peerChain = parts.peerChain;
    this.log = parts.log;
  }

  /** bitcoind, bridge, toll company and a channel between the two. */
  static async start(): Promise<World> {
    const folder = mkdtempSync(join(tmpdir(), "lngate-e2e-"));
    const lines: string[] = [];
    const log = createLog("debug", line => {
      lines.push(line);
      if (process.env["LNGATE_TEST_LOG"]) process.stderr.write(line);
    });
    const bitcoind = await startRegtest();
    const peerChain = createChain({ rpc: bitcoind.rpcOptions, network: "regtest", log: log.part("peers") });
    await peerChain.start();
    const runtime = await startRuntime(peerChain, log.part("peers"));
    const bridge = await Peer.start("bridge", runtime, log);
    const toll = await Peer.start("toll", runtime, log);
    await bridge.open(toll, bitcoind, 5_000_000, 1_000_000_000);
    const config: GatewayConfig = {
      file: join(folder, "gateway.conf"),
      dataDir: join(folder, "gateway"),
      network: "regtest",
      bitcoind: bitcoind.rpcOptions as GatewayConfig["bitcoind"],
      mqtt: { kind: "embedded", host: "127.0.0.1", port: await freePort() },
      bridge: { nodeId: toHex(bridge.node.nodeId), host: "127.0.0.1", port: bridge.port },
      logLevel: "debug",
    };
    const world = new World({ folder, bitcoind, bridge, toll, config, lines, peerChain, log });
    createOwner(world.ownerFolder, "regtest", newWords());
    await world.startGateway();
    return world;
  }

  get ownerFolder(): string {
    return join(this.folder, "owner");
  }

  async startGateway(): Promise<void> {
    this.gateway = await runGateway(this.config, this.log);
  }

  async stopGateway(): Promise<void> {
    await this.gateway?.close();
    this.gateway = undefined;
  }

  /** Invites, pairs and charges a device; its id. */
  async makeDevice(name: string, payments: number): Promise<string> {
    const store = openStore(this.config.dataDir);
    const invited = openRegistry(store).invite(name, 3600, length => new Uint8Array(randomBytes(length)));
    await store.close();
    const { mqtt } = this.config;
    if (mqtt.kind !== "embedded") throw new Error("the test's broker is embedded");
    const code = encodePairingCode({
      deviceId: invited.deviceId,
      secret: invited.secret,
      host: mqtt.host,
      port: mqtt.port,
    });
    await pairDevice({ folder: this.ownerFolder, code });
    await chargeDevice({ folder: this.ownerFolder, deviceId: invited.deviceId, payments });
    return invited.deviceId;
  }

  /** Pays a deposit and mines it. */
  async deposit(deviceId: string, sat: number): Promise<void> {
    const { address } = await askDeposit({ folder: this.ownerFolder, deviceId });
    await this.bitcoind.fund(address, sat);
    await this.bitcoind.mine(1);
  }

  openBoard(deviceId: string): NodeBoard {
    return openNodeBoard(deviceFolder(this.ownerFolder, deviceId));
  }

  /** A car: its device, connected. */
  async startCar(deviceId: string): Promise<Car> {
    const board = this.openBoard(deviceId);
    const device = openDevice(board);
    await device.connect();
    return {
      board,
      device,
      stop() {
        device.disconnect();
        board.close();
      },
    };
  }

  async stop(): Promise<void> {
    await this.stopGateway();
    this.bridge.node.stop();
    this.toll.node.stop();
    await this.peerChain.stop();
    await this.bitcoind.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export interface Car {
  readonly board: NodeBoard;
  readonly device: Device;
  stop(): void;
}
