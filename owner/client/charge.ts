/**
 * Charging on the owner's computer: presignatures are made with the gateway, batch by batch, and written into the
 * device's flash. It may be stopped between any two batches, and killed anywhere: what is not in the flash is
 * forgotten on both sides when charging begins the next time.
 */
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { readState } from "../../device/channel/state.ts";
import { type ChargingBank, openVaultToCharge } from "../../device/vault/charging.ts";
import { recordsPerPage } from "../../device/vault/records.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import type { KeyShare } from "../../src/threshold/keyshare.ts";
import { makeNonces } from "../../src/threshold/nonces.ts";
import { MAX_BATCH } from "../../src/threshold/presigning/batch.ts";
import type { Batch, RecordKind } from "../../src/threshold/records.ts";
import type { Kind } from "../../src/threshold/transfer/setup.ts";
import { ensureVaultHere } from "../board/image.ts";
import { type DeviceInfo, readDeviceInfo, readShare } from "../folder/device-files.ts";
import { deviceFolder } from "../folder/folder.ts";
import { Ceremonies, startingState } from "./ceremonies.ts";
import { connectToDevice } from "./device-link.ts";
import { tellHeight } from "./limits.ts";
import { type Counts, countsOf, PER_PAYMENT, paymentsFor, RESERVE, recordsFor } from "./records-needed.ts";

/** How far charging is, told before each batch. */
export interface ChargeProgress {
  readonly payments: number;
  readonly target: number;
  /** Presignatures made so far, and to be made in all. */
  readonly made: number;
  readonly total: number;
  readonly bytes: number;
}

/** What is to be charged, and for how much. */
export interface ChargeOptions {
  /** The owner's folder. */
  readonly folder: string;
  readonly deviceId: string;
  /** How many payments the device can make afterwards. */
  readonly payments: number;
  /** The chain's height now, from a source of the owner's: the device reckons from it how far ahead money may be locked. */
  readonly height?: number;
  /** The owner's word to go on after a failed check. */
  readonly confirmReset?: boolean;
  readonly signal?: AbortSignal;
  onProgress?(progress: ChargeProgress): void;
  readonly connectTimeoutMs?: number;
  readonly answerTimeoutMs?: number;
}

/** What charging has come to. */
export interface ChargeResult {
  /** Payments that the device can make now. */
  readonly payments: number;
  readonly records: Counts;
  /** Records added. */
  readonly added: Counts;
  /** Stopped by the signal before the target was reached. */
  readonly interrupted: boolean;
  readonly bytes: number;
}

/**
 * Charges a device of the board `node`. Throws `device-in-use`, `records-full`, `gateway-unreachable`,
 * `threshold-awaiting-owner` (after a failed check: confirm), `threshold-locked`, and what a ceremony throws.
 */
export async function chargeDevice(options: ChargeOptions): Promise<ChargeResult> {
  const folder = deviceFolder(options.folder, options.deviceId);
  const info = readDeviceInfo(folder);
  const flash = openFlash(folder);
  try {
    if (options.height !== undefined) tellHeight(flash, options.height);
    const { records, journal } = openVaultToCharge(flash);
    const { cursors } = readState(journal).books;
    const charger = new Charger(options, folder, info, records, cursors, flash.pageBytes);
    return await charger.run();
  } finally {
    flash.close();
  }
}

/** What is in a device's flash, without a gateway. Throws `device-in-use`. */
export function recordsInFlash(folder: string): Counts {
  const flash = openFlash(folder);
  try {
    const { records, journal } = openVaultToCharge(flash);
    const { cursors } = readState(journal).books;
    return countsOf(kind => records.left(kind, cursors[kind]));
  } finally {
    flash.close();
  }
}

function openFlash(folder: string) {
  ensureVaultHere(folder);
  try {
    return openFileFlash(folder);
  } catch (error) {
    if (codeOf(error) !== "device-in-use") throw error;
    throw lngateError("device-in-use", "the device is running: stop it first, its flash is to be written");
  }
}

/** One run of charging: what the flash lacks, batch by batch. */
class Charger {
  private readonly options: ChargeOptions;
  private readonly folder: string;
  private readonly info: DeviceInfo;
  private readonly records: ChargingBank;
  private readonly cursors: Counts;
  private readonly pageBytes: number;
  private readonly share: KeyShare;

  constructor(
    options: ChargeOptions,
    folder: string,
    info: DeviceInfo,
    records: ChargingBank,
    cursors: Counts,
    pageBytes: number,
  ) {
    this.options = options;
    this.folder = folder;
    this.info = info;
    this.records = records;
    this.cursors = cursors;
    this.pageBytes = pageBytes;
    this.share = readShare(folder);
  }

  async run(): Promise<ChargeResult> {
    const { options } = this;
    const confirmReset = options.confirmReset === true;
    const before = this.left();
    const missing = this.missing();
    this.ensureRoom(missing);
    const total = missing.A + missing.B;
    const state = startingState(this.folder, confirmReset);
    this.addNonces();
    let made = 0;
    // Also where nothing is missing: the gateway may not know yet that the last batch is in the flash.
    const connection = await connectToDevice(this.folder, this.info, options);
    try {
      const ceremonies = new Ceremonies(this.folder, this.share, state, connection);
      const nextIds = await ceremonies.agree({ A: this.end("A"), B: this.end("B") }, confirmReset);
      for (;;) {
        options.onProgress?.({
          payments: paymentsFor(this.left()),
          target: options.payments,
          made,
          total,
          bytes: connection.bytes,
        });
        const kind = this.scarcer();
        if (kind === undefined || options.signal?.aborted) break;
        const count = Math.min(this.batchSize(kind), this.missing()[kind]);
        const batch = await ceremonies.makeBatch(kind, count, nextIds[kind]);
        this.append(batch);
        await connection.ask({ type: "installed", kind, firstId: batch.firstId }, "done");
        nextIds[kind] = batch.firstId + batch.count;
        made += count;
      }
    } finally {
      connection.close();
    }
    const records = this.left();
    return {
      payments: paymentsFor(records),
      records,
      added: countsOf(kind => records[kind] - before[kind]),
      interrupted: Object.values(this.missing()).some(count => count > 0),
      bytes: connection.bytes,
    };
  }

  private left(): Counts {
    return countsOf(kind => this.records.left(kind, this.cursors[kind]));
  }

  /** Records to be made: presignatures come in fours. */
  private missing(): Counts {
    const left = this.left();
    const wanted = recordsFor(this.options.payments);
    return countsOf(kind => {
      const missing = Math.max(0, wanted[kind] - left[kind]);
      return kind === "H" ? missing : 4 * Math.ceil(missing / 4);
    });
  }

  /** The kind that limits the number of payments, so that charging that is stopped early was not for nothing. */
  private scarcer(): Kind | undefined {
    const missing = this.missing();
    if (missing.A === 0 && missing.B === 0) return undefined;
    const left = this.left();
    const payments = (kind: Kind) => (left[kind] - RESERVE[kind]) / PER_PAYMENT[kind];
    return missing.B === 0 || (missing.A > 0 && payments("A") <= payments("B")) ? "A" : "B";
  }

  /** A batch fills a page of the flash, as far as its size in fours allows. */
  private batchSize(kind: Kind): number {
    const perPage = recordsPerPage(kind, this.pageBytes);
    return Math.max(4, Math.min(MAX_BATCH, perPage - (perPage % 4)));
  }

  private ensureRoom(missing: Counts): void {
    const perPage = (kind: RecordKind) => recordsPerPage(kind, this.pageBytes);
    const pages =
      Math.ceil(missing.A / this.batchSize("A")) +
      Math.ceil(missing.B / this.batchSize("B")) +
      Math.ceil(missing.H / perPage("H"));
    const free = Math.floor(this.records.capacity("H") / perPage("H"));
    if (pages > free)
      throw lngateError(
        "records-full",
        `the flash has ${free} free pages, ${this.options.payments} payments need ${pages} more: charge for fewer`,
      );
  }

  /** Records below this id are in the flash, or were. */
  private end(kind: RecordKind): number {
    return Math.max(this.records.end(kind), this.cursors[kind]);
  }

  private append(batch: Batch): void {
    this.records.append(batch);
    batch.records.fill(0);
  }

  /** Made here in a moment, without the gateway. */
  private addNonces(): void {
    const missing = this.missing().H;
    if (missing === 0) return;
    this.append(makeNonces(this.share.epoch, this.end("H"), missing, nodeLinkCrypto.random));
  }
}
