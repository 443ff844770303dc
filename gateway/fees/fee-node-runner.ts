/**
 * The gateway's own node in a gateway that runs: started beside the devices, which can settle their fees as long as it is
 * there, and told when the operator wants the earnings.
 */
import type { Database } from "lmdb";
import { codeOf } from "../../src/errors.ts";
import { breaksLdk, type Faults, FEE_NODE } from "../faults.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import type { LightningRuntime } from "../lightning/runtime.ts";
import type { NodeStore } from "../lightning/store.ts";
import type { Log } from "../log.ts";
import { untilWaiting } from "../start-waiting.ts";
import { FeeNode } from "./fee-node.ts";
import { forgetPayout, noteFeeNode, payoutIsRequested } from "./payout-request.ts";
import type { FeeReceiver } from "./service-fees.ts";

/** What `FeeNodeRunner` depends on. */
export interface FeeNodeRunnerOptions {
  readonly store: Database<unknown, string>;
  readonly bridge: Peer;
  /** scriptPubKey of the operator's address; absent: what comes back to the chain waits for one. */
  readonly payoutScript?: Uint8Array;
  readonly faults: Faults;
  readonly log: Log;
  /** The gateway ends: what does not start any more is not news. */
  isClosing(): boolean;
}

/** See the head of this file. */
export class FeeNodeRunner {
  private readonly options: FeeNodeRunnerOptions;
  private node: FeeNode | undefined;

  constructor(options: FeeNodeRunnerOptions) {
    this.options = options;
  }

  /** Where devices settle their fees: nowhere, as long as the node is not there. */
  readonly feeReceiver: FeeReceiver = {
    canReceive: amountMsat => this.node?.canReceive(amountMsat) ?? false,
    routingMsat: amountMsat => this.node?.routingMsat(amountMsat) ?? 0,
    invoice: (...asked) => this.node!.invoice(...asked),
  };

  /** Resolves when it runs, or can't, or waits for the chain. `brokeLdk`: it is not to be started, and why. */
  start(runtime: LightningRuntime, nodeStore: NodeStore, brokeLdk: string | undefined): Promise<void> {
    const { store, bridge, payoutScript, faults, log } = this.options;
    return untilWaiting(
      log,
      "the gateway's own node",
      async onWaiting => {
        if (brokeLdk !== undefined) throw breaksLdk(brokeLdk);
        this.node = await FeeNode.start({
          runtime,
          store: nodeStore,
          bridge,
          ...(payoutScript ? { payoutScript } : {}),
          log: log.part("own node"),
          onFatal: error => faults.fatal(FEE_NODE, error),
          onWaiting,
        });
        noteFeeNode(store, this.node.nodeId);
      },
      async error => {
        if (codeOf(error) === undefined) faults.fatal(FEE_NODE, error);
        else if (!this.options.isClosing())
          log.error(
            `the gateway's own node can't run, devices are served without settling their fees: ${(error as Error).message}`,
            { code: codeOf(error) },
          );
      },
    );
  }

  /** There is a new block. */
  newBlock(): void {
    const { store, faults } = this.options;
    faults.guarded(FEE_NODE, () => {
      this.node?.newBlock();
      if (this.node && payoutIsRequested(store) && this.node.payOut()) forgetPayout(store);
    });
  }

  /** Resolves when it has stored what it was storing. */
  async stop(): Promise<void> {
    await this.node?.stop();
  }
}
