/** The plain LDK node (scripts/peer/main.ts) as a process of its own. */
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import type { Regtest } from "../bitcoind.ts";
import type { PeerChannel } from "../peer/api.ts";
import { PeerProcess } from "../peer/process.ts";
import type { ForwardingPolicy, HeldInvoice, NodeChannel, NodeOptions, RealNode } from "./node.ts";

/** As RealNode says. */
export class LdkNode implements RealNode {
  readonly name: string;
  private readonly run: () => Promise<PeerProcess>;
  protected peer: PeerProcess;

  protected constructor(name: string, run: () => Promise<PeerProcess>, peer: PeerProcess) {
    this.name = name;
    this.run = run;
    this.peer = peer;
  }

  static async start({ name, dataDir, rpc, args = [] }: NodeOptions): Promise<LdkNode> {
    const run = () => PeerProcess.start({ name, dataDir, rpc, args: ["--log", "error", ...args] });
    return new LdkNode(name, run, await run());
  }

  async restart(): Promise<void> {
    this.peer = await this.run();
  }

  get nodeId(): string {
    return this.peer.nodeId;
  }
  get port(): number {
    return this.peer.port;
  }
  get address(): string {
    return this.peer.address;
  }

  /** bitcoind's wallet pays. */
  async fund(_bitcoind: Regtest, _sat: number): Promise<void> {}

  connect(peer: string): Promise<void> {
    return this.peer.connect(peer);
  }

  open(request: Parameters<RealNode["open"]>[0]): Promise<PeerChannel> {
    return this.peer.open(request);
  }

  async channels(): Promise<NodeChannel[]> {
    const channels = await this.peer.channels();
    return channels.flatMap(({ funding, peer, sat, usable }) =>
      funding === null ? [] : [{ funding, peer, sat, usable }],
    );
  }

  invoice(amountMsat: number, description: string): Promise<string> {
    return this.peer.invoice(amountMsat, description);
  }

  async heldInvoice(amountMsat: number): Promise<HeldInvoice> {
    const { peer } = this;
    const { invoice } = await peer.ask<{ invoice: string }>("invoice", {
      amountMsat,
      description: "held",
      hold: true,
    });
    const hash = toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
    return {
      invoice,
      isHeld: async () => (await peer.ask<{ held: boolean }>("held", { hash })).held,
      settle: () => peer.ask("settle", { hash }),
      cancel: () => peer.ask("fail", { hash }),
    };
  }

  async receivedMsat(hash: string): Promise<number> {
    return (await this.peer.claimed())[hash] ?? 0;
  }

  pay(invoice: string, maxFeeMsat?: number): Promise<{ ms: number }> {
    return this.peer.pay(invoice, maxFeeMsat);
  }

  setPolicy(policy: ForwardingPolicy): Promise<void> {
    return this.peer.ask("policy", policy);
  }

  async close(funding: string, force = false): Promise<void> {
    const channel = (await this.peer.channels()).find(each => each.funding === funding);
    if (!channel) throw new Error(`${this.name} (LDK) has no channel ${funding}`);
    await this.peer.close(channel.channelId, force);
  }

  stop(): Promise<void> {
    return this.peer.stop();
  }

  kill(): Promise<void> {
    return this.peer.kill();
  }
}
