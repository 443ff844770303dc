/**
 * The device as LDK's signer: parts that the signer's book wants become `step` messages (steps.ts), and what the device
 * answers becomes the book's answers. One question is on the way at a time; what comes up meanwhile goes into the next step.
 */
import { equal, toHex } from "../../src/bytes/bytes.ts";
import type { DeviceKeys } from "../../src/channel/device-keys.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { MAX_HTLCS } from "../../src/channel/terms.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { AuthenticatedPartial, PartialSignature, Stepped, ToDevice } from "../../src/messages/device.ts";
import { answerWithMac } from "../../src/threshold/online.ts";
import type { RecordStore } from "../../src/threshold/records.ts";
import { completeVerified } from "../../src/threshold/signature.ts";
import { isQuestion, type NumberedPoint, type SigningAnswer, type SigningPart } from "./parts.ts";
import { type ComposedStep, composeStep, type KnownViews } from "./steps.ts";

/** What a device's signer is made of. */
export interface DeviceSignerOptions {
  readonly keys: DeviceKeys;
  /** The gateway's half of the presignatures. */
  readonly records: RecordStore;
  readonly channels: {
    /** The proposal of the channel with this keys id. Throws `unknown-channel`. */
    proposal(keysId: Uint8Array): Proposal;
    /** Whether it is the present channel, and not one that was there before. */
    isPresent(keysId: Uint8Array): boolean;
  };
  readonly link: {
    /** The device is there, and can be asked. */
    readonly isThere: boolean;
    /** Sends a message; false if the device is not there (it is asked again when it is back). */
    send(message: ToDevice): boolean;
  };
  /** What the device has answered. */
  answer(keysId: Uint8Array, answers: readonly SigningAnswer[]): void;
  problem(code: string, sentence: string): void;
  /** An online message of the device's did not become a signature. */
  wrongAnswer(error: Error): void;
}

/**
 * The bridge reveals the preimage and signs the state without the HTLC in one go, so the step for that state follows
 * within a store's write: one message less on the air is worth that.
 */
const RECEIPT_WAIT_MS = 40;

/**
 * Refusals that are not final: a device without records is asked again when it has been charged, one whose flash is full when
 * its owner has had exits forgotten, and one that does not close because a payment is in flight when that payment has ended.
 */
const PASSES: ReadonlySet<string> = new Set(["records-used-up", "vault-full", "policy-close-pending"]);

/** A step on its way, of the channel with this keys id. */
interface Sent extends ComposedStep {
  readonly keysId: Uint8Array;
}

function preimagesIn(part: SigningPart): readonly Uint8Array[] {
  return ((part.kind === "holder" || part.kind === "counterparty") && part.preimages) || [];
}

/** Steps that only tell something, of which the answers are waited for. */
const MOST_TELLING = 8;

/** The device as LDK's signer; see above. */
export class DeviceSigner {
  private readonly options: DeviceSignerOptions;
  private readonly receipts: Uint8Array[] = [];
  /** Preimages (hex) that went out in this session. */
  private readonly told = new Set<string>();
  private readonly pending = new Map<string, { keysId: Uint8Array; part: SigningPart }>();
  /** The question on the way. */
  private sent: Sent | null = null;
  /** Steps on the way that only tell something, by their ids: no question waits for their answers. */
  private readonly telling = new Map<number, Sent>();
  /** Parts (by id) whose answer in this session was wrong. */
  private readonly wrongOnce = new Set<string>();
  private nextId = 1;
  private known: Partial<KnownViews> = {};
  /** The device cannot derive the keys inside the bridge's commitments, or has not said yet that it can. */
  private curveless = true;

  constructor(options: DeviceSignerOptions) {
    this.options = options;
  }

  /** What the device said of itself when it came. */
  greeted(hello: { readonly curveless?: boolean | undefined }): void {
    this.curveless = hello.curveless === true;
  }

  /** It derives keys from what the bridge says, and does so in idle time. */
  get derivesKeys(): boolean {
    return !this.curveless;
  }

  /** LDK's book wants these parts answered. */
  ask(keysId: Uint8Array, parts: readonly SigningPart[]): void {
    const { channels, link } = this.options;
    // Of a channel that was there before the present one, only what is collected says which channel it belongs to.
    const asked = channels.isPresent(keysId) ? parts : parts.filter(({ kind }) => kind === "spend");
    if (!link.isThere || asked.length === 0) return;
    for (const part of asked) this.pending.set(pendingKey(keysId, part), { keysId, part });
    this.sendNext();
  }

  /** A new session: whatever was on the way is forgotten, the book will hand over again what is unanswered. */
  restart(): void {
    this.pending.clear();
    this.told.clear();
    this.wrongOnce.clear();
    this.sent = null;
    this.telling.clear();
    this.known = {};
    this.curveless = true;
  }

  /** A payment has arrived: the device is told with the next step, or alone if none comes at once; `told` follows that. */
  paid(preimage: Uint8Array, told: () => void): void {
    this.receipts.push(preimage);
    setTimeout(() => {
      for (const preimage of this.receipts.splice(0)) {
        this.told.add(toHex(preimage));
        this.options.link.send({ type: "paid", preimage });
      }
      told();
    }, RECEIPT_WAIT_MS);
  }

  /** The device's answer. One to another step than the one on the way is not news. */
  stepped(stepped: Stepped): void {
    const sent = this.telling.get(stepped.id) ?? this.sent;
    if (sent === null || sent.step.id !== stepped.id) return;
    if (!this.telling.delete(stepped.id)) this.sent = null;
    const answers: SigningAnswer[] = [];
    for (const part of sent.parts) {
      let one: SigningAnswer | null;
      try {
        one = this.answerFor(sent, part, stepped);
      } catch (error) {
        if (codeOf(error) === undefined) throw error;
        one = this.wrong(sent, part, error as Error);
      }
      if (one !== null) answers.push(one);
    }
    if (!stepped.refused) Object.assign(this.known, sent.views);
    else {
      this.known = {};
      this.options.problem(stepped.refused.code, stepped.refused.sentence);
    }
    this.options.answer(sent.keysId, answers);
    this.sendNext();
  }

  // ── answers ───────────────────────────────────────────────────────────────────────────────────────────

  /**
   * An answer that makes no signature has cost its record. The device is asked once more; but it keeps its answers, so that
   * the same question never gets two, and if it gives this one again, there is none that would do.
   */
  private wrong({ keysId }: Sent, part: SigningPart, error: Error): SigningAnswer | null {
    this.options.problem(codeOf(error)!, `${part.id}: ${error.message}`);
    this.options.wrongAnswer(error);
    if (this.wrongOnce.has(part.id)) return { id: part.id, refused: "device-answer-wrong" };
    this.wrongOnce.add(part.id);
    this.pending.set(pendingKey(keysId, part), { keysId, part });
    return null;
  }

  private answerFor(sent: Sent, part: SigningPart, stepped: Stepped): SigningAnswer | null {
    const { id } = part;
    const points: NumberedPoint[] = stepped.point ? [stepped.point] : [];
    switch (part.kind) {
      case "revocation":
        // What the flash has no room for now is told again with what comes next.
        return stepped.refused && PASSES.has(stepped.refused.code) ? null : { id };
      case "exit":
      case "spend":
        if (stepped.completeSignature) return { id, signatures: [stepped.completeSignature] };
        break;
      case "holder":
        if (stepped.point) return { id, points, ...(stepped.secret ? { secret: stepped.secret } : {}) };
        break;
      default:
        if (stepped.signed) {
          const { partials, htlcSignatures } = stepped.signed;
          if (partials.length !== sent.sighashes.length) {
            throw lngateError(
              "bad-answer",
              `the device answered ${id} with ${partials.length} partial signatures`,
            );
          }
          const signatures = partials.map((partial, i) => this.completed(partial, sent.sighashes[i]!));
          return { id, signatures: [...signatures, ...(htlcSignatures ?? [])] };
        }
    }
    if (!stepped.refused || PASSES.has(stepped.refused.code)) return null;
    return { id, refused: stepped.refused.code };
  }

  // ── questions ─────────────────────────────────────────────────────────────────────────────────────────

  private sendNext(): void {
    while (this.sent === null && this.pending.size > 0 && this.sendOne());
  }

  /** Sends the next step. False if there is none. */
  private sendOne(): boolean {
    let next: Sent | null = null;
    try {
      next = this.compose();
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      this.pending.clear();
      this.options.problem(code, (error as Error).message);
    }
    if (next === null) return false;
    if (next.parts.some(isQuestion)) this.sent = next;
    else this.telling.set(next.step.id, next);
    // What a device never answers goes along with later questions all the same.
    for (const id of [...this.telling.keys()].slice(0, -MOST_TELLING)) this.telling.delete(id);
    if (this.options.link.send(next.step)) return true;
    this.restart();
    return false;
  }

  /** The next step, of the channel that has waited longest; null if nothing is to be asked. */
  private compose(): Sent | null {
    const keysId = [...this.pending.values()][0]!.keysId;
    const parts = [...this.pending.values()]
      .filter(each => equal(each.keysId, keysId))
      .map(each => each.part);
    const composed = composeStep(this.nextId, parts, {
      keys: this.options.keys,
      proposal: this.options.channels.proposal(keysId),
      known: this.known,
      curveless: this.curveless,
      ourHalf: sighash => this.ourHalf(sighash),
    });
    for (const part of composed.notCollected) {
      this.options.problem("not-collected", "this output is collected by the owner's computer");
      this.pending.delete(pendingKey(keysId, part));
    }
    for (const part of composed.parts) this.pending.delete(pendingKey(keysId, part));
    if (composed.parts.length === 0) return null;
    this.nextId++;
    return { ...composed, step: { ...composed.step, ...this.receiptsWith(composed.parts) }, keysId };
  }

  /** The receipts that go out with a step. */
  private receiptsWith(parts: readonly SigningPart[]): { readonly paid?: Uint8Array[] } {
    // One that got lost would make the device refuse a state in which its HTLC is gone.
    for (const preimage of parts.flatMap(preimagesIn)) {
      const queued = this.receipts.some(receipt => equal(receipt, preimage));
      if (!queued && !this.told.has(toHex(preimage))) this.receipts.push(preimage);
    }
    if (this.receipts.length === 0) return {};
    const paid = this.receipts.splice(0, MAX_HTLCS);
    for (const preimage of paid) this.told.add(toHex(preimage));
    return { paid };
  }

  // ── the gateway's half of signatures ──────────────────────────────────────────────────────────────────

  /** Kind B: the device finishes this signature itself, and keeps it. */
  private ourHalf(sighash: Uint8Array): AuthenticatedPartial {
    const { id, answer } = this.options.records.take("B", sighash, record => answerWithMac(record, sighash));
    return { id, scalar: answer.slice(0, 32), mac: answer.slice(32) };
  }

  /** Kind A: the signature that the device's half and ours make. */
  private completed(partial: PartialSignature, sighash: Uint8Array): Uint8Array {
    const { records, keys } = this.options;
    // What the store keeps it gives for ever: only what is a signature may get in.
    return records.use("A", partial.id, sighash, record =>
      completeVerified(record, partial.scalar, sighash, keys.fundingKey),
    ).answer;
  }
}

function pendingKey(keysId: Uint8Array, part: SigningPart): string {
  return `${toHex(keysId)}/${part.id}`;
}
