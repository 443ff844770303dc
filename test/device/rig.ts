/**
 * A gateway that lies. It is in league with the bridge (it has all keys but the device's and the owner's) and has the
 * gateway's half of every record, so that whatever it asks for comes with signatures that are valid for it. It keeps
 * account of what the bridge could publish, and what that would cost the owner.
 */

import type { Context } from "../../device/channel/context.ts";
import type { Input } from "../../device/channel/machine.ts";
import type { PaymentOrder } from "../../device/channel/payments/paying.ts";
import { type ChannelState, type Payment, secretStore } from "../../device/channel/state.ts";
import type { SpendingPolicy } from "../../device/identity.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, holderBasepoints } from "../../src/channel/device-keys.ts";
import { type ServiceFee, serviceFeeMsat } from "../../src/channel/service-fee.ts";
import { type CommitmentSpec, MAX_INCOMING, type Proposal } from "../../src/channel/terms.ts";
import {
  anchorSighash,
  channelOf,
  closingSighash,
  commitmentOf,
  fundingOf,
} from "../../src/channel/transactions.ts";
import { type Curve, nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { type Commitment, commitmentFeeSat } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys, derivePrivateKey, derivePublicKey } from "../../src/lightning/keys.ts";
import { storedSecret } from "../../src/lightning/shachain.ts";
import {
  type AuthenticatedPartial,
  type PartialSignature,
  type Step,
  type Stepped,
  type ToDevice,
  toDevice,
} from "../../src/messages/device.ts";
import { answerWithMac, complete } from "../../src/threshold/online.ts";
import { exitIsValid, Violation } from "./audit.ts";
import { Box } from "./box.ts";
import { derived, messageOf } from "./dealer.ts";
import {
  BRIDGE,
  type Charge,
  chargedFlash,
  HEIGHT,
  identityWith,
  NOW_MS,
  proposalWith,
  recordOf,
} from "./parties.ts";
import { bridgePoint, bridgeSecret, CLOSE_SCRIPT } from "./peer.ts";

export interface RigOptions {
  /** Of a flash that was used before. */
  readonly image?: Uint8Array;
  readonly policy?: Partial<SpendingPolicy>;
  readonly serviceFee?: ServiceFee;
  readonly charge?: Charge;
  readonly curve?: Curve | null;
  readonly contextWith?: (context: Context, box: Box) => Context;
}

type Holder = NonNullable<Step["holder"]>;
type Close = NonNullable<Step["close"]>;

/** A commitment of the bridge's that it has our signature of. */
interface Publishable {
  readonly number: number;
  readonly point: Uint8Array;
  readonly view: CommitmentSpec;
}

export class Rig {
  readonly box: Box;
  readonly identity;
  proposal: Proposal;
  /** Codes of all refusals so far. */
  readonly refusals: string[] = [];
  /** Everything that left the device. */
  readonly answers: Stepped[] = [];
  /** Bridge's states with our signature whose secret was not given to the device's side. */
  publishable: Publishable[] = [];
  readonly closes: Close[] = [];
  fundingSigned = false;
  /** Set when an answer was a signature of something else than what was asked. */
  answeredAnother = false;
  readonly secrets = new Set<string>();
  /** The points of the bridge's commitments that were signed. */
  private readonly points = new Map<number, Uint8Array>();
  /** Every payment there was, as it was last seen: the device may forget one. */
  private readonly authorised = new Map<string, Payment>();
  private readonly messages = new Map<number, bigint>();
  /** The one s of each nonce of a signature that left the device finished. */
  private readonly nonces = new Map<string, string>();
  private reused = false;
  /** The channel in which the bridge has signed an HTLC wrong, and whether a payment was begun in it after that. */
  private strandedIn = 0;
  private isStranded = false;
  nextB = 0;
  /** What payments are about, by name, sat. */
  readonly amounts = new Map<string, number>();
  private nextStep = 1;

  constructor(options: RigOptions = {}) {
    this.identity = identityWith(options.policy, options.serviceFee);
    this.proposal = proposalWith();
    this.box = new Box({
      image: options.image ?? chargedFlash(options.policy, options.charge, options.serviceFee),
      curve: options.curve === undefined ? nobleCurve : options.curve,
      onPersisted: (state, box) => {
        for (const payment of state.payments) {
          if (!payment) continue;
          const hash = toHex(payment.paymentHash);
          const before = this.authorised.get(hash);
          const isBegun = !before || before.attempt !== payment.attempt;
          if (isBegun && this.strandedIn === state.books.index) this.isStranded = true;
          this.authorised.set(hash, payment);
        }
        if (options.curve !== null && this.isStrandedIn(state, box)) this.strandedIn = state.books.index;
      },
      ...(options.contextWith ? { contextWith: options.contextWith } : {}),
    });
  }

  get state(): ChannelState {
    return this.box.state;
  }

  get lastId(): number {
    return this.nextStep - 1;
  }

  // ── what one can make a device do ─────────────────────────────────────────────────────────────────────

  private run(input: Input): void {
    try {
      this.box.run(input);
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      this.refusals.push(code);
    }
  }

  app(wish: "open" | "close"): void {
    this.run({ type: wish });
  }

  pay(name: string, amountSat: number, changed: Partial<PaymentOrder> = {}): Uint8Array {
    const paymentHash = sha256(this.preimage(name));
    this.run({
      type: "pay",
      order: {
        paymentHash,
        amountMsat: amountSat * 1000,
        maxFeeMsat: 5000,
        payee: null,
        maxCltvExpiry: HEIGHT + 2016,
        expiresAt: NOW_MS / 1000 + 3600,
        invoice: new Uint8Array(250),
        ...changed,
      },
    });
    return paymentHash;
  }

  /** What this payment is refused with. */
  tried(name: string, amountSat: number): string[] {
    const before = this.refusals.length;
    this.pay(name, amountSat);
    return this.refusals.slice(before);
  }

  preimage(name: string): Uint8Array {
    return derived(`secret of ${name}`);
  }

  say(message: ToDevice): void {
    this.box.receive(toDevice.encode(message));
    this.box.takeSent();
  }

  paid(name: string): void {
    this.say({ type: "paid", preimage: this.preimage(name) });
  }

  failed(name: string): void {
    const paymentHash = sha256(this.preimage(name));
    this.say({ type: "failed", paymentHash, code: "payment-failed", sentence: "so they say" });
  }

  /** The gateway wants its service paid. What the device answers. */
  settle(name: string, amountMsat: number, maxFeeMsat = 0): void {
    const paymentHash = sha256(this.preimage(name));
    this.box.receive(toDevice.encode({ type: "settle", paymentHash, amountMsat, maxFeeMsat }));
    for (const answer of this.box.takeSent()) {
      if (answer.type === "settling" && answer.refused) this.refusals.push(answer.refused.code);
    }
  }

  /** One step, as it is. */
  step(parts: Omit<Step, "type" | "id">): Stepped {
    const message = toDevice.encode({ type: "step", id: this.nextStep++, ...parts });
    this.box.receive(message);
    const stepped = this.box.takeSent().filter(each => each.type === "stepped")[0]!;
    this.answers.push(stepped);
    this.nextB = Math.max(this.nextB, this.state.books.cursors.B);
    if (stepped.refused) this.refusals.push(stepped.refused.code);
    if (stepped.secret) this.secrets.add(toHex(stepped.secret));
    if (stepped.completeSignature) this.learnSignature(stepped.completeSignature);
    if (stepped.signed) this.learn(parts, stepped.signed);
    return stepped;
  }

  /** Two signatures with one nonce give the key away. */
  private learnSignature(signature: Uint8Array): void {
    const [nonce, s] = [toHex(signature.subarray(0, 32)), toHex(signature.subarray(32))];
    if (this.nonces.has(nonce) && this.nonces.get(nonce) !== s) this.reused = true;
    this.nonces.set(nonce, s);
  }

  /** What the bridge has now. */
  private learn(parts: Omit<Step, "type" | "id">, signed: NonNullable<Stepped["signed"]>): void {
    for (const { id, scalar } of signed.partials) {
      const message = messageOf(recordOf("A", id), scalar);
      if (this.messages.has(id) && this.messages.get(id) !== message) this.reused = true;
      this.messages.set(id, message);
    }
    for (const signature of signed.htlcSignatures ?? []) this.learnSignature(signature);
    const isFor = (hash: Uint8Array, i = 0): boolean => {
      const partial = signed.partials[i];
      return (
        partial !== undefined && nobleCurve.verify(this.completed(partial), hash, this.identity.fundingKey)
      );
    };
    const { counterparty, close } = parts;
    if (counterparty) {
      const { number } = counterparty;
      const point = counterparty.point ?? bridgePoint(number);
      const view = counterparty.view ?? this.state.holder?.view ?? this.state.counterparty!.view;
      const { sighash } = this.build(false, number, point, view);
      this.points.set(number, point);
      if (isFor(sighash)) this.publishable.push({ number, point, view });
      else this.answeredAnother = true;
    } else if (close) {
      if (isFor(closingSighash(this.identity, this.proposal, close))) this.closes.push(close);
    } else if (parts.fund) {
      this.fundingSigned = isFor(fundingOf(this.identity, this.proposal).sighashes[0]!);
    }
  }

  /** The signature by the shared key that an answer of kind A makes with the gateway's half. */
  completed({ id, scalar }: PartialSignature): Uint8Array {
    return complete(recordOf("A", id).completing, scalar);
  }

  /** Gateway's half of a signature that stays in the device. */
  half(sighash: Uint8Array, id = this.nextB++): AuthenticatedPartial {
    const whole = answerWithMac(recordOf("B", id).answering, sighash);
    return { id, scalar: whole.slice(0, 32), mac: whole.slice(32) };
  }

  build(ours: boolean, number: number, point: Uint8Array, view: CommitmentSpec): Commitment {
    const us = holderBasepoints(this.identity);
    const them = counterpartyBasepoints(this.proposal);
    const keys = ours
      ? deriveCommitmentKeys(nobleCurve, point, us, them)
      : deriveCommitmentKeys(nobleCurve, point, them, us);
    return commitmentOf(channelOf(this.identity, this.proposal), ours, number, keys, view);
  }

  holderPoint(number: number): Uint8Array {
    return this.box.context.pointOf(this.proposal.index, number);
  }

  /** A commitment of ours with all signatures that it needs. */
  holder(view: CommitmentSpec, number = (this.state.holder?.number ?? -1) + 1): Holder {
    const point = this.holderPoint(number);
    const commitment = this.build(true, number, point, view);
    const htlcKey = derivePrivateKey(BRIDGE.htlc.secret, BRIDGE.htlc.point, point);
    const anchor = view.htlcs.length === 0 ? anchorSighash(this.identity, commitment) : null;
    return {
      number,
      view,
      signature: nobleCurve.sign(commitment.sighash, BRIDGE.funding.secret),
      htlcSignatures: commitment.htlcs.map(htlc => nobleCurve.sign(htlc.sighash, htlcKey)),
      partial: this.half(commitment.sighash),
      ...(anchor ? { anchorPartial: this.half(anchor) } : {}),
    };
  }

  counterparty(view: CommitmentSpec, number = (this.state.counterparty?.number ?? -1) + 1) {
    return { number, point: bridgePoint(number), view };
  }

  /** The bridge gives the true secret of its commitment: whoever publishes it now loses everything. */
  revoked(number = this.state.counterparty!.number - 1) {
    this.publishable = this.publishable.filter(each => !equal(each.point, bridgePoint(number)));
    return { number, secret: bridgeSecret(number) };
  }

  // ── the honest way ────────────────────────────────────────────────────────────────────────────────────

  /** A state in which nothing is pending and the bridge owns `counterpartySat`; or with these HTLCs of ours. */
  view(counterpartySat = 0, htlcs: CommitmentSpec["htlcs"] = [], feeratePerKw = 1500): CommitmentSpec {
    const cost = commitmentFeeSat(feeratePerKw, htlcs.length) + 660;
    const inHtlcs = htlcs.reduce((sum, htlc) => sum + Math.floor(htlc.amountMsat / 1000), 0);
    return {
      feeratePerKw,
      holderSat: this.proposal.channelSat - counterpartySat - inHtlcs - cost,
      counterpartySat,
      htlcs,
    };
  }

  htlc(
    name: string,
    sat: number,
    changed: Partial<CommitmentSpec["htlcs"][number]> = {},
  ): CommitmentSpec["htlcs"][number] {
    return {
      paymentHash: sha256(this.preimage(name)),
      amountMsat: sat * 1000,
      cltvExpiry: HEIGHT + 80,
      ...changed,
    };
  }

  /** Both states of ours and the bridge's move on to this. */
  move(view: CommitmentSpec): void {
    if (this.step({ counterparty: this.counterparty(view) }).refused) return;
    this.step({ revoked: this.revoked(), holder: this.holder(view) });
  }

  open(): this {
    this.app("open");
    this.step({ proposal: this.proposal, counterparty: this.counterparty(this.view()) });
    this.step({ holder: this.holder(this.view()) });
    this.step({ fund: true });
    return this;
  }

  close(holderSat: number, counterpartySat: number): Stepped {
    return this.step({ close: { holderSat, counterpartySat, counterpartyScript: CLOSE_SCRIPT } });
  }

  // ── the damage ────────────────────────────────────────────────────────────────────────────────────────

  /** What has gone wrong so far, as the owner would see it; null if nothing has. */
  harm(): string | null {
    const { holder, parameters, books, counterparty } = this.state;
    if (this.reused) return "a record answered two messages";
    if (this.answeredAnother) return "an answer belongs to another question";
    if (this.fundingSigned && holder === null) return "no exit is held";
    if (this.isStranded) return "another payment was begun while one in flight could not come home";
    if (parameters === null || holder === null || parameters.funding === undefined) return null;
    try {
      exitIsValid(this.state, this.identity, true);
    } catch (error) {
      if (error instanceof Violation) return error.message;
      throw error;
    }
    if (this.secrets.has(toHex(this.box.context.secretOf(books.index, holder.number)))) {
      return "the secret of the exit was given away";
    }
    const { policy } = this.identity;
    for (const view of [holder.view, ...this.publishable.map(each => each.view)]) {
      const dustLimitSat =
        view === holder.view ? this.proposal.holderDustLimitSat : this.proposal.counterpartyDustLimitSat;
      const gain = view.counterpartySat + sumSat(view);
      const authorised = this.authorisedSat(view, dustLimitSat);
      const incoming = view.htlcs.filter(htlc => htlc.incoming).length;
      if (gain > authorised) return `the bridge could take ${gain - authorised} sat that nobody authorised`;
      const burnt = this.proposal.channelSat - view.holderSat - gain;
      const most =
        commitmentFeeSat(policy.maxFeeratePerKw, view.htlcs.length) + 660 + this.dustSat(dustLimitSat);
      if (burnt > most) return `${burnt - most} sat too much would go to the miners`;
      if (incoming > MAX_INCOMING) return `the bridge has ${incoming} HTLCs in our commitment`;
      for (const htlc of view.htlcs) {
        const payment = this.paymentOf(htlc.paymentHash);
        if (htlc.incoming) continue;
        if (!payment) return "an HTLC pays a hash that pay() never saw";
        if (htlc.cltvExpiry > payment.maxCltvExpiry) return "money is locked for longer than is allowed";
      }
      if (
        [view.holderSat, view.counterpartySat, ...view.htlcs.map(htlc => htlc.amountMsat / 1000)].some(isDust)
      ) {
        return "a commitment has an output that nobody relays";
      }
    }
    for (const { holderSat, counterpartySat } of this.closes) {
      const owed = this.proposal.channelSat - this.authorisedSat(holder.view, 354);
      if (holderSat < owed - policy.maxCloseFeeSat) return "a close pays us too little";
      if (counterpartySat > this.proposal.channelSat - owed) return "a close pays the bridge of what is ours";
      if (this.state.payments.some(each => each && !each.settled))
        return "it closes and leaves a payment open";
    }
    if (counterparty === null) return "the bridge's state is unknown";
    return this.unpunishable() ?? this.serviceHarm();
  }

  /** An HTLC in this exit does not come home: the bridge's signature on it is not valid. */
  private isStrandedIn({ holder, books }: ChannelState, box: Box): boolean {
    if (holder === null || holder.view.htlcs.length === 0 || books.index !== this.proposal.index)
      return false;
    const point = box.context.pointOf(books.index, holder.number);
    const { htlcs } = this.build(true, holder.number, point, holder.view);
    const htlcKey = derivePublicKey(nobleCurve, BRIDGE.htlc.point, point);
    return htlcs.some(
      ({ sighash }, i) =>
        !holder.htlcSignatures[i] || !nobleCurve.verify(holder.htlcSignatures[i], sighash, htlcKey),
    );
  }

  /** Every state that the bridge has revoked can be punished with what the device has kept. */
  private unpunishable(): string | null {
    const { counterparty, secrets } = this.state;
    const store = secretStore(counterparty!, secrets);
    for (let number = 0; number < store.count; number++) {
      const secret: Uint8Array | undefined = storedSecret(store, number);
      if (secret === undefined || !equal(nobleCurve.publicKey(secret), this.points.get(number)!))
        return `the bridge could publish its revoked state ${number}, and nobody could punish it`;
    }
    return null;
  }

  /** What is taken for the gateway's service is at most what it has earned, each time at least what is worth it. */
  private serviceHarm(): string | null {
    const { serviceFee } = this.identity;
    let leftMsat = 0;
    for (const payment of this.state.payments) {
      if (!payment || (payment.settled && !payment.preimage)) continue;
      if (!payment.settlement) {
        if (payment.preimage) leftMsat += serviceFeeMsat(serviceFee, payment.amountMsat);
      } else {
        leftMsat -= payment.settled ? payment.htlcMsat || payment.limitMsat : payment.limitMsat;
        if (payment.limitMsat < (serviceFee?.settleFromMsat ?? Number.POSITIVE_INFINITY))
          return "records are used for a fee that is not worth a payment";
      }
    }
    return leftMsat < 0 ? `the gateway takes ${-leftMsat} msat more than it has earned` : null;
  }

  private paymentOf(paymentHash: Uint8Array): Payment | undefined {
    return this.state.payments.find(each => each && equal(each.paymentHash, paymentHash)) ?? undefined;
  }

  /** What may have left us in this state: paid payments, HTLCs that are there, and dust. */
  private authorisedSat(view: CommitmentSpec, dustLimitSat: number): number {
    let sum = 0;
    for (const payment of this.authorised.values()) {
      if (payment.settled && !payment.preimage) continue;
      const limit = Math.ceil(payment.limitMsat / 1000);
      const visible = view.htlcs.filter(
        each => !each.incoming && equal(each.paymentHash, payment.paymentHash),
      );
      if (payment.preimage) sum += limit;
      else if (visible.length > 0) sum += Math.min(limit, sumSat({ ...view, htlcs: visible }));
      else if (payment.amountMsat < dustLimitSat * 1000) sum += Math.min(limit, dustLimitSat);
    }
    return sum;
  }

  private dustSat(dustLimitSat: number): number {
    let sum = 0;
    for (const payment of this.state.payments) {
      if (payment && payment.amountMsat < dustLimitSat * 1000) sum += Math.ceil(payment.limitMsat / 1000);
    }
    return sum;
  }
}

function isDust(sat: number): boolean {
  return sat > 0 && sat < 354;
}

function sumSat(view: CommitmentSpec): number {
  return view.htlcs.reduce((sum, htlc) => sum + Math.floor(htlc.amountMsat / 1000), 0);
}
