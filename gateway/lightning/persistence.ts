/**
 * What LDK wants stored, in the order that keeps a channel alive through a power cut.
 *
 * The manager, what has changed of the monitors and the caller's own rows go to the store in one transaction, and only
 * then LDK hears that its monitor updates are complete and may go on. Why so:
 * - A manager that is older than one of its monitors would mean a forced close at the next start: LDK can't know what it
 *   has told the peer meanwhile. In one transaction neither is ever ahead of the other.
 * - The manager must not be serialized inside LDK's callback, where its locks are held: the callback notes what has changed,
 *   answers "in progress", and the next turn writes.
 * - LDK sends a peer what follows from an update (and asks its signer for it) only after `channel_monitor_updated`: so
 *   nothing is signed or revoked that a restart would not know of.
 * - Events are handled in the turn that takes them from LDK, before the manager that has forgotten them is stored; what they
 *   lead to is among the caller's rows.
 *
 * Of a monitor only the updates are stored, and the whole every now and then: it grows for ever.
 */
import * as ldk from "lightningdevkit";
import { toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { NodeKeys } from "./node-options.ts";
import type { LightningRuntime } from "./runtime.ts";
import type { NodeStore } from "./store.ts";
import type { Turns } from "./turns.ts";

/** Where a node is stored, and what with it. */
export interface PersistenceOptions {
  readonly store: NodeStore;
  /** Rows of the caller's that are to be stored in the same transaction; each is handed over once. */
  extraRows?(): ReadonlyMap<string, Uint8Array | null>;
}

const MANAGER = "manager";
const MONITOR = "monitor/";
const UPDATE = "update/";
/** Updates after which the whole monitor is stored again: about ten payments. */
const UPDATES_PER_MONITOR = 50;
const STORE_WITHIN_MS = 40;

/** The rows of one node's ChannelManager and ChannelMonitors, and what waits for them to be durable. */
export class Persistence {
  /** To be told of monitors by LDK, which holds it weakly: it lives as long as this does. */
  readonly persister: ldk.Persist;
  private readonly options: PersistenceOptions;
  private readonly turns: Turns;
  /** Rows to be stored with the next manager. */
  private readonly dirty = new Map<string, Uint8Array | null>();
  /** For each monitor, the rows of the updates that came after its own. */
  private readonly updates = new Map<string, string[]>();
  /** Updates that LDK waits for. */
  private pending: { readonly outpoint: ldk.OutPoint; readonly id: bigint }[] = [];
  private underWay: Promise<void> | undefined;
  /** When the manager must be stored, by performance.now(). */
  private storeBefore = Number.POSITIVE_INFINITY;
  private storeTimer: NodeJS.Timeout | undefined;
  /** What waits for the next manager to be durable. */
  private readonly afterStore: (() => void)[] = [];

  constructor(options: PersistenceOptions, turns: Turns) {
    this.options = options;
    this.turns = turns;
    this.persister = ldk.Persist.new_impl({
      persist_new_channel: (outpoint, monitor) => this.monitorChanged(outpoint, null, monitor),
      update_persisted_channel: (outpoint, update, monitor) =>
        // For "no update" the binding makes an object around a null pointer.
        this.monitorChanged(outpoint, Reflect.get(update, "ptr") === 0n ? null : update, monitor),
      archive_persisted_channel: outpoint => {
        const key = outpointText(outpoint);
        this.forgetUpdates(key);
        this.dirty.set(MONITOR + key, null);
        this.turns.wake();
      },
    });
  }

  // ── reading at the start ──────────────────────────────────────────────────────────────────────────────

  /** The serialized manager; undefined if this node has never been stored. */
  storedManager(): Uint8Array | undefined {
    return this.options.store.get(MANAGER);
  }

  /** All stored monitors with their later updates, still where they were in the chain. Throws `store-damaged`. */
  readMonitors(keys: NodeKeys, runtime: LightningRuntime): ldk.ChannelMonitor[] {
    return this.options.store.keys(MONITOR).map(key => this.readMonitor(key, keys, runtime));
  }

  private readMonitor(key: string, keys: NodeKeys, runtime: LightningRuntime): ldk.ChannelMonitor {
    const { store } = this.options;
    const damaged = () => lngateError("store-damaged", "a channel's monitor in the store can't be read");
    const read = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelMonitorZ_read(
      store.get(key)!,
      keys.entropySource,
      keys.signerProvider,
    );
    if (!(read instanceof ldk.Result_C2Tuple_ThirtyTwoBytesChannelMonitorZDecodeErrorZ_OK)) throw damaged();
    const monitor = read.res.get_b();
    const outpoint = key.slice(MONITOR.length);
    const updateKeys = store.keys(`${UPDATE}${outpoint}/`);
    for (const updateKey of updateKeys) {
      const update = ldk.ChannelMonitorUpdate.constructor_read(store.get(updateKey)!);
      if (!(update instanceof ldk.Result_ChannelMonitorUpdateDecodeErrorZ_OK)) throw damaged();
      const { broadcaster, feeEstimator, logger } = runtime;
      // An error here is one of the update itself, which LDK met before, and not of its order or reading.
      monitor.update_monitor(update.res, broadcaster, feeEstimator, logger);
    }
    this.updates.set(outpoint, updateKeys);
    return monitor;
  }

  // ── noting what LDK wants stored ──────────────────────────────────────────────────────────────────────

  private monitorChanged(
    outpoint: ldk.OutPoint,
    update: ldk.ChannelMonitorUpdate | null,
    monitor: ldk.ChannelMonitor,
  ): ldk.ChannelMonitorUpdateStatus {
    const key = outpointText(outpoint);
    const since = this.updates.get(key) ?? [];
    if (update && since.length < UPDATES_PER_MONITOR) {
      const row = `${UPDATE}${key}/${update.get_update_id().toString().padStart(20, "0")}`;
      this.dirty.set(row, update.write());
      this.updates.set(key, [...since, row]);
    } else {
      this.forgetUpdates(key);
      this.dirty.set(MONITOR + key, monitor.write());
    }
    this.pending.push({ outpoint, id: update?.get_update_id() ?? monitor.get_latest_update_id() });
    this.turns.wake();
    return ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_InProgress;
  }

  private forgetUpdates(key: string): void {
    for (const row of this.updates.get(key) ?? []) this.dirty.set(row, null);
    this.updates.delete(key);
  }

  // ── storing ───────────────────────────────────────────────────────────────────────────────────────────

  /** Stores within a moment, although no monitor has changed: also for rows of the caller's. */
  storeSoon(): void {
    if (this.storeTimer || this.turns.stopped) return;
    this.storeBefore = performance.now() + STORE_WITHIN_MS;
    this.storeTimer = setTimeout(() => this.turns.wake(), STORE_WITHIN_MS + 1);
  }

  /** Does this once all that LDK has said and done so far is durable. */
  whenStored(work: () => void): void {
    this.afterStore.push(work);
    this.turns.wake();
  }

  /** The write that is under way, and what follows at once from its end. */
  get writing(): Promise<void> | undefined {
    return this.underWay;
  }

  /**
   * Begins to store what is new; LDK hears of it when it is durable, and another turn is taken then. One write at a time.
   * What is new in the manager alone can wait for the next monitor, or a moment: nobody does, and a write at once would be
   * in the way of theirs.
   */
  storeWhatIsNew(manager: ldk.ChannelManager, monitor: ldk.ChainMonitor): void {
    if (this.underWay) return;
    if (manager.get_and_clear_needs_persistence()) this.storeSoon();
    const isDue = performance.now() >= this.storeBefore || this.afterStore.length > 0;
    if (this.dirty.size === 0 && !isDue) return;
    clearTimeout(this.storeTimer);
    this.storeTimer = undefined;
    this.storeBefore = Number.POSITIVE_INFINITY;
    const rows = new Map(this.dirty);
    for (const [key, value] of this.options.extraRows?.() ?? []) rows.set(key, value);
    rows.set(MANAGER, manager.write());
    const { pending, turns } = this;
    const afterStore = this.afterStore.splice(0);
    this.pending = [];
    this.dirty.clear();
    this.underWay = this.options.store.write(rows).then(
      () => {
        this.underWay = undefined;
        turns.guarded(() => {
          for (const { outpoint, id } of pending) monitor.channel_monitor_updated(outpoint, id);
          for (const work of afterStore) work();
          turns.take();
        });
      },
      error =>
        turns.fail(
          lngateError("store-write-failed", `the store can't be written: ${(error as Error).message}`),
        ),
    );
  }

  /** Begins no more; resolves when a write that was under way is through. */
  async stop(): Promise<void> {
    clearTimeout(this.storeTimer);
    await this.underWay;
  }
}

function outpointText(outpoint: ldk.OutPoint): string {
  return `${toHex(outpoint.get_txid())}:${outpoint.get_index()}`;
}
