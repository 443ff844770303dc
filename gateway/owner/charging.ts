/**
 * The gateway's side of charging: batches of presignatures, made together with the owner's computer.
 *
 * A batch must never be usable on one side while the other holds something else under the same ids, wherever the
 * two are interrupted. The store sets ids aside before a batch is begun and gives them out once. Of a finished batch
 *
 * - kind A is activated before S4 tells the owner that it is whole: the device names the records it uses, so
 *   records that only the gateway has are never touched;
 * - kind B is kept as prepared until the owner says that it is in the device's flash: here the gateway names the
 *   records, and must not name one that the device has not. The owner checks their MACs (S5) before it says so.
 *
 * When charging begins, the owner says how far its flash goes, and what lies beyond is burnt here.
 */

import { equal } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { FromOwner, ToOwner } from "../../src/messages/owner.ts";
import { afterAbort, ensureNotAborted, ownerConfirms } from "../../src/threshold/abort.ts";
import { encodeKeyShare, type KeyShare } from "../../src/threshold/keyshare.ts";
import { MAX_BATCH } from "../../src/threshold/presigning/batch.ts";
import { MacRun } from "../../src/threshold/presigning/mac.ts";
import type { RecordStore } from "../../src/threshold/records.ts";
import type { Kind } from "../../src/threshold/transfer/setup.ts";
import type { Log } from "../log.ts";
import type { Registry } from "../store/registry.ts";
import type { Ceremonies, Ceremony } from "./ceremonies.ts";
import { storedSetup } from "./pairing.ts";

export interface ChargingOptions {
  readonly registry: Registry;
  readonly ceremonies: Ceremonies;
  readonly deviceId: string;
  /** The device's records: the store that its payments use. */
  readonly records: RecordStore;
  readonly log: Log;
  /** The key must not be used any more (third RESET, or a record asked for twice): its channel is to be closed. */
  locked(): void;
}

interface InFlight {
  readonly kind: Kind;
  readonly ceremony: Ceremony;
  readonly due: "S1" | "S2" | "S3" | "S4" | "E2" | "M1";
  /** First id of the batch. */
  readonly firstId: number;
  /** E1, while transfers of kind A are made. */
  readonly e1?: Uint8Array;
}

/** What charging does within one session of the owner's link. */
export class Charging {
  private readonly options: ChargingOptions;
  private flight: InFlight | undefined;

  constructor(options: ChargingOptions) {
    this.options = options;
  }

  /** True for the questions that `answer` answers. */
  static concerns({ type }: FromOwner): boolean {
    return [
      "charge",
      "setup",
      "setup-answer",
      "mac-run",
      "presign",
      "presign-step",
      "installed",
      "aborted",
    ].includes(type);
  }

  /** Throws a stable code; whatever it costs (the batch, the transfers, the key) is stored by then. */
  async answer(question: FromOwner): Promise<ToOwner> {
    const kind = this.flight?.kind ?? ("kind" in question ? kindOf(question.kind) : undefined);
    try {
      return await this.step(question);
    } catch (error) {
      this.abandon();
      this.drawConsequence(error, kind);
      throw error;
    }
  }

  /** The batch in flight is burnt: its ids were set aside, and nothing of it was activated. */
  abandon(): void {
    this.flight?.ceremony.forget();
    this.flight = undefined;
  }

  private async step(question: FromOwner): Promise<ToOwner> {
    switch (question.type) {
      case "charge":
        return this.begin(question);
      case "setup":
        return await this.setUp(question);
      case "setup-answer":
        return await this.finishSetup(question);
      case "mac-run":
        return await this.beginRun();
      case "presign":
        return await this.presign(question);
      case "presign-step":
        return await this.presignStep(question);
      case "installed":
        return this.installed(question);
      case "aborted":
        return this.aborted(question);
      default:
        throw lngateError("message-unexpected", `"${question.type}" is no part of charging`);
    }
  }

  private share(): KeyShare {
    const { pairing } = this.options.registry.device(this.options.deviceId);
    return pairing!.share;
  }

  private begin(question: Extract<FromOwner, { type: "charge" }>): ToOwner {
    const { registry, deviceId, records } = this.options;
    this.abandon();
    const status = registry.abortStatus(deviceId);
    if (question.confirmReset && status.awaitingOwner)
      registry.putAbortStatus(deviceId, ownerConfirms(status));
    ensureNotAborted(registry.abortStatus(deviceId));
    const share = this.share();
    if (question.epoch !== share.epoch)
      throw lngateError(
        "threshold-old-epoch",
        `the owner's computer is in epoch ${question.epoch} of this key, the gateway in ${share.epoch}`,
      );
    this.settlePrepared(question.installed.B);
    for (const kind of ["A", "B"] as const) {
      for (const { firstId, count } of records.unused(kind)) {
        const from = Math.max(firstId, question.installed[kind]);
        if (from < firstId + count) records.burn(kind, { firstId: from, count: firstId + count - from });
      }
    }
    const held = { A: question.setupA, B: question.setupB };
    const needSetup = (["A", "B"] as const).filter(kind => {
      const stored = registry.setup(deviceId, kind);
      const theirs = held[kind];
      return !stored || !theirs || !equal(stored.fingerprint, theirs) || stored.setup.epoch !== share.epoch;
    });
    const run = registry.run(deviceId);
    const holdsRun = run && question.run && equal(run.id, question.run) && run.epoch === share.epoch;
    return {
      type: "charging",
      nextId: { A: records.nextId("A"), B: records.nextId("B") },
      needSetup,
      needRun: !holdsRun,
    };
  }

  /** Activates the prepared batch if the flash has it, else forgets it. */
  private settlePrepared(installedEnd: number): void {
    const { registry, deviceId, records } = this.options;
    const batch = registry.preparedBatch(deviceId);
    if (!batch) return;
    if (batch.epoch === records.epoch && batch.firstId + batch.count <= installedEnd) {
      try {
        records.activate(batch);
      } catch (error) {
        // Stopped between the two stores last time: it is active already.
        if (codeOf(error) !== "record-ids-taken") throw error;
      }
    }
    batch.records.fill(0);
    registry.dropPreparedBatch(deviceId);
  }

  private async setUp(question: Extract<FromOwner, { type: "setup" }>): Promise<ToOwner> {
    const { registry, ceremonies, deviceId } = this.options;
    this.abandon();
    ensureNotAborted(registry.abortStatus(deviceId));
    const kind = kindOf(question.kind);
    const share = encodeKeyShare(this.share());
    const { ceremony, send } = await ceremonies.begin({ what: "setup", kind, share });
    if (kind === "A") {
      this.flight = { kind, ceremony, due: "E2", firstId: 0, e1: send! };
      return { type: "setup-step", body: send! };
    }
    if (!question.e1) throw lngateError("message-malformed", "setup of kind B needs E1");
    const { send: e2, setup } = await ceremony.receive(question.e1);
    registry.putSetup(deviceId, storedSetup(setup!, question.e1, e2!));
    return { type: "setup-step", body: e2! };
  }

  private async finishSetup(question: Extract<FromOwner, { type: "setup-answer" }>): Promise<ToOwner> {
    const { registry, deviceId } = this.options;
    const { ceremony, e1 } = this.take("E2");
    const { setup } = await ceremony.receive(question.e2);
    registry.putSetup(deviceId, storedSetup(setup!, e1!, question.e2));
    return { type: "done" };
  }

  private async beginRun(): Promise<ToOwner> {
    const { registry, ceremonies, deviceId } = this.options;
    this.abandon();
    ensureNotAborted(registry.abortStatus(deviceId));
    const stored = registry.setup(deviceId, "A");
    if (!stored) throw transfersMissing();
    const { ceremony, send } = await ceremonies.begin({
      what: "mac-run",
      share: encodeKeyShare(this.share()),
      setup: stored.setup.toBytes(),
    });
    this.flight = { kind: "A", ceremony, due: "M1", firstId: 0 };
    return { type: "presigned", step: "M0", body: send! };
  }

  private async presign(question: Extract<FromOwner, { type: "presign" }>): Promise<ToOwner> {
    const { registry, ceremonies, deviceId, records } = this.options;
    this.abandon();
    ensureNotAborted(registry.abortStatus(deviceId));
    const kind = kindOf(question.kind);
    const stored = registry.setup(deviceId, kind);
    const run = kind === "B" ? registry.run(deviceId) : undefined;
    if (!stored || (kind === "B" && !run)) throw transfersMissing();
    const { size, firstId: named, s0 } = question;
    if (size > MAX_BATCH || size % 4 !== 0 || size === 0)
      throw lngateError("threshold-wrong-batch", `a batch has 4 to ${MAX_BATCH} presignatures, in fours`);
    if (kind === "B" && (named === undefined || named < records.nextId("B") || !s0))
      throw lngateError(
        "threshold-wrong-batch",
        "a batch of kind B needs S0 and ids that were never given out",
      );
    // Set aside first: whatever happens to the batch, its ids do not come again.
    const next = records.nextId(kind);
    const wanted = named ?? next;
    records.reserve(kind, wanted + size - next);
    const { ceremony, send } = await ceremonies.begin({
      what: "presign",
      share: encodeKeyShare(this.share()),
      setup: stored.setup.toBytes(),
      firstId: wanted,
      count: size,
      ...(run ? { run: run.toBytes() } : {}),
    });
    if (kind === "A") {
      this.flight = { kind, ceremony, due: "S1", firstId: wanted };
      return { type: "presigned", step: "S0", body: send! };
    }
    const { send: s1 } = await ceremony.receive(s0!);
    this.flight = { kind, ceremony, due: "S2", firstId: wanted };
    return { type: "presigned", step: "S1", body: s1! };
  }

  private async presignStep(question: Extract<FromOwner, { type: "presign-step" }>): Promise<ToOwner> {
    const { registry, deviceId, records } = this.options;
    const flight = this.take(question.step);
    const { kind, firstId, ceremony } = flight;
    const { send, batch, run } = await ceremony.receive(question.body);
    if (run) {
      registry.putRun(deviceId, MacRun.fromBytes(run));
      return { type: "done" };
    }
    if (!batch) {
      this.flight = { ...flight, due: kind === "A" ? "S3" : "S4" };
      return { type: "presigned", step: kind === "A" ? "S2" : "S3", body: send! };
    }
    if (batch.firstId !== firstId || batch.kind !== kind)
      throw lngateError("threshold-wrong-batch", "S0 named other records than the batch was announced with");
    if (kind === "A") {
      records.activate(batch);
      return { type: "presigned", step: "S4", body: send! };
    }
    registry.putPreparedBatch(deviceId, batch);
    return { type: "presigned", step: "S5", body: send! };
  }

  private installed(question: Extract<FromOwner, { type: "installed" }>): ToOwner {
    const { registry, deviceId } = this.options;
    const batch = registry.preparedBatch(deviceId);
    if (question.kind === "B" && batch?.firstId === question.firstId)
      this.settlePrepared(batch.firstId + batch.count);
    return { type: "done" };
  }

  /** The owner's side has aborted; both draw the consequence. */
  private aborted(question: Extract<FromOwner, { type: "aborted" }>): ToOwner {
    this.abandon();
    this.drawConsequence(
      lngateError(question.code, "the owner's computer broke the ceremony off"),
      kindOf(question.kind),
    );
    return { type: "done" };
  }

  private take(due: string): InFlight {
    const { flight } = this;
    if (!flight || flight.due !== due)
      throw lngateError("threshold-batch-abandoned", `${due} was not due; begin a new batch`);
    this.flight = undefined;
    return flight;
  }

  private drawConsequence(error: unknown, kind: Kind | undefined): void {
    const { registry, deviceId, log, locked } = this.options;
    const before = registry.abortStatus(deviceId);
    const { status, consequence, alarm } = afterAbort(before, error);
    const fails = consequence === "reset" || consequence === "lock";
    if (fails) registry.putAbortStatus(deviceId, status, kind);
    if (alarm)
      log.error("a check failed while presigning: the other side is faulty, or hostile", {
        code: codeOf(error),
        consequence,
        resets: status.resets,
      });
    if (status.locked && !before.locked) locked();
  }
}

function transfersMissing(): Error {
  return lngateError("threshold-setup-destroyed", "new oblivious transfers are needed first");
}

function kindOf(text: string): Kind {
  if (text === "A" || text === "B") return text;
  throw lngateError("message-malformed", `"${text}" is not a kind of presignature`);
}
