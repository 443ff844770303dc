/**
 * The ceremonies of charging, as the owner's computer runs them with the gateway: transfers, runs of MACs, batches of
 * presignatures. Here is what both sides have to agree on from one charging to the next, and what a failed check costs.
 */
import { concat } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { afterAbort, ensureNotAborted, ownerConfirms } from "../../src/threshold/abort.ts";
import type { KeyShare } from "../../src/threshold/keyshare.ts";
import { macRunDevice } from "../../src/threshold/presigning/mac.ts";
import { presignP1WithMacs } from "../../src/threshold/presigning/p1.ts";
import { presignP2 } from "../../src/threshold/presigning/p2.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { type Kind, setupP1, setupP2 } from "../../src/threshold/transfer/setup.ts";
import { type ChargingState, readChargingState, writeChargingState } from "../folder/device-files.ts";
import { type OwnerConnection, wasRefused } from "./connection.ts";

/** Ids that a gateway may have given to batches of which nothing is known here. */
const MOST_LOST_IDS = 65_536;

/** Where batches of each kind begin or end. */
type Ids = Readonly<Record<Kind, number>>;

/**
 * The state that charging begins with. Throws `threshold-awaiting-owner` after a failed check, unless the owner confirms, and
 * `threshold-locked`.
 *
 * @param folder the device's
 */
export function startingState(folder: string, confirmReset: boolean): ChargingState {
  let state = readChargingState(folder);
  if (confirmReset && state.aborts.awaitingOwner) {
    state = { ...state, aborts: ownerConfirms(state.aborts) };
    writeChargingState(folder, state);
  }
  ensureNotAborted(state.aborts);
  return state;
}

/** The ceremonies of one run of charging. Its state is in the device's folder before the gateway hears of it. */
export class Ceremonies {
  private readonly folder: string;
  private readonly share: KeyShare;
  private readonly connection: OwnerConnection;
  private state: ChargingState;
  /** Kinds whose transfers the two sides do not both hold. */
  private needSetup: readonly string[] = [];
  /** The two sides do not both hold the same run of MACs. */
  private needRun = true;

  constructor(folder: string, share: KeyShare, state: ChargingState, connection: OwnerConnection) {
    this.folder = folder;
    this.share = share;
    this.state = state;
    this.connection = connection;
  }

  /**
   * Tells the gateway up to which ids the flash holds records. Returns the least ids that are free on both sides. Throws
   * `threshold-wrong-batch` where it names ones that are far above.
   */
  async agree(installed: Ids, confirmReset: boolean): Promise<Record<Kind, number>> {
    const { setups, run, ends } = this.state;
    const { nextId, needSetup, needRun } = await this.connection.ask(
      {
        type: "charge",
        epoch: this.share.epoch,
        installed,
        ...(setups.A ? { setupA: setups.A.fingerprint } : {}),
        ...(setups.B ? { setupB: setups.B.fingerprint } : {}),
        ...(run ? { run: run.id } : {}),
        ...(confirmReset ? { confirmReset: true } : {}),
      },
      "charging",
    );
    this.needSetup = needSetup;
    this.needRun = needRun;
    const next = (kind: Kind) => {
      const own = Math.max(installed[kind], ends[kind]);
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

  /** Makes a batch. Throws what a ceremony throws: what that costs is written down then. */
  async makeBatch(kind: Kind, count: number, nextId: number): Promise<Batch> {
    await this.ensureSetup(kind);
    if (kind === "B") await this.ensureRun();
    return this.careful(kind, () => (kind === "A" ? this.makeA(count, nextId) : this.makeB(count, nextId)));
  }

  private async ensureSetup(kind: Kind): Promise<void> {
    if (this.needSetup.includes(kind) || !this.state.setups[kind]) await this.makeSetup(kind);
  }

  /** Kind B's MACs need a run, which is made by kind A's transfers. */
  private async ensureRun(): Promise<void> {
    if (!this.needRun && this.state.run) return;
    await this.ensureSetup("A");
    await this.careful("A", async () => {
      const { setup } = this.state.setups.A!;
      const start = macRunDevice({ share: this.share, setup, random: nodeLinkCrypto.random });
      const { body: m0 } = await this.connection.ask({ type: "mac-run" }, "presigned");
      const { send: m1, run } = start.receive(m0);
      this.save({ ...this.state, run });
      await this.connection.ask({ type: "presign-step", step: "M1", body: m1 }, "done");
    });
    this.needRun = false;
  }

  /** These ids are used up from now on, whatever becomes of the batch: written down before the gateway hears of it. */
  private begin(kind: Kind, end: number): void {
    this.save({ ...this.state, ends: { ...this.state.ends, [kind]: end } });
  }

  private async makeSetup(kind: Kind): Promise<void> {
    const { random } = nodeLinkCrypto;
    const keep = (held: NonNullable<ChargingState["setups"][Kind]>) =>
      this.save({ ...this.state, setups: { ...this.state.setups, [kind]: held } });
    await this.careful(kind, async () => {
      if (kind === "A") {
        const { body: e1 } = await this.connection.ask({ type: "setup", kind }, "setup-step");
        const { send: e2, setup } = setupP2(this.share, "A", random).receive(e1);
        keep({ setup, fingerprint: sha256(concat([e1, e2])) });
        await this.connection.ask({ type: "setup-answer", kind, e2 }, "done");
      } else {
        const { send: e1, next } = setupP1(this.share, "B", random);
        const { body: e2 } = await this.connection.ask({ type: "setup", kind, e1 }, "setup-step");
        keep({ setup: next.receive(e2), fingerprint: sha256(concat([e1, e2])) });
      }
    });
    this.needSetup = this.needSetup.filter(other => other !== kind);
  }

  /** The device answers: this computer is P2. */
  private async makeA(count: number, nextId: number): Promise<Batch> {
    const presigner = { share: this.share, setup: this.state.setups.A!.setup, random: nodeLinkCrypto.random };
    const start = presignP2(presigner, nextId);
    const s0 = await this.connection.ask({ type: "presign", kind: "A", size: count }, "presigned");
    const s1 = start.receive(s0.body);
    if (s1.end > nextId + MOST_LOST_IDS) {
      throw lngateError("threshold-wrong-batch", "the gateway began a batch far above the id that it named");
    }
    this.begin("A", s1.end);
    const s2 = await this.connection.ask({ type: "presign-step", step: "S1", body: s1.send }, "presigned");
    const s3 = s1.next.receive(s2.body);
    const s4 = await this.connection.ask({ type: "presign-step", step: "S3", body: s3.send }, "presigned");
    const { batch } = s3.next.receive(s4.body);
    if (batch.count !== count)
      throw lngateError("threshold-wrong-batch", "the gateway made a batch of another size");
    return batch;
  }

  /** The device completes: this computer is P1. */
  private async makeB(count: number, nextId: number): Promise<Batch> {
    const { setups, run } = this.state;
    const presigner = {
      share: this.share,
      setup: setups.B!.setup,
      run: run!,
      random: nodeLinkCrypto.random,
    };
    const s0 = presignP1WithMacs(presigner, nextId, count);
    this.begin("B", nextId + count);
    const s1 = await this.connection.ask(
      { type: "presign", kind: "B", size: count, firstId: nextId, s0: s0.send },
      "presigned",
    );
    const s2 = s0.next.receive(s1.body);
    const s3 = await this.connection.ask({ type: "presign-step", step: "S2", body: s2.send }, "presigned");
    const s4 = s2.next.receive(s3.body);
    // The gateway stores its half now; the flash has this one before the gateway may name a record of it.
    const s5 = await this.connection.ask({ type: "presign-step", step: "S4", body: s4.send }, "presigned");
    return s4.next.receive(s5.body).batch;
  }

  /**
   * Runs a step of a ceremony. What an error costs (the transfers, after a failed check) is written down before it
   * is passed on; the gateway is told what it has not noticed itself.
   */
  private async careful<T>(kind: Kind, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { status, consequence } = afterAbort(this.state.aborts, error);
      if (consequence === "reset" || consequence === "lock") {
        const { run: _ended, ...kept } = this.state;
        const { [kind]: _destroyed, ...setups } = kept.setups;
        // What the gateway says that it has seen makes new transfers necessary, but it counts and locks on its side only.
        this.save({ ...kept, setups, aborts: wasRefused(error) ? kept.aborts : status });
      }
      const code = codeOf(error);
      if (code?.startsWith("threshold-") && !wasRefused(error))
        await this.connection.ask({ type: "aborted", kind, code }, "done").catch(() => {});
      throw error;
    }
  }

  private save(state: ChargingState): void {
    writeChargingState(this.folder, state);
    this.state = state;
  }
}
