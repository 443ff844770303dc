/** The plain LDK node (scripts/peer/main.ts) as a process of its own. */
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import type { PeerChannel } from "../peer/api.ts";
import { PeerProcess } from "../peer/process.ts";
import type { ForwardingPolicy, HeldInvoice, NodeChannel, NodeOptions, RealNode } from "./node.ts";

/** As RealNode says. */
export class LdkNode implements RealNode {
  private readonly options: NodeOptions;
  private peer: PeerProcess;

  private constructor(options: NodeOptions, peer: PeerProcess) {
    this.options = options;
    this.peer = peer;
  }

  static async start(options: NodeOptions): Promise<LdkNode> {
    return new LdkNode(options, await startPeer(options));
  }

  async restart(): Promise<void> {
    this.peer = await startPeer(this.options);
  }

  get name(): string {
    return this.options.name;
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
  async fund(): Promise<void> {}

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

function startPeer({ name, dataDir, rpc, args = [] }: NodeOptions): Promise<PeerProcess> {
  return PeerProcess.start({
    name,
    dataDir,
    rpc,
    program: "dist/peer.mjs",
    args: ["--log", "error", ...args],
  });
}
