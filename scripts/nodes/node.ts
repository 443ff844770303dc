/** A Lightning node of somebody's making beside ours, as bridge or as destination: what tests and bench ask of each. */
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import type { Regtest } from "../bitcoind.ts";

/** How a node is started. */
export interface NodeOptions {
  readonly name: string;
  readonly dataDir: string;
  readonly rpc: RpcOptions;
  /** Further options of its program. */
  readonly args?: readonly string[];
  readonly onLog?: (line: string) => void;
}

/** A channel as its node sees it. */
export interface NodeChannel {
  /** The funding output, `txid:vout`. */
  readonly funding: string;
  /** Node id of the other side, hex. */
  readonly peer: string;
  readonly sat: number;
  readonly usable: boolean;
}

/** An invoice whose payment is taken or sent back when the test says so. */
export interface HeldInvoice {
  readonly invoice: string;
  /** Whether its payment is here, and waits. */
  isHeld(): Promise<boolean>;
  settle(): Promise<void>;
  cancel(): Promise<void>;
}

/** What forwarding costs, and by how many blocks an HTLC has to expire earlier when it goes out. */
export interface ForwardingPolicy {
  readonly baseMsat: number;
  readonly ppm: number;
  readonly cltvDelta: number;
}

/** A running node; each of its methods rejects with what the node says against it. */
export interface RealNode {
  readonly name: string;
  readonly nodeId: string;
  /** Where it listens, on 127.0.0.1; the same after a restart. */
  readonly port: number;
  /** `id@host:port` */
  readonly address: string;
  /** Coins for channels of its own, confirmed. */
  fund(bitcoind: Regtest, sat: number): Promise<void>;
  connect(peer: string): Promise<void>;
  /** Opens a channel; resolves when it can be used (somebody has to mine meanwhile). */
  open(request: { peer: string; sat: number; pushSat?: number; announced?: boolean }): Promise<unknown>;
  channels(): Promise<NodeChannel[]>;
  invoice(amountMsat: number, description: string): Promise<string>;
  heldInvoice(amountMsat: number): Promise<HeldInvoice>;
  /** What has been paid to the invoice of this hash since the node was started, and is its own for good; 0 if nothing. */
  receivedMsat(hash: string): Promise<number>;
  pay(invoice: string, maxFeeMsat?: number): Promise<{ readonly ms: number }>;
  /** For every channel that it has. */
  setPolicy(policy: ForwardingPolicy): Promise<void>;
  /** Begins to close a channel, together with the other side or alone. */
  close(funding: string, force?: boolean): Promise<void>;
  /** Has it look at bitcoind now, if it remembers for long what that believes of feerates. */
  sync?(): Promise<void>;
  stop(): Promise<void>;
  /** As a power cut would. */
  kill(): Promise<void>;
  /** Starts what was stopped or killed, from its folder, at the port it had. */
  restart(): Promise<void>;
}
