/** One channel as the remote signer keeps it: what was announced, its book, and what LDK has provided about it. */
import { randomBytes } from "node:crypto";
import { ChannelId, OutPoint } from "lightningdevkit";
import { equal } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { type ChannelParameters, HOLDER } from "../../src/lightning/channel.ts";
import type { ProvidedParameters, PublicKeys } from "./decode.ts";
import { isQuestion, type SigningPart } from "./parts.ts";
import { FIRST_POINTS, SigningState } from "./state.ts";
import type { StoredSigningState } from "./stored-state.ts";
import { Unblocking } from "./unblocking.ts";

/** What is fixed about a channel before it is proposed to the bridge. */
export interface SignerChannel {
  /** 32 B, unique for ever: names the device's channel, and this attempt to open it, in LDK's own data. */
  readonly keysId: Uint8Array;
  readonly fundingSat: number;
  /** Node id of the bridge, 33 B. */
  readonly bridge: Uint8Array;
  /** The threshold key, the device's revocation and HTLC basepoints, the owner's payment and delayed basepoints. */
  readonly publicKeys: PublicKeys;
  /** The owner's output script for what LDK claims on the chain, and for our anchors. */
  readonly destinationScript: Uint8Array;
}

/** LDK tells its signer no dust limits; what is built from a commitment's content needs none. */
const NOT_KNOWN_TO_SIGNERS = 0;

/** A channel that gets its signatures from a device. */
export class SignedChannel {
  readonly announced: SignerChannel;
  readonly book: SigningState;
  readonly unblocking: Unblocking;
  private provided: ChannelParameters | null = null;
  /** Part ids that were handed to the peer. */
  private handedOver = new Set<string>();
  /** The book's revision that was last given away for storing. */
  private storedRevision: number;

  /**
   * From the device's first commitment points, or from the stored book. `live`: the bridge is connected. Throws what
   * SigningState throws, and `bad-point` for a public key that is not a point: it would stop LDK altogether.
   */
  constructor(announced: SignerChannel, from: StoredSigningState | readonly Uint8Array[], live: boolean) {
    const { funding, basepoints } = announced.publicKeys;
    const { revocation, payment, delayed, htlc } = basepoints;
    for (const point of [funding, revocation, payment, delayed, htlc]) {
      if (!nobleCurve.isPoint(point))
        throw lngateError("bad-point", "a public key of the channel is not a point of the curve");
    }
    this.announced = announced;
    this.book = "version" in from ? SigningState.fromPlain(from) : SigningState.open(from);
    this.storedRevision = "version" in from ? this.book.revision : -1;
    this.unblocking = new Unblocking(live);
  }

  // ── LDK's parameters ──────────────────────────────────────────────────────────────────────────────────

  /**
   * LDK provides the same parameters once per monitor and once per manager. An LDK that was talked out of anchors
   * says so only here. What is not as it was announced is refused.
   */
  provide(given: ProvidedParameters): void {
    const { publicKeys, fundingSat } = this.announced;
    const samePublicKeys =
      equal(given.holder.funding, publicKeys.funding) &&
      (["revocation", "payment", "delayed", "htlc"] as const).every(each =>
        equal(given.holder.basepoints[each], publicKeys.basepoints[each]),
      );
    const known = this.provided?.funding;
    const sameFunding =
      !known || (equal(known.txid, given.funding.txid) && known.vout === given.funding.vout);
    if (!given.anchors || !given.weFund || !samePublicKeys || !sameFunding) {
      this.book.refuse("policy-channel-parameters");
      return;
    }
    this.provided = {
      funding: given.funding,
      fundingSat,
      funder: HOLDER,
      holder: {
        fundingPubkey: given.holder.funding,
        basepoints: given.holder.basepoints,
        toLocalDelay: given.holderDelay,
        dustLimitSat: NOT_KNOWN_TO_SIGNERS,
      },
      counterparty: {
        fundingPubkey: given.counterparty.funding,
        basepoints: given.counterparty.basepoints,
        toLocalDelay: given.counterpartyDelay,
        dustLimitSat: NOT_KNOWN_TO_SIGNERS,
      },
    };
  }

  /** What LDK has told about the channel; null until the funding transaction is known. */
  get parameters(): ChannelParameters | null {
    return this.provided;
  }

  /** The same. Throws the channel's refusal, or `no-parameters`, if there are none. */
  get neededParameters(): ChannelParameters {
    if (this.provided) return this.provided;
    throw lngateError(this.book.refusal ?? "no-parameters", "LDK has not provided usable channel parameters");
  }

  /** Null until the funding transaction is known. */
  channelId(): ChannelId | null {
    if (!this.provided) return null;
    const { txid, vout } = this.provided.funding;
    return ChannelId.constructor_v1_from_funding_outpoint(OutPoint.constructor_new(txid, vout));
  }

  /** True if LDK's messages name this channel by this id. */
  hasId(channelId: Uint8Array): boolean {
    const id = this.channelId();
    return id !== null && equal(id.get_a(), channelId);
  }

  // ── the device's questions ────────────────────────────────────────────────────────────────────────────

  /**
   * Each part is handed over once. What is only told goes along with a question that the device can't answer without it; our own
   * next state is none, and somebody waits for that. Empty if there is no new question.
   */
  freshParts(): SigningPart[] {
    const wanted = this.book.wants();
    this.handedOver = new Set(wanted.map(part => part.id).filter(id => this.handedOver.has(id)));
    const fresh = wanted.filter(part => !isQuestion(part) || !this.handedOver.has(part.id));
    const questions = fresh.filter(isQuestion);
    return questions.every(({ kind }) => kind === "holder") ? questions : fresh;
  }

  /** What is only told (revocations). */
  toldParts(): SigningPart[] {
    return this.book.wants().filter(part => !isQuestion(part));
  }

  /** Of that, what the device was not told yet. */
  untoldParts(): SigningPart[] {
    return this.toldParts().filter(({ id }) => !this.handedOver.has(id));
  }

  /** These parts are with the device now. */
  noteHandedOver(parts: readonly SigningPart[]): void {
    for (const part of parts) this.handedOver.add(part.id);
  }

  /** Everything unanswered is to be handed over again. */
  forgetHandedOver(): void {
    this.handedOver.clear();
  }

  // ── storing ───────────────────────────────────────────────────────────────────────────────────────────

  /** The book if it has changed since it was last taken for storing. */
  takeChanged(): StoredSigningState | null {
    if (this.storedRevision === this.book.revision) return null;
    this.storedRevision = this.book.revision;
    return this.book.toPlain();
  }
}

/** A channel that nobody announced, and that gets no signature: its keys are nobody's. */
export function unannouncedChannel(keysId: Uint8Array, destinationScript: Uint8Array): SignedChannel {
  const point = () => nobleCurve.publicKey(new Uint8Array(randomBytes(32)));
  const publicKeys = {
    funding: point(),
    basepoints: { revocation: point(), payment: point(), delayed: point(), htlc: point() },
  };
  const announced = { keysId, fundingSat: 0, bridge: point(), publicKeys, destinationScript };
  const channel = new SignedChannel(announced, Array.from({ length: FIRST_POINTS }, point), false);
  channel.book.refuse("unknown-channel");
  return channel;
}
