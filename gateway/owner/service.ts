/**
 * What the gateway does for owners' computers: pairing on the links `<id>.pair`, everything else on `<id>.owner`.
 * Questions of one link are answered one after the other, links do not wait for each other.
 */

import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { Fragments, inFragments } from "../../src/messages/fragments.ts";
import { type FromOwner, fromOwner, type ToOwner, toOwner } from "../../src/messages/owner.ts";
import type { RecordStore } from "../../src/threshold/records.ts";
import type { Log } from "../log.ts";
import type { Registry } from "../store/registry.ts";
import type { OwnerApi } from "./api.ts";
import type { Ceremonies } from "./ceremonies.ts";
import { Charging } from "./charging.ts";
import { PairingAttempt } from "./pairing.ts";

export interface OwnerServiceOptions {
  readonly registry: Registry;
  readonly ceremonies: Ceremonies;
  readonly api: OwnerApi;
  readonly log: Log;
  readonly network: string;
  /** What a device that is paired from now on pays for the service; absent: nothing. */
  readonly serviceFee?: ServiceFee | undefined;
  /** Of the best chain. Rejects while bitcoind is away. */
  blockHeight(): Promise<number>;
  /** The records of a paired device: the store that its payments use. */
  records(deviceId: string): RecordStore;
  /** `GatewayLinks.send`. */
  send(identity: string, message: Uint8Array): void;
  /** A device has just been paired. */
  paired?(deviceId: string): void;
  /** A device's key must not be used any more: its channel is to be closed. */
  locked?(deviceId: string): void;
  /** Unix seconds. */
  now?(): number;
}

/** Questions that may wait on one link; a well-behaved owner waits for each answer. */
const MAX_WAITING = 2;

interface OwnerLink {
  readonly deviceId: string;
  readonly pieces: Fragments;
  /** Counts sessions: an answer belongs to the session of its question. */
  session: number;
  waiting: number;
  work: Promise<void>;
  pairing: PairingAttempt | undefined;
  charging: Charging | undefined;
}

export class OwnerService {
  private readonly options: OwnerServiceOptions;
  private readonly links = new Map<string, OwnerLink>();

  constructor(options: OwnerServiceOptions) {
    this.options = options;
  }

  /** Whether this service answers on the link of this identity. */
  static serves(identity: string): boolean {
    return identity.endsWith(".owner") || identity.endsWith(".pair");
  }

  /** A message of the link (one piece of a question). */
  onMessage(identity: string, message: Uint8Array): void {
    const link = this.linkOf(identity);
    const { session } = link;
    let question: FromOwner;
    try {
      const whole = link.pieces.add(message);
      if (!whole) return;
      question = fromOwner.decode(whole);
      if (link.waiting >= MAX_WAITING)
        throw lngateError("link-busy", "wait for the answer before asking more");
    } catch (error) {
      this.answer(identity, link, session, refusal(error, this.options.log));
      return;
    }
    link.waiting++;
    link.work = link.work.then(async () => {
      const answer = session === link.session ? await this.answerTo(identity, link, question) : undefined;
      link.waiting--;
      if (answer) this.answer(identity, link, session, answer);
    });
  }

  /** The link has a new session, or lost its session: what was under way is broken off. */
  onSession(identity: string, _state: "up" | "lost"): void {
    const link = this.linkOf(identity);
    link.session++;
    link.pieces.clear();
    link.work = link.work.then(() => {
      link.pairing?.abandon();
      link.charging?.abandon();
      link.pairing = undefined;
      link.charging = undefined;
    });
  }

  /** Resolves when no question is being worked on. */
  async idle(): Promise<void> {
    await Promise.all([...this.links.values()].map(({ work }) => work));
  }

  private linkOf(identity: string): OwnerLink {
    let link = this.links.get(identity);
    if (!link) {
      link = {
        deviceId: identity.slice(0, 8),
        pieces: new Fragments(),
        session: 0,
        waiting: 0,
        work: Promise.resolve(),
        pairing: undefined,
        charging: undefined,
      };
      this.links.set(identity, link);
    }
    return link;
  }

  /** Never rejects. */
  private async answerTo(identity: string, link: OwnerLink, question: FromOwner): Promise<ToOwner> {
    const log = this.options.log.part(link.deviceId);
    try {
      return identity.endsWith(".pair")
        ? await this.pair(link, question, log)
        : await this.serve(link, question);
    } catch (error) {
      log.info(`refused ${question.type}`, { code: codeOf(error), why: (error as Error).message });
      return refusal(error, log);
    }
  }

  private async pair(link: OwnerLink, question: FromOwner, log: Log): Promise<ToOwner> {
    const { registry, now = () => Math.floor(Date.now() / 1000) } = this.options;
    const { deviceId } = link;
    link.pairing ??= new PairingAttempt({ ...this.options, deviceId, now });
    const answer = await link.pairing.answer(question);
    if (question.type === "pair-complete") {
      log.info("paired", { name: registry.device(deviceId).name });
      this.options.paired?.(deviceId);
    }
    return answer;
  }

  private async serve(link: OwnerLink, question: FromOwner): Promise<ToOwner> {
    const { registry, api, records, ceremonies, log } = this.options;
    const { deviceId } = link;
    const { name } = registry.device(deviceId);
    if (Charging.concerns(question)) {
      link.charging ??= new Charging({
        registry,
        ceremonies,
        deviceId,
        records: records(deviceId),
        log: log.part(deviceId),
        locked: () => this.options.locked?.(deviceId),
      });
      return await link.charging.answer(question);
    }
    switch (question.type) {
      case "status": {
        const { awaitingOwner, locked } = registry.abortStatus(deviceId);
        const store = records(deviceId);
        const { rolledBack, stuck, awaitingBridge, closeStalled, feeratesApart, ...status } =
          await api.status(deviceId);
        const trouble = locked
          ? "locked"
          : rolledBack
            ? "rolled-back"
            : awaitingBridge
              ? "awaiting-bridge"
              : stuck
                ? "stuck"
                : closeStalled
                  ? "close-stalled"
                  : feeratesApart
                    ? "feerates-apart"
                    : awaitingOwner
                      ? "awaiting-owner"
                      : undefined;
        return {
          type: "status-report",
          name,
          ...status,
          records: { A: store.remaining("A"), B: store.remaining("B") },
          ...(trouble ? { trouble } : {}),
        };
      }
      case "fund":
        return { type: "deposit", ...(await api.depositAddress(deviceId)) };
      case "close":
        return { type: "closing", ...(await api.close(deviceId)) };
      case "freeze":
        return { type: "closing", ...(await api.freeze(deviceId)) };
      case "channels":
        return { type: "channels", channels: await api.channels(deviceId) };
      case "limits": {
        if (question.limits) {
          registry.putLimits(deviceId, question.limits);
          const { payees, ...msat } = question.limits;
          log.part(deviceId).info("its owner has set what it may spend", { ...msat, payees: payees.length });
        }
        const limits = registry.limits(deviceId);
        return { type: "limits", ...(limits ? { limits } : {}) };
      }
      default:
        throw lngateError("message-unexpected", `"${question.type}" is not asked on this link`);
    }
  }

  private answer(identity: string, link: OwnerLink, session: number, answer: ToOwner): void {
    if (session !== link.session) return;
    try {
      for (const piece of inFragments(toOwner.encode(answer))) this.options.send(identity, piece);
    } catch (error) {
      // The link went down meanwhile: the owner asks again in its next session.
      if (codeOf(error) === undefined) throw error;
    }
  }
}

/** An error as an answer. What is not an error of ours is a fault of this program, and stays here. */
function refusal(error: unknown, log: Log): ToOwner {
  const code = codeOf(error);
  if (code !== undefined && /^[a-z0-9-]{1,64}$/.test(code))
    return { type: "refused", code, sentence: (error as Error).message };
  log.error(`a question could not be answered: ${(error as Error).message}`);
  log.debug((error as Error).stack ?? "");
  return { type: "refused", code: "gateway-failed", sentence: "the gateway failed; its log says how" };
}
