/**
 * Charging on the owner's computer: presignatures are made with the gateway, batch by batch, and written into the
 * device's flash. It may be stopped between any two batches, and killed anywhere: what is not in the flash is
 * forgotten on both sides when charging begins the next time.
 */
import { join } from "node:path";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { readState } from "../../device/channel/state.ts";
import { type ChargingBank, openVaultToCharge } from "../../device/vault/charging.ts";
import { recordsPerPage } from "../../device/vault/records.ts";
import { concat } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { lockPath } from "../../src/node/lock.ts";
import { afterAbort, needGoodStanding, ownerConfirms } from "../../src/threshold/abort.ts";
import type { KeyShare } from "../../src/threshold/keyshare.ts";
import { macRunDevice } from "../../src/threshold/mac.ts";
import { makeNonces } from "../../src/threshold/nonces.ts";
import { MAX_BATCH, presignP1WithMacs, presignP2 } from "../../src/threshold/presign.ts";
import type { Batch, RecordKind } from "../../src/threshold/records.ts";
import { type Kind, setupP1, setupP2 } from "../../src/threshold/setup.ts";
import { needVaultHere } from "../board/image.ts";
import {
  type ChargingState,
  type DeviceInfo,
  readChargingState,
  readDeviceInfo,
  readShare,
  writeChargingState,
} from "../folder/device-files.ts";
import { deviceFolder } from "../folder/folder.ts";
import { connectOwner, type OwnerConnection, wasRefused } from "./connection.ts";
import { tellHeight } from "./limits.ts";

export type Counts = Readonly<Record<RecordKind, number>>;

/**
 * Records that one payment uses. Each payment changes both commitments twice (the HTLC comes, the HTLC goes): two
 * signatures of the bridge's commitments (A), two exits of our own and the anchor of the one that rests (B). H:
 * the device's own signature for the HTLC, and one more for the case that a retry replaces it.
 */
export const PER_PAYMENT: Counts = { A: 2, B: 3, H: 2 };

/**
 * Kept besides: A: first commitment, up to eight deposits, four rounds of closing, and changes of the feerate.
 * B: first exit with its anchor, the same again for nine changes of the feerate. H: HTLCs in flight at a close.
 */
export const RESERVE: Counts = { A: 20, B: 20, H: 4 };

/** Records that must be there for so many payments. */
export function recordsFor(payments: number): Counts {
  const of = (kind: RecordKind) => payments * PER_PAYMENT[kind] + RESERVE[kind];
  return { A: of("A"), B: of("B"), H: of("H") };
}

/** Payments that so many records are enough for. */
export function paymentsFor(records: Counts): number {
  const of = (kind: RecordKind) => Math.floor((records[kind] - RESERVE[kind]) / PER_PAYMENT[kind]);
  return Math.max(0, Math.min(of("A"), of("B"), of("H")));
}

/** Ids that a gateway may have given to batches of which nothing is known here. */
const MOST_LOST_IDS = 65_536;

export interface ChargeProgress {
  readonly payments: number;
  readonly target: number;
  /** Presignatures made so far, and to be made in all. */
  readonly made: number;
  readonly total: number;
  readonly bytes: number;
}

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
  needVaultHere(folder);
  try {
    return openFileFlash(folder);
  } catch (error) {
    if (codeOf(error) !== "device-in-use") throw error;
    throw lngateError("device-in-use", "the device is running: stop it first, its flash is to be written");
  }
}

/** One run of charging. */
class Charger {
  private readonly options: ChargeOptions;
  private readonly folder: string;
  private readonly info: DeviceInfo;
  private readonly records: ChargingBank;
  private readonly cursors: Counts;
  private readonly pageBytes: number;
  private readonly share: KeyShare;
  private state: ChargingState;
  private made = 0;
  /** Kinds whose transfers the two sides do not both hold. */
  private needSetup: readonly string[] = [];
  /** The two sides do not both hold the same run of MACs. */
  private needRun = true;

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
    this.state = readChargingState(folder);
  }

  async run(): Promise<ChargeResult> {
    const before = this.left();
    const missing = this.missing();
    this.needRoom(missing);
    const total = missing.A + missing.B;
    if (this.options.confirmReset && this.state.standing.awaitingOwner) {
      this.save({ ...this.state, standing: ownerConfirms(this.state.standing) });
    }
    needGoodStanding(this.state.standing);
    this.addNonces();
    // Also where nothing is missing: the gateway may not know yet that the last batch is in the flash.
    const connection = await this.connect();
    try {
      const nextIds = await this.agree(connection);
      for (;;) {
        this.options.onProgress?.({
          payments: paymentsFor(this.left()),
          target: this.options.payments,
          made: this.made,
          total,
          bytes: connection.bytes,
        });
        const kind = this.scarcer();
        if (kind === undefined || this.options.signal?.aborted) break;
        await this.ensureSetup(connection, kind);
        if (kind === "B") await this.ensureRun(connection);
        const count = Math.min(this.batchSize(kind), this.missing()[kind]);
        nextIds[kind] = await this.makeBatch(connection, kind, count, nextIds[kind]);
        this.made += count;
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

  private connect(): Promise<OwnerConnection> {
    return connectToDevice(this.folder, this.info, this.options);
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

  private needRoom(missing: Counts): void {
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

  private save(state: ChargingState): void {
    writeChargingState(this.folder, state);
    this.state = state;
  }

  /** Tells the gateway what the flash holds. Returns the least ids that are free on both sides. */
  private async agree(connection: OwnerConnection): Promise<{ A: number; B: number }> {
    const { setups, run, ends } = this.state;
    const end = (kind: Kind) => Math.max(this.records.end(kind), this.cursors[kind]);
    const { nextId, needSetup, needRun } = await connection.ask(
      {
        type: "charge",
        epoch: this.share.epoch,
        installed: { A: end("A"), B: end("B") },
        ...(setups.A ? { setupA: setups.A.fingerprint } : {}),
        ...(setups.B ? { setupB: setups.B.fingerprint } : {}),
        ...(run ? { run: run.id } : {}),
        ...(this.options.confirmReset ? { confirmReset: true } : {}),
      },
      "charging",
    );
    this.needSetup = needSetup;
    this.needRun = needRun;
    const next = (kind: Kind) => {
      const own = Math.max(end(kind), ends[kind]);
      // What it has begun and lost; not more, or one word of its would use up all ids that there are.
      if (nextId[kind] > own + MOST_LOST_IDS)
        throw lngateError(
          "threshold-wrong-batch",
          `the gateway says that ${nextId[kind] - own} presignatures of kind ${kind} were begun that this computer knows nothing of`,
        );
      return Math.max(nextId[kind], own);
    };
    return { A: next("A"), B: next("B") };
  }

  private async ensureSetup(connection: OwnerConnection, kind: Kind): Promise<void> {
    if (this.needSetup.includes(kind) || !this.state.setups[kind]) await this.makeSetup(connection, kind);
  }

  /** Kind B's MACs need a run, which is made by kind A's transfers. */
  private async ensureRun(connection: OwnerConnection): Promise<void> {
    if (!this.needRun && this.state.run) return;
    await this.ensureSetup(connection, "A");
    await this.careful(connection, "A", async () => {
      const { setup } = this.state.setups.A!;
      const start = macRunDevice({ share: this.share, setup, random: nodeLinkCrypto.random });
      const { body: m0 } = await connection.ask({ type: "mac-run" }, "presigned");
      const { send: m1, run } = start.receive(m0);
      this.save({ ...this.state, run });
      await connection.ask({ type: "presign-step", step: "M1", body: m1 }, "done");
    });
    this.needRun = false;
  }

  /** These ids are used up from now on, whatever becomes of the batch: written down before the gateway hears of it. */
  private begin(kind: Kind, end: number): void {
    this.save({ ...this.state, ends: { ...this.state.ends, [kind]: end } });
  }

  private async makeSetup(connection: OwnerConnection, kind: Kind): Promise<void> {
    const { random } = nodeLinkCrypto;
    const keep = (held: NonNullable<ChargingState["setups"][Kind]>) =>
      this.save({ ...this.state, setups: { ...this.state.setups, [kind]: held } });
    await this.careful(connection, kind, async () => {
      if (kind === "A") {
        const { body: e1 } = await connection.ask({ type: "setup", kind }, "setup-step");
        const { send: e2, setup } = setupP2(this.share, "A", random).receive(e1);
        keep({ setup, fingerprint: sha256(concat([e1, e2])) });
        await connection.ask({ type: "setup-answer", kind, e2 }, "done");
      } else {
        const { send: e1, next } = setupP1(this.share, "B", random);
        const { body: e2 } = await connection.ask({ type: "setup", kind, e1 }, "setup-step");
        keep({ setup: next.receive(e2), fingerprint: sha256(concat([e1, e2])) });
      }
    });
    this.needSetup = this.needSetup.filter(other => other !== kind);
  }

  /** Makes a batch and puts it into the flash. Returns the id after it. */
  private async makeBatch(
    connection: OwnerConnection,
    kind: Kind,
    count: number,
    nextId: number,
  ): Promise<number> {
    const batch = await this.careful(connection, kind, () =>
      kind === "A" ? this.makeA(connection, count, nextId) : this.makeB(connection, count, nextId),
    );
    this.records.append(batch);
    batch.records.fill(0);
    await connection.ask({ type: "installed", kind, firstId: batch.firstId }, "done");
    return batch.firstId + batch.count;
  }

  /** The device answers: this computer is P2. */
  private async makeA(connection: OwnerConnection, count: number, nextId: number): Promise<Batch> {
    const presigner = { share: this.share, setup: this.state.setups.A!.setup, random: nodeLinkCrypto.random };
    const start = presignP2(presigner, nextId);
    const s0 = await connection.ask({ type: "presign", kind: "A", size: count }, "presigned");
    const s1 = start.receive(s0.body);
    if (s1.end > nextId + MOST_LOST_IDS) {
      throw lngateError("threshold-wrong-batch", "the gateway began a batch far above the id that it named");
    }
    this.begin("A", s1.end);
    const s2 = await connection.ask({ type: "presign-step", step: "S1", body: s1.send }, "presigned");
    const s3 = s1.next.receive(s2.body);
    const s4 = await connection.ask({ type: "presign-step", step: "S3", body: s3.send }, "presigned");
    const { batch } = s3.next.receive(s4.body);
    if (batch.count !== count)
      throw lngateError("threshold-wrong-batch", "the gateway made a batch of another size");
    return batch;
  }

  /** The device completes: this computer is P1. */
  private async makeB(connection: OwnerConnection, count: number, nextId: number): Promise<Batch> {
    const { setups, run } = this.state;
    const presigner = {
      share: this.share,
      setup: setups.B!.setup,
      run: run!,
      random: nodeLinkCrypto.random,
    };
    const s0 = presignP1WithMacs(presigner, nextId, count);
    this.begin("B", nextId + count);
    const s1 = await connection.ask(
      { type: "presign", kind: "B", size: count, firstId: nextId, s0: s0.send },
      "presigned",
    );
    const s2 = s0.next.receive(s1.body);
    const s3 = await connection.ask({ type: "presign-step", step: "S2", body: s2.send }, "presigned");
    const s4 = s2.next.receive(s3.body);
    // The gateway stores its half now; the flash has this one before the gateway may name a record of it.
    const s5 = await connection.ask({ type: "presign-step", step: "S4", body: s4.send }, "presigned");
    return s4.next.receive(s5.body).batch;
  }

  /**
   * Runs a step of a ceremony. What an error costs (the transfers, after a failed check) is written down before it
   * is passed on; the gateway is told what it has not noticed itself.
   */
  private async careful<T>(connection: OwnerConnection, kind: Kind, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { standing, consequence } = afterAbort(this.state.standing, error);
      if (consequence === "reset" || consequence === "lock") {
        const { run: _ended, ...kept } = this.state;
        const { [kind]: _destroyed, ...setups } = kept.setups;
        // What the gateway says that it has seen makes new transfers necessary, but it counts and locks on its side only.
        this.save({ ...kept, setups, standing: wasRefused(error) ? kept.standing : standing });
      }
      const code = codeOf(error);
      if (code?.startsWith("threshold-") && !wasRefused(error))
        await connection.ask({ type: "aborted", kind, code }, "done").catch(() => {});
      throw error;
    }
  }

  /** Made here in a moment, without the gateway. */
  private addNonces(): void {
    const missing = this.missing().H;
    if (missing === 0) return;
    const firstId = Math.max(this.records.end("H"), this.cursors.H);
    const batch = makeNonces(this.share.epoch, firstId, missing, nodeLinkCrypto.random);
    this.records.append(batch);
    batch.records.fill(0);
  }
}

/**
 * Opens the owner's link to a paired device's gateway. There is one link, so one program at a time uses it: throws
 * `owner-busy`, besides what `connectOwner` throws.
 */
export async function connectToDevice(
  folder: string,
  info: DeviceInfo,
  timeouts: { readonly connectTimeoutMs?: number; readonly answerTimeoutMs?: number } = {},
): Promise<OwnerConnection> {
  const unlock = lockPath(join(folder, "owner-link.lock"), () =>
    lngateError(
      "owner-busy",
      "another lngate is talking to the gateway about this device; wait until it is done",
    ),
  );
  try {
    const connection = await openLinkOf(info, timeouts);
    return {
      ask: connection.ask,
      get bytes() {
        return connection.bytes;
      },
      close() {
        connection.close();
        unlock();
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

function openLinkOf(
  info: DeviceInfo,
  timeouts: { readonly connectTimeoutMs?: number; readonly answerTimeoutMs?: number },
): Promise<OwnerConnection> {
  return connectOwner({
    brokerUrl: info.brokerUrl,
    identity: `${info.deviceId}.owner`,
    password: info.ownerPassword,
    linkKey: info.ownerLinkKey,
    refusedLogin: [
      "gateway-forgot-device",
      `the gateway at ${new URL(info.brokerUrl).host} does not know this device any more, or another gateway is there now`,
    ],
    ...(timeouts.connectTimeoutMs === undefined ? {} : { connectTimeoutMs: timeouts.connectTimeoutMs }),
    ...(timeouts.answerTimeoutMs === undefined ? {} : { answerTimeoutMs: timeouts.answerTimeoutMs }),
  });
}

function countsOf(count: (kind: RecordKind) => number): Counts {
  return { A: count("A"), B: count("B"), H: count("H") };
}
