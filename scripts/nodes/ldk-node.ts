/** LDK Node, which has a newer LDK and a wallet of its own: a process that is led as the plain one is. */
import type { Regtest } from "../bitcoind.ts";
import { PeerProcess } from "../peer/process.ts";
import { reservePort } from "../ports.ts";
import { LdkNode } from "./ldk.ts";
import { ensureLdkNode } from "./ldk-node-program.ts";
import type { NodeOptions } from "./node.ts";

/** As RealNode says. */
export class CurrentLdkNode extends LdkNode {
  static override async start(options: NodeOptions): Promise<CurrentLdkNode> {
    const { name, dataDir, rpc, args = [], onLog } = options;
    const program = await ensureLdkNode();
    const port = await reservePort();
    const run = () =>
      PeerProcess.start({
        name,
        dataDir,
        rpc,
        command: [program],
        args: ["--listen", String(port), ...args],
        onEvent: event => {
          if (event.event === "log") onLog?.(`${name}: ${event.line}`);
        },
      });
    return new CurrentLdkNode(name, run, await run());
  }

  override async fund(bitcoind: Regtest, sat: number): Promise<void> {
    const { address } = await this.peer.ask<{ address: string }>("address");
    await bitcoind.fund(address, sat);
    await bitcoind.mine(1);
    for (;;) {
      await this.sync();
      const { spendableSat } = await this.peer.ask<{ spendableSat: number }>("balance");
      if (spendableSat >= sat) return;
    }
  }

  /** For blocks it asks every two seconds by itself, for feerates when there was one. */
  sync(): Promise<void> {
    return this.peer.ask("sync");
  }

  /** Of a channel's commitments, sat per 1000 weight units. */
  async feerateOf(funding: string): Promise<number> {
    const channels = await this.peer.ask<{ funding: string | null; feeratePerKw: number }[]>("channels");
    return channels.find(each => each.funding === funding)?.feeratePerKw ?? 0;
  }
}
