/**
 * The remote signer's book: for one channel, what LDK has asked of its signer and what the device has answered.
 *
 * LDK asks synchronously and is told "not now" as long as the device has not answered; later it asks again and
 * is given the answer from here. So the book has two sides, and only plain data (parts.ts) between them:
 *
 *   LDK's side                                   the device's side
 *   pointAt, secretAt, validateHolder,           wants(): the parts the device is asked for
 *   counterpartyRevoked, counterpartySignatures, answer(): checked, kept, "LDK may ask again"
 *   exitSignature, closingSignature, …
 *
 * Nothing here knows LDK, a link, a clock or a store.
 *
 * The rules it keeps, whoever asks:
 * - an answer is checked before it is kept (a wrong signature would make the peer close the channel), and a kept
 *   answer stays as long as its state can be asked for;
 * - one content per commitment number, from the moment the device was asked;
 * - once an exit was asked for, no secret and no further state is asked for;
 * - a refused channel gets no signature at all (`refuse`).
 *
 * `toPlain()` is to be stored in the same transaction as LDK's own state: LDK asks for a secret once its monitor
 * is stored, and the book must then know the state that takes the place of the revoked one.
 */
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { storedSecret, storeSecret } from "../../src/lightning/shachain.ts";
import { checkedPoint, checkedSignatures, isSecretOf } from "./checks/answers.ts";
import type {
  Built,
  ClosingContent,
  CommitmentState,
  CounterpartySigning,
  FundingContent,
  HolderSigning,
  HolderState,
  NumberedPoint,
  SignatureCheck,
  SigningAnswer,
  SigningPart,
  SpendContent,
  Unblocks,
} from "./parts.ts";
import {
  copied,
  emptyBook,
  type HolderEntry,
  type SignedEntry,
  type StoredSigningState,
} from "./stored-state.ts";
import { hasRefused, holderId, wantedParts } from "./wanted.ts";

/** The points a channel must start with: numbers 0 to 4, so that LDK never has to wait for one. */
export const FIRST_POINTS = 5;

/** Spends are asked again with other fees as long as a claim is unconfirmed; older ones are forgotten. */
const MOST_SPENDS = 200;
/** The book of one channel; see above. */
export class SigningState {
  private readonly book: StoredSigningState;
  /** Counts changes, so that a store can tell whether there is anything to write. */
  revision = 0;

  /** Not kept: a revocation follows at once or never. */
  private announced: { readonly secret: Uint8Array; readonly nextPoint: Uint8Array } | null = null;

  private constructor(book: StoredSigningState) {
    this.book = book;
  }

  /** A new channel, with the device's first points (at least FIRST_POINTS, from 0). Throws `bad-point`. */
  static open(points: readonly Uint8Array[]): SigningState {
    if (points.length < FIRST_POINTS) {
      throw lngateError("bad-point", `a channel needs the first ${FIRST_POINTS} commitment points`);
    }
    return new SigningState(
      emptyBook(points.map((point, number) => ({ number, point: checkedPoint(point) }))),
    );
  }

  /** A channel from its stored form. Throws `bad-book` for another version. */
  static fromPlain(plain: StoredSigningState): SigningState {
    if (plain.version !== 1) throw lngateError("bad-book", "the signer's book has an unknown version");
    return new SigningState(copied(plain));
  }

  /** A copy of all that is to be stored. */
  toPlain(): StoredSigningState {
    return copied(this.book);
  }

  // ── what the gateway wants to know ────────────────────────────────────────────────────────────────────

  /** The code of why this channel gets no signature, if so. */
  get refusal(): string | null {
    return this.book.refusal;
  }

  /** The device can leave alone: it holds our state 0 (or a later one) completely signed. */
  get exitHeld(): boolean {
    return this.book.holder.some(entry => entry.answered);
  }

  /** A closing signature is awaited (and not refused): LDK's timer must not tick for this node meanwhile. */
  get closingPending(): boolean {
    const awaited = this.book.closings.some(
      entry => entry.signatures === null && !hasRefused(this.book, entry.id),
    );
    return awaited && !this.exitAsked;
  }

  /**
   * Why the channel can't move any further: the code with which the device has refused a state (or the funding) that LDK
   * waits for, or that of a channel that gets no signature. Null: it can.
   */
  get stuck(): string | null {
    const { refusal, refused, holder, counterparty, funding } = this.book;
    if (refusal !== null) return refusal;
    const awaited = [
      ...holder.filter(entry => !entry.answered).map(holderId),
      ...[...counterparty, funding].filter(entry => entry?.signatures === null).map(entry => entry!.id),
    ];
    return refused.find(({ id }) => awaited.includes(id))?.code ?? null;
  }

  /** Our own commitment was asked for: this channel can only be force-closed. */
  get exitAsked(): boolean {
    return this.book.holder.some(entry => entry.exitAsked);
  }

  /** Number of our newest validated state; −1 before the first. */
  get holderNumber(): number {
    return Math.max(-1, ...this.book.holder.map(entry => entry.number));
  }

  /** Number of the bridge's newest state that a signature was asked for; −1 before the first. */
  get counterpartyNumber(): number {
    return Math.max(
      this.book.counterpartyRevokedBelow - 1,
      ...this.book.counterparty.map(each => each.content.number),
    );
  }

  /** The newest states that the device has answered for, which it wrote down before it did; −1 before the first. */
  get deviceReached(): { readonly holder: number; readonly counterparty: number } {
    const { holder, counterparty, counterpartyRevokedBelow } = this.book;
    return {
      holder: Math.max(-1, ...holder.filter(entry => entry.answered).map(entry => entry.number)),
      counterparty: Math.max(
        counterpartyRevokedBelow - 1,
        ...counterparty.filter(entry => entry.signatures).map(entry => entry.content.number),
      ),
    };
  }

  /** Our states that are not revoked, and may be published: also one that the device has not answered for yet. */
  get holderStates(): readonly HolderState[] {
    return this.book.holder;
  }

  /** The bridge's states that are not revoked. */
  get counterpartyStates(): readonly CommitmentState[] {
    return this.book.counterparty.map(({ content }) => content);
  }

  /** The signed inputs of the funding transaction, once answered. */
  get fundingSignatures(): readonly Uint8Array[] | null {
    return this.book.funding?.signatures ?? null;
  }

  // ── LDK's side ────────────────────────────────────────────────────────────────────────────────────────

  /** No signature for this channel, from now on. The code is stable; the first one stays. */
  refuse(code: string): void {
    if (this.book.refusal !== null) return;
    this.book.refusal = code;
    this.revision++;
  }

  /**
   * The commitment point of a number; null means "not yet", which LDK bears except while it reestablishes.
   * There the *peer* names the number: it can be any old one (which follows from its secret), or one far ahead.
   * The answer for those must be a point whose secret nobody but the device knows: LDK panics if the peer proves
   * knowledge of it.
   */
  pointAt(number: number): Uint8Array | null {
    const known = this.book.points.find(each => each.number === number);
    if (known) return known.point;
    const secret = this.secretOf(number);
    if (secret) return nobleCurve.publicKey(secret);
    const neededByLdk = number <= this.holderNumber + 2;
    return neededByLdk ? null : this.book.points[this.book.points.length - 1]!.point;
  }

  /** The secret of our state `number`, asked for once LDK has stored state number + 1. Null: not yet. */
  secretAt(number: number): Uint8Array | null {
    const secret = this.secretOf(number);
    if (secret) return secret;
    const successor = this.book.holder.find(entry => entry.number === number + 1);
    if (this.book.refusal !== null) return null;
    if (!successor) this.refuse("state-missing");
    else if (!successor.asked) {
      successor.asked = true;
      this.revision++;
    }
    return null;
  }

  /**
   * The bridge has signed our next state. Until the device is asked for it (`secretAt`), another content may take
   * its place: after a reconnect the bridge may sign something else. `build` is called for a commitment that is new here.
   */
  validateHolder(state: HolderState, txid: Uint8Array, build: () => Built<HolderSigning>): void {
    const { holder } = this.book;
    const { number } = state;
    const at = holder.findIndex(entry => entry.number === number);
    const before = holder[at];
    if (before?.asked) {
      if (!equal(before.txid, txid)) this.refuse("content-conflict");
      return;
    }
    const { checks, signing } = before && equal(before.txid, txid) ? before : build();
    const htlcs = holder.find(entry => entry.number === number - 1)?.content.htlcs ?? [];
    const preimages = [...(before?.preimages ?? []), ...(state.preimages ?? [])].filter(preimage =>
      htlcs.some(htlc => equal(htlc.paymentHash, sha256(preimage))),
    );
    const entry: HolderEntry = {
      ...state,
      preimages,
      txid,
      checks,
      ...(signing ? { signing } : {}),
      asked: number === 0,
      answered: false,
      exitAsked: false,
      exitSignature: null,
    };
    if (before) holder[at] = entry;
    else holder.push(entry);
    // The bridge signs our next state when it has the secret that the one before costs. After a power cut LDK need
    // not have asked for that: it went out, and the book that knew was not stored.
    for (const each of holder) if (each.number < number) each.asked = true;
    this.revision++;
  }

  /** The bridge has revoked its state `number`; LDK has checked the secret against its point. */
  counterpartyRevoked(number: number, secret: Uint8Array): void {
    const { book } = this;
    const seen = book.revocations.find(each => each.number === number);
    if (seen || number < book.counterpartyRevokedBelow) return;
    const { announced } = this;
    const nextPoint = announced && equal(announced.secret, secret) ? announced.nextPoint : null;
    book.revocations.push({ number, secret, nextPoint });
    book.counterpartyRevokedBelow = number + 1;
    book.counterparty = book.counterparty.filter(entry => entry.content.number > number);
    this.revision++;
  }

  /**
   * The bridge's next point came in one message with this secret. LDK does not show it to its signer before the
   * next state is signed, but a device can prepare for it; optional.
   */
  announcedPoint(secret: Uint8Array, nextPoint: Uint8Array): void {
    this.announced = { secret, nextPoint };
  }

  /**
   * The signatures of the bridge's state, as its checks are ordered. Null: not yet. `build` is called for a commitment
   * that is new here.
   */
  counterpartySignatures(
    content: CommitmentState,
    txid: Uint8Array,
    build: () => Built<CounterpartySigning>,
  ): readonly Uint8Array[] | null {
    const { number } = content;
    const entry = this.book.counterparty.find(each => each.content.number === number);
    if (entry && !equal(entry.txid, txid)) this.refuse("content-conflict");
    if (this.book.refusal !== null) return null;
    if (entry) return entry.signatures;
    const id = `counterparty/${number}`;
    this.book.counterparty.push({ id, content, txid, ...build(), signatures: null });
    this.revision++;
    return null;
  }

  /**
   * The signature that makes our own state publishable: a force close. Null: not yet, or revoked long ago. `build` is
   * called for a commitment that is new here.
   */
  exitSignature(state: HolderState, txid: Uint8Array, build: () => Built<HolderSigning>): Uint8Array | null {
    const { number } = state;
    if (this.secretOf(number)) return null;
    if (!this.book.holder.some(entry => entry.number === number)) this.validateHolder(state, txid, build);
    const entry = this.book.holder.find(each => each.number === number);
    if (!entry || this.book.refusal !== null) return null;
    if (!equal(entry.txid, txid)) {
      this.refuse("content-conflict");
      return null;
    }
    if (!entry.exitAsked) {
      entry.exitAsked = true;
      this.revision++;
    }
    return entry.exitSignature;
  }

  /** The signature of a mutual close. Null: not yet. It may be negotiated with different fees: each one is its own question. */
  closingSignature(content: ClosingContent, check: SignatureCheck): Uint8Array | null {
    return this.signature(this.book.closings, `closing/${toHex(check.hash)}`, content, check);
  }

  /** The signature of a spend after a force close. Null: not yet. */
  spendSignature(content: SpendContent, check: SignatureCheck): Uint8Array | null {
    const signature = this.signature(this.book.spends, `spend/${toHex(check.hash)}`, content, check);
    if (this.book.spends.length > MOST_SPENDS) this.book.spends.shift();
    return signature;
  }

  private signature<Content>(
    entries: SignedEntry<Content>[],
    id: string,
    content: Content,
    check: SignatureCheck,
  ): Uint8Array | null {
    if (this.book.refusal !== null) return null;
    const entry = entries.find(each => each.id === id);
    if (entry) return entry.signatures?.[0] ?? null;
    entries.push({ id, content, checks: [check], signatures: null });
    this.revision++;
    return null;
  }

  /**
   * Asks for the signatures of the funding transaction; the device is asked once it holds exit 0. Asking again
   * is harmless, another transaction is a `content-conflict`.
   */
  askFunding(content: FundingContent, checks: readonly SignatureCheck[]): void {
    const { funding } = this.book;
    if (funding) {
      if (!equal(funding.content.transaction, content.transaction)) {
        throw lngateError("content-conflict", "this channel has another funding transaction already");
      }
      return;
    }
    this.book.funding = { id: "funding", content, checks, signatures: null };
    this.revision++;
  }

  /** False if this is certainly not the secret of our state `number`. */
  mayHaveRevoked(number: number, secret: Uint8Array): boolean {
    const known = this.book.points.find(each => each.number === number);
    return !known || isSecretOf(known.point, secret);
  }

  // ── the device's side ─────────────────────────────────────────────────────────────────────────────────

  /** All that the device has not answered yet, in the order in which it is to be processed. */
  wants(): SigningPart[] {
    return wantedParts(this.book);
  }

  /**
   * An answer of the device's. One that was given already, or that nobody waits for any more, changes nothing.
   * Throws `bad-signature`, `bad-secret`, `bad-point` or `bad-answer`; then the part is still wanted.
   */
  answer(answer: SigningAnswer): Unblocks {
    const part = this.wants().find(each => each.id === answer.id);
    const points = (answer.points ?? []).map(({ number, point }) => ({ number, point: checkedPoint(point) }));
    if (part && answer.refused !== undefined) {
      this.book.refused.push({ id: part.id, code: answer.refused });
      this.revision++;
      return "nobody";
    }
    const news = this.keepPoints(points);
    const unblocks = part ? this.keep(part, answer) : "nobody";
    return news && unblocks === "nobody" ? "manager" : unblocks;
  }

  private keep(part: SigningPart, answer: SigningAnswer): Unblocks {
    const { book } = this;
    switch (part.kind) {
      case "revocation":
        book.revocations = book.revocations.filter(each => each.number !== part.number);
        this.revision++;
        return "nobody";
      case "holder":
        this.keepHolder(part.number, answer.secret);
        return part.number === 0 ? "nobody" : "manager";
      case "exit": {
        const entry = book.holder.find(each => each.number === part.number)!;
        entry.exitSignature = checkedSignatures(answer, entry.checks)[0]!;
        this.revision++;
        return "monitor";
      }
      default: {
        const entry = [...book.counterparty, ...book.closings, ...book.spends, book.funding].find(
          each => each?.id === part.id,
        )!;
        entry.signatures = checkedSignatures(answer, entry.checks);
        this.revision++;
        if (part.kind === "funding") return "nobody";
        return part.kind === "spend" ? "monitor" : "manager";
      }
    }
  }

  /** Our state `number` is held by the device, and the one before is revoked. */
  private keepHolder(number: number, secret: Uint8Array | undefined): void {
    const { book } = this;
    if (number > 0) {
      if (!secret) throw lngateError("bad-answer", `the answer to our state ${number} has no secret`);
      if (!isSecretOf(this.pointAt(number - 1), secret)) {
        throw lngateError("bad-secret", `the secret of our state ${number - 1} does not fit its point`);
      }
      // LDK needs the point two further on when the next state is validated, and does not wait for it gladly.
      if (book.points[book.points.length - 1]!.number < number + 3) {
        throw lngateError("bad-answer", `the answer to our state ${number} leaves too few commitment points`);
      }
      book.secrets = storeSecret(book.secrets, secret);
      book.points = book.points.filter(each => each.number >= number);
    }
    book.holder.find(entry => entry.number === number)!.answered = true;
    book.holder = book.holder.filter(entry => entry.number >= number);
    this.revision++;
  }

  /** True if LDK may be waiting for one of them. */
  private keepPoints(points: readonly NumberedPoint[]): boolean {
    const { book } = this;
    let news = false;
    for (const { number, point } of points) {
      const last = book.points[book.points.length - 1]!;
      if (number !== last.number + 1) continue;
      book.points.push({ number, point });
      news = true;
    }
    if (news) this.revision++;
    return news;
  }

  private secretOf(number: number): Uint8Array | null {
    const { secrets } = this.book;
    return number < secrets.count ? storedSecret(secrets, number) : null;
  }
}
