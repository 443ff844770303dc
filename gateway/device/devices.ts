/**
 * All devices of the gateway: their nodes are started one after the other, and what is wrong with one device keeps that device
 * alone from being served.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Database } from "lmdb";
import type { Network } from "../../src/bitcoin/network.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { afterAbort } from "../../src/threshold/abort.ts";
import { PresignatureJournal, type RecordStore } from "../../src/threshold/records.ts";
import type { Deposits } from "../channel/deposits.ts";
import { createOpenings } from "../channel/openings.ts";
import { breaksLdk, type Faults } from "../faults.ts";
import type { FeeReceiver } from "../fees/service-fees.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import type { LightningRuntime } from "../lightning/runtime.ts";
import type { NodeStore } from "../lightning/store.ts";
import { openNodeStore } from "../lightning/store.ts";
import type { Log } from "../log.ts";
import { untilWaiting } from "../start-waiting.ts";
import { type DiskRecordStore, openRecordStore } from "../store/presignature-journal.ts";
import type { Pairing, Registry } from "../store/registry.ts";
import { DeviceGateway } from "./device.ts";

/** What the devices need of the gateway. */
export interface DevicesOptions {
  readonly dataDir: string;
  readonly network: Network;
  /** Of the configuration. */
  readonly bridge: Peer;
  /** The smallest channel that is opened, sat. */
  readonly leastChannelSat: number;
  readonly registry: Registry;
  /** A table of the gateway's store. */
  table(name: string): Database<Uint8Array, string>;
  /** Where devices pay their service fees. */
  readonly feeReceiver: FeeReceiver;
  /** Devices at which LDK broke before, and how: they are not started. */
  readonly leftOut: ReadonlyMap<string, string>;
  readonly faults: Faults;
  readonly log: Log;
  /** A device, as the log names it. */
  titleOf(deviceId: string): string;
  /** To a device. Throws `link-…`. */
  send(deviceId: string, message: Uint8Array): void;
  /** A device is served from now on. */
  served(deviceId: string): void;
  /** The gateway ends: what does not start any more is not news. */
  isClosing(): boolean;
}

/** See the head of this file. */
export class Devices {
  private readonly options: DevicesOptions;
  private readonly running = new Map<string, DeviceGateway>();
  /** Devices that cannot be served, and why. */
  private readonly notServed = new Map<string, string>();
  private readonly records = new Map<string, DiskRecordStore>();
  private readonly openings = createOpenings();
  private readonly starting = new Set<string>();
  /** Devices that were paired just now and whose nodes are being started. */
  private readonly arrivals = new Set<Promise<void>>();
  /** What all nodes share, once it is there. */
  private shared: { readonly runtime: LightningRuntime; readonly deposits: Deposits } | undefined;

  constructor(options: DevicesOptions) {
    this.options = options;
  }

  /** How many are served. */
  get count(): number {
    return this.running.size;
  }

  /** A device, if it is served. */
  get(deviceId: string): DeviceGateway | undefined {
    return this.running.get(deviceId);
  }

  /** A device that is served. Throws `device-not-served`, `device-not-ready`. */
  needed(deviceId: string): DeviceGateway {
    this.ensureServable(deviceId);
    const device = this.running.get(deviceId);
    if (!device)
      throw lngateError(
        "device-not-ready",
        "the gateway is still starting this device's node; if that lasts, its log says what it waits for",
      );
    return device;
  }

  /** The records of a paired device. Throws `device-not-served`, `device-unknown`, `record-store-…`. */
  recordsOf(deviceId: string): RecordStore {
    this.ensureServable(deviceId);
    let open = this.records.get(deviceId);
    if (!open) {
      const { pairing } = this.options.registry.device(deviceId);
      if (!pairing) throw lngateError("device-unknown", `the device ${deviceId} is not paired`);
      const { sid, epoch } = pairing.share;
      open = openRecordStore(this.journalOf(deviceId), sid, epoch);
      this.records.set(deviceId, open);
    }
    return open;
  }

  /** Starts the nodes of all paired devices; resolves when those are served that need not wait. */
  async start(runtime: LightningRuntime, deposits: Deposits): Promise<void> {
    this.shared = { runtime, deposits };
    const made: (DeviceGateway | undefined)[] = [];
    for (const { id, state } of this.options.registry.devices())
      if (state !== "invited") made.push(await this.make(id));
    // Blocks come once: whatever may be in those that were mined meanwhile is watched by now.
    deposits.follow();
    for (const device of made) await this.run(device);
  }

  /** A device has just been paired. */
  paired(deviceId: string): void {
    const { log, isClosing } = this.options;
    const arrival = this.make(deviceId)
      .then(device => this.run(device))
      .catch(error => {
        if (!isClosing()) log.error((error as Error).message, { device: deviceId });
      })
      .finally(() => this.arrivals.delete(arrival));
    this.arrivals.add(arrival);
  }

  /** A device's key must not be used any more. */
  locked(deviceId: string): void {
    const { log } = this.options;
    log.error("the device's key must not be used any more: closing its channel", { device: deviceId });
    try {
      this.running.get(deviceId)?.requestClose();
    } catch (error) {
      // There is nothing to close.
      if (codeOf(error) !== "close-state") throw error;
    }
  }

  /** There is a new block. */
  newBlock(): void {
    for (const device of this.running.values())
      this.options.faults.guarded(device.id, () => device.newBlock());
  }

  /** Ends the nodes that run; resolves when they have stored what they were storing. */
  async stop(): Promise<void> {
    await Promise.all([...this.running.values()].map(device => device.stop()));
  }

  /** Resolves when no device is being started any more. */
  async arrived(): Promise<void> {
    await Promise.all(this.arrivals);
  }

  /** Last of all: nothing is signed any more. */
  closeRecords(): void {
    for (const open of this.records.values()) open.close();
  }

  // ── making and starting ───────────────────────────────────────────────────────────────────────────────

  /**
   * Undefined if it is there already, or not to be there yet, or can't be served. Its money is watched from now on, also
   * in the last case: blocks come once.
   */
  private async make(deviceId: string): Promise<DeviceGateway | undefined> {
    const { registry, table } = this.options;
    // Who is paired before the chain is there is started with all others.
    if (this.starting.has(deviceId) || !this.shared) return undefined;
    this.starting.add(deviceId);
    try {
      const { pairing, name } = registry.device(deviceId);
      if (!pairing) return undefined;
      const nodeStore = openNodeStore(table("lightning"), deviceId);
      const { records, trouble } = this.usableRecords(deviceId, pairing, nodeStore.get("seed") !== undefined);
      const device = await this.newDevice(deviceId, name, pairing, nodeStore, records, this.shared);
      if (!trouble) return device;
      this.leaveOut(deviceId, trouble);
    } catch (error) {
      this.leaveOut(deviceId, error);
    }
    return undefined;
  }

  /** The records of a device, or what stands for them in one that can't be served, and why it can't. */
  private usableRecords(
    deviceId: string,
    { share }: Pairing,
    wasHere: boolean,
  ): { readonly records: RecordStore; readonly trouble?: unknown } {
    try {
      const brokeLdk = this.options.leftOut.get(deviceId);
      if (brokeLdk !== undefined) throw breaksLdk(brokeLdk);
      // A journal that is gone would begin again: records would be missing, and nobody told why.
      const journal = this.journalOf(deviceId);
      if (wasHere && !existsSync(journal))
        throw lngateError("record-store-damaged", `the journal of its records is gone (${journal})`);
      return { records: this.recordsOf(deviceId) };
    } catch (trouble) {
      return { records: new PresignatureJournal(share.sid, share.epoch), trouble };
    }
  }

  private async newDevice(
    deviceId: string,
    name: string,
    { keys, serviceFee }: Pairing,
    nodeStore: NodeStore,
    records: RecordStore,
    { runtime, deposits }: NonNullable<Devices["shared"]>,
  ): Promise<DeviceGateway> {
    const { registry, table, feeReceiver, faults, log, send } = this.options;
    let seed = nodeStore.get("seed");
    if (!seed) {
      seed = new Uint8Array(randomBytes(32));
      await nodeStore.write(new Map([["seed", seed]]));
    }
    return new DeviceGateway(
      {
        deviceId,
        network: this.options.network,
        keys,
        records,
        deposits,
        channels: table("channels"),
        payments: table("payments"),
        rollbackGuard: table("sightings"),
        limits: () => registry.limits(deviceId),
        runtime,
        store: nodeStore,
        bridge: this.options.bridge,
        leastChannelSat: this.options.leastChannelSat,
        openings: this.openings,
        ...(serviceFee ? { serviceFee, feeReceiver } : {}),
        log: log.part(name),
        wrongAnswer: error => this.wrongAnswer(deviceId, name, error),
        onFatal: error => faults.fatal(deviceId, error),
        send: message => {
          try {
            send(deviceId, message);
            return true;
          } catch (error) {
            if (codeOf(error) === undefined) throw error;
            return false;
          }
        },
      },
      seed,
    );
  }

  /** Resolves when the device is served, or when it is clear that this will take its time: then the others go first. */
  private async run(device: DeviceGateway | undefined): Promise<void> {
    if (!device) return;
    const { log, faults, titleOf, served, isClosing } = this.options;
    await untilWaiting(
      log,
      titleOf(device.id),
      async onWaiting => {
        await device.start(onWaiting);
        // Who closes the gateway has not seen this one.
        if (isClosing()) return device.stop();
        this.running.set(device.id, device);
        served(device.id);
      },
      async error => {
        await device.stop();
        if (codeOf(error) === undefined) faults.fatal(device.id, error);
        // A gateway that ends has taken away what this one was waiting for.
        else if (!isClosing()) this.leaveOut(device.id, error);
      },
    );
  }

  // ── what is wrong with one of them ────────────────────────────────────────────────────────────────────

  private leaveOut(deviceId: string, error: unknown): void {
    const { log, titleOf, dataDir } = this.options;
    const why = (error as Error).message;
    this.notServed.set(deviceId, why);
    log.error(
      `${titleOf(deviceId)} is not served, the others are: ${why}. What it has is in ${dataDir}; its owner can close the channel alone, with \`lngate device exit\` (docs/recovery.md)`,
      { code: codeOf(error) },
    );
  }

  private ensureServable(deviceId: string): void {
    const why = this.notServed.get(deviceId);
    if (why) throw lngateError("device-not-served", `the gateway can't serve this device: ${why}`);
  }

  /** An online message of the device's did not become a signature: what that means for its key. */
  private wrongAnswer(deviceId: string, name: string, error: Error): void {
    const { registry, log } = this.options;
    const before = registry.abortStatus(deviceId);
    const { status, consequence, alarm } = afterAbort(before, error);
    if (consequence === "burn-record" || consequence === "lock") registry.putAbortStatus(deviceId, status);
    if (alarm)
      log.error(
        "this device's halves of signatures are wrong again and again: it is faulty, or not what it was",
        { code: codeOf(error), device: name, spoilt: status.spoilt },
      );
    if (status.locked && !before.locked) this.locked(deviceId);
  }

  private journalOf(deviceId: string): string {
    return join(this.options.dataDir, "records", deviceId);
  }
}
