/** A device's node, a bridge and a destination on one regtest chain; the last two are plain LDK. */
import { createHash } from "node:crypto";
import * as ldk from "lightningdevkit";
import type { SignerChannel } from "../../gateway/signer/channel.ts";
import { isQuestion } from "../../gateway/signer/parts.ts";
import { RemoteSigner, userChannelIdOf } from "../../gateway/signer/remote-signer.ts";
import type { SigningState } from "../../gateway/signer/state.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { OP_CHECKSIG, p2wpkh, p2wsh, script, witnessSignature } from "../../src/bitcoin/script.ts";
import {
  parseTransaction,
  strippedBytes,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { TestDevice } from "./device.ts";
import { type Hop, readBook, type Stored, startLdk, TestNode, until, wait } from "./node.ts";

const hash = (text: string) => new Uint8Array(createHash("sha256").update(text).digest());

const OWNER_SECRET = hash("owner");
export const OWNER_SCRIPT = p2wpkh(nobleCurve.publicKey(OWNER_SECRET));
const CHANNEL_SAT = 1_000_000;

export interface Problem {
  readonly code: string;
  readonly sentence: string;
}

/** The remote side of one device: what survives a restart of its node, and what does not. */
export class World {
  readonly chain: Regtest;
  readonly device: TestDevice;
  readonly channel: SignerChannel;
  bridge: TestNode;
  readonly shop: TestNode;
  readonly bridgePort: number;
  readonly problems: Problem[] = [];
  /** Somebody waits for a receipt: what the device is only told waits for a question to go along with. */
  isAwaited = true;
  /** LDK's questions and what they were told, in order. */
  readonly calls: string[] = [];
  signer!: RemoteSigner;
  node!: TestNode;

  private readonly seed: string;

  private constructor(chain: Regtest, bridge: TestNode, bridgePort: number, shop: TestNode, seed: string) {
    this.chain = chain;
    this.bridge = bridge;
    this.bridgePort = bridgePort;
    this.shop = shop;
    this.seed = seed;
    this.device = new TestDevice(seed);
    this.channel = {
      keysId: hash(`${seed}/channel 1`),
      fundingSat: CHANNEL_SAT,
      bridge: bridge.id,
      publicKeys: this.device.publicKeys,
      destinationScript: OWNER_SCRIPT,
    };
  }

  /** bitcoind, a bridge, and a channel from the bridge to the shop. */
  static async start(seed: string, anchors = true): Promise<World> {
    await startLdk();
    const chain = await startRegtest();
    const bridge = await TestNode.start({ name: "bridge", chain, seed: hash(`${seed}/bridge`), anchors });
    const shop = await TestNode.start({ name: "shop", chain, seed: hash(`${seed}/shop`) });
    const bridgePort = await bridge.listen();
    await shop.connect(bridge.id, bridgePort);
    const world = new World(chain, bridge, bridgePort, shop, seed);
    await world.openFromWallet(bridge, shop, 5_000_000, 100_000_000);
    return world;
  }

  async openFromWallet(from: TestNode, to: TestNode, sat: number, pushMsat: number): Promise<void> {
    let funded = false;
    from.onEvent = async event => {
      if (!(event instanceof ldk.Event_FundingGenerationReady)) return;
      const raw = await this.chain.rpc<string>("createrawtransaction", [
        [],
        [{ [await this.addressOf(event.output_script)]: sat / 1e8 }],
      ]);
      const { hex } = await this.chain.rpc<{ hex: string }>("fundrawtransaction", [raw]);
      const signed = await this.chain.rpc<{ hex: string }>("signrawtransactionwithwallet", [hex]);
      from.manager.funding_transaction_generated(
        event.temporary_channel_id,
        event.counterparty_node_id,
        fromHex(signed.hex),
      );
      from.pump();
      funded = true;
    };
    const result = from.manager.create_channel(to.id, BigInt(sat), BigInt(pushMsat), 1n, null, null);
    if (!result.is_ok()) throw new Error("no channel");
    from.pump();
    await until("funded", () => funded && from.broadcast.length > 0);
    await wait(20);
    await this.mine(6);
    await until("the channel is usable", () => from.isUsable(to.id) && to.isUsable(from.id));
    from.onEvent = () => {};
  }

  private async addressOf(script: Uint8Array): Promise<string> {
    const decoded = await this.chain.rpc<{ address: string }>("decodescript", [toHex(script)]);
    return decoded.address;
  }

  get nodes(): TestNode[] {
    return [this.bridge, this.shop, ...(this.node ? [this.node] : [])];
  }

  async mine(blocks: number): Promise<void> {
    for (const node of this.nodes) await node.sends;
    const hashes = await this.chain.mine(blocks);
    const raw = await Promise.all(hashes.map(each => this.chain.rpc<string>("getblock", [each, 0])));
    for (const block of raw) {
      for (const node of this.nodes) node.connectBlock(fromHex(block));
      await wait(0);
    }
  }

  // ── the device's node ─────────────────────────────────────────────────────────────────────────────────

  /** Starts it, from its store if it had one. */
  async startNode(): Promise<void> {
    const { device, channel } = this;
    const stored = this.node?.stored;
    const signer = new RemoteSigner({
      nodeSeed: hash("node"),
      shutdownScript: OWNER_SCRIPT,
      peer: device,
      isPaying: () => this.isAwaited,
      problem: (_keysId, code, sentence) => this.problems.push({ code, sentence }),
    });
    this.signer = signer;
    device.parametersOf = keysId => signer.parameters(keysId);
    device.deliver = (keysId, answers) => {
      // What is answered to a node that is no more gets lost.
      if (this.signer === signer) signer.answer(keysId, answers);
    };
    const book = signer.addChannel(channel, stored ? readBook(stored, channel.keysId) : device.firstPoints());
    this.listen(book);
    this.node = await TestNode.start({
      name: "device",
      chain: this.chain,
      seed: hash("node"),
      signer,
      ...(stored ? { stored } : {}),
    });
    await this.connect();
  }

  /** Notes what LDK asks. */
  private listen(book: SigningState): void {
    const note = (call: string, answer: unknown) => this.calls.push(`${call} ${answer ? "ok" : "err"}`);
    const { pointAt, secretAt, validateHolder, counterpartyRevoked, counterpartySignatures } = book;
    const { exitSignature, closingSignature, spendSignature } = book;
    Object.assign(book, {
      pointAt: (n: number) => {
        const answer = pointAt.call(book, n);
        note(`point(${n})`, answer);
        return answer;
      },
      secretAt: (n: number) => {
        const answer = secretAt.call(book, n);
        note(`release(${n})`, answer);
        return answer;
      },
      validateHolder: (...args: Parameters<typeof validateHolder>) => {
        note(`validate_holder(${args[0].number})`, true);
        validateHolder.apply(book, args);
      },
      counterpartyRevoked: (...args: Parameters<typeof counterpartyRevoked>) => {
        note(`validate_revocation(${args[0]})`, true);
        counterpartyRevoked.apply(book, args);
      },
      counterpartySignatures: (...args: Parameters<typeof counterpartySignatures>) => {
        const answer = counterpartySignatures.apply(book, args);
        note(`sign_counterparty(${args[0].number})`, answer);
        return answer;
      },
      exitSignature: (...args: Parameters<typeof exitSignature>) => {
        const answer = exitSignature.apply(book, args);
        note(`sign_holder(${args[0].number})`, answer);
        return answer;
      },
      closingSignature: (...args: Parameters<typeof closingSignature>) => {
        const answer = closingSignature.apply(book, args);
        note(`sign_closing(${args[0].toHolderSat})`, answer);
        return answer;
      },
      spendSignature: (...args: Parameters<typeof spendSignature>) => {
        const answer = spendSignature.apply(book, args);
        note(`sign_${args[0].purpose.kind}`, answer);
        return answer;
      },
    });
  }

  get book(): SigningState {
    return this.signer.book(this.channel.keysId)!;
  }

  /** The bridge as it was at some earlier time, which it should not be any more. */
  async bridgeFromThePast(stored: Stored): Promise<void> {
    this.bridge.kill();
    this.bridge = await TestNode.start({
      name: "bridge",
      chain: this.chain,
      seed: hash(`${this.seed}/bridge`),
      stored,
    });
  }

  connect(): Promise<void> {
    return this.node.connect(this.bridge.id, this.bridgePort);
  }

  /** The connection breaks, and is made again. */
  async reconnect(): Promise<void> {
    this.node.disconnect();
    await until("the bridge has noticed", () => !this.bridge.isConnected(this.node.id));
    await this.connect();
  }

  async restartNode(): Promise<void> {
    this.node.kill();
    await until("the bridge has noticed", () => !this.bridge.isConnected(this.node.id));
    await this.startNode();
  }

  /**
   * Opens the device's channel from a deposit: the funding transaction is signed last, when exit 0 is held.
   * Returns the funding transaction.
   */
  async openChannel(ms?: number): Promise<Transaction> {
    const { node, signer, device, channel, chain } = this;
    const deposited = script([device.publicKeys.funding, OP_CHECKSIG]);
    const depositSat = CHANNEL_SAT + 50_000;
    const txid = await chain.fund(toHex(p2wsh(deposited)), depositSat);
    const { hex } = await chain.rpc<{ hex: string }>("getrawtransaction", [txid, 1]);
    const deposit = parseTransaction(fromHex(hex));
    await this.mine(1);
    const vout = deposit.outputs.findIndex(output => equal(output.script, p2wsh(deposited)));

    let funding: Transaction | undefined;
    let safe = false;
    node.onEvent = event => {
      if (event instanceof ldk.Event_FundingGenerationReady) {
        funding = {
          version: 2,
          inputs: [{ txid: txidOf(deposit), vout, sequence: 0xfffffffd }],
          outputs: [
            { valueSat: CHANNEL_SAT, script: event.output_script },
            { valueSat: 49_000, script: p2wsh(deposited) },
          ],
          locktime: 0,
        };
        node.manager.unsafe_manual_funding_transaction_generated(
          event.temporary_channel_id,
          event.counterparty_node_id,
          ldk.OutPoint.constructor_new(txidOf(funding), 0),
        );
      }
      if (event instanceof ldk.Event_FundingTxBroadcastSafe) safe = true;
    };
    const userChannelId = userChannelIdOf(channel.keysId);
    const created = node.manager.create_channel(
      this.bridge.id,
      BigInt(CHANNEL_SAT),
      0n,
      userChannelId,
      null,
      null,
    );
    if (!created.is_ok()) throw new Error("no channel");
    node.pump();
    await until("LDK calls it safe to fund", () => safe, ms);
    signer.askFunding(channel.keysId, {
      transaction: strippedBytes(funding!),
      inputs: [{ index: 0, amountSat: depositSat, witnessScript: deposited }],
    });
    await until("the funding transaction is signed", () => this.book.fundingSignatures);
    const [signature] = this.book.fundingSignatures!;
    const signed: Transaction = {
      ...funding!,
      inputs: [{ ...funding!.inputs[0]!, witness: [witnessSignature(signature!), deposited] }],
    };
    await node.broadcastTransaction(transactionBytes(signed));
    await this.mine(6);
    await until("the device's channel is usable", () => this.usable());
    node.onEvent = () => {};
    return signed;
  }

  usable(): boolean {
    return this.node.isUsable(this.bridge.id) && this.bridge.isUsable(this.node.id);
  }

  // ── payments ──────────────────────────────────────────────────────────────────────────────────────────

  private hops(from: TestNode, to: TestNode, amountMsat: number): Hop[] {
    const feeMsat = 1000 + Math.floor(amountMsat / 100);
    return [
      { to: this.bridge.id, channel: from.scidWith(this.bridge.id), feeMsat, cltvDelta: 80 },
      { to: to.id, channel: this.bridge.scidWith(to.id), feeMsat: amountMsat, cltvDelta: 30 },
    ];
  }

  /** Starts a payment from the device over the bridge to the shop. Its hash. */
  startPayment(amountMsat: number): Uint8Array {
    const invoice = this.shop.invoice(amountMsat);
    this.node.pay(invoice, this.hops(this.node, this.shop, amountMsat));
    return invoice.hash;
  }

  /** The other way round. */
  startInboundPayment(amountMsat: number): Uint8Array {
    const invoice = this.node.invoice(amountMsat);
    this.shop.pay(invoice, this.hops(this.shop, this.node, amountMsat));
    return invoice.hash;
  }

  /** What is still on the way: questions to the device, and HTLCs by node. */
  private unfinished(): string[] {
    const questions = this.book.wants().filter(isQuestion);
    const htlcs = this.nodes.flatMap(node =>
      node.manager.list_channels().flatMap(each => {
        const incoming = each.get_pending_inbound_htlcs().length;
        const outgoing = each.get_pending_outbound_htlcs().length;
        return incoming + outgoing > 0 ? [`${node.name}: ${incoming} in, ${outgoing} out`] : [];
      }),
    );
    return [...questions.map(part => part.id), ...htlcs];
  }

  /** Until nothing is asked and nothing is in flight any more. */
  async rest(): Promise<void> {
    let quiet = 0;
    const isAtRest = () => {
      quiet = this.unfinished().length > 0 ? 0 : quiet + 1;
      return quiet > 5;
    };
    await until("everything has come to rest", isAtRest).catch(error => {
      throw new Error(`${error.message}; unfinished: ${this.unfinished().join(", ")}`);
    });
  }

  async pay(amountMsat: number): Promise<void> {
    const paymentHash = this.startPayment(amountMsat);
    await until("the payment is made", () => this.node.has("sent", paymentHash));
    await this.rest();
  }

  async stop(): Promise<void> {
    for (const node of this.nodes) node.kill();
    await this.chain.stop();
  }
}
