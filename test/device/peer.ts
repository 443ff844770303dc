/**
 * An honest gateway and an honest bridge in one, without LDK: the updates of BOLT #2 in their order, real commitments
 * and signatures of the bridge's, and the gateway's own DeviceSigner that turns what is to be signed into steps, over
 * its own record store. The gateway's power can fail at every write to that store, before and after what LDK would
 * store of a message that came in, and at every message that goes out. (With real LDK: test/gateway-cuts.)
 */

import { holderSigning } from "../../gateway/signer/checks/transactions.ts";
import { DeviceSigner } from "../../gateway/signer/device-signer.ts";
import type { SigningAnswer, SigningPart } from "../../gateway/signer/parts.ts";
import { openRecordStore } from "../../gateway/store/presignature-journal.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { concat, equal, toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, type DeviceKeys, holderBasepoints } from "../../src/channel/device-keys.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { channelOf, fundingOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import {
  type ChannelParameters,
  COUNTERPARTY,
  HOLDER,
  type Htlc,
  type Side,
} from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { buildCommitment, type Commitment, type CommitmentContent } from "../../src/lightning/commitment.ts";
import { type CommitmentKeys, deriveCommitmentKeys, derivePrivateKey } from "../../src/lightning/keys.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";
import type { ToDevice, ToGateway } from "../../src/messages/device.ts";
import type { RecordStore } from "../../src/threshold/records.ts";
import { type Cut, MemoryDisk, Power } from "../gateway-cuts/power.ts";
import { closingAmounts, commitmentContent } from "../lightning/balances.ts";
import { derived } from "./dealer.ts";
import { BRIDGE, type Charge, gatewayBatches, HEIGHT, proposalWith } from "./parties.ts";

/** What is to become of a payment. */
export interface Fate {
  readonly preimage: Uint8Array;
  readonly amountMsat: number;
  /** Routing fee on top. */
  readonly feeMsat: number;
  readonly fails?: boolean;
}

type Update = (
  | { readonly kind: "add"; readonly id: number; readonly htlc: Omit<Htlc, "offered"> }
  | { readonly kind: "settle" | "fail"; readonly id: number }
  | { readonly kind: "fee"; readonly feeratePerKw: number }
) & {
  readonly by: Side;
  /**
   * 1 signed into the other side's commitment, 2 that side has revoked the one before, 3 signed into the proposer's
   * own commitment, 4 the proposer has revoked: irrevocable.
   */
  stage: 0 | 1 | 2 | 3 | 4;
};

const KEYS_ID = derived("keys id");
const SEED = derived("bridge commitments");
const FEERATE = 1500;

export interface PeerOptions {
  readonly keys: DeviceKeys;
  readonly charge?: Charge;
  readonly proposal?: Partial<Proposal>;
  readonly fates: readonly Fate[];
  /** The gateway's power fails at these effects, counted over all of its boots, in rising order. */
  readonly cuts?: readonly Cut[];
  /** Decides what of an unsynced write is left. */
  readonly random?: () => number;
  send(message: ToDevice): void;
  /** ChannelSummary that stand between the device's wishes and what is offered to the bridge; without them there are none. */
  readonly books?: {
    received(message: Extract<ToGateway, { type: "pay" | "settling" }>): void;
    decided(fate: Fate, isPaid: boolean): void;
  };
}

/** All that the gateway's LDK and the bridge remember. */
const STORED = [
  "proposal",
  "offered",
  "closes",
  "closeSignatures",
  "funding",
  "holderNumber",
  "counterpartyNumber",
  "state",
  "updates",
  "parts",
  "points",
  "outcome",
  "awaitsTheirRevocation",
  "awaitsOurRevocation",
  "nextId",
] as const;

export class Peer {
  private signer!: DeviceSigner;
  private readonly disk = new MemoryDisk();
  private power = new Power();
  private countedEffects = 0;
  boots = 0;
  private outbox: ToDevice[] = [];
  readonly problems: string[] = [];
  proposal: Proposal;
  /** Payment hashes (hex) of HTLCs that were offered to the bridge, in order. */
  readonly offered: string[] = [];
  readonly closes: { readonly holderSat: number; readonly counterpartySat: number }[] = [];
  /** Our signatures of them. */
  readonly closeSignatures: Uint8Array[] = [];
  funding: readonly Uint8Array[] | null = null;
  /** Numbers of our newest commitment and of the bridge's. */
  holderNumber = -1;
  counterpartyNumber = -1;
  state: "none" | "opening" | "ready" | "closing" | "closed" = "none";
  private readonly options: PeerOptions;
  private updates: Update[] = [];
  private parts: SigningPart[] = [];
  /** Ids of revocations that this session's device was told of. */
  private readonly told = new Set<string>();
  private readonly points: Uint8Array[] = [];
  private readonly outcome = new Map<string, "under way" | "paid" | "failed">();
  private awaitsTheirRevocation = false;
  private awaitsOurRevocation = false;
  private nextId = 0;

  constructor(options: PeerOptions) {
    this.options = options;
    this.proposal = proposalWith(options.proposal);
    const records = this.openRecords(new Power());
    for (const batch of gatewayBatches(options.charge)) records.activate(batch);
    this.boot();
  }

  // ── power ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Writes, and messages sent, in all boots. */
  get effects(): number {
    return this.countedEffects + this.power.trace.length;
  }

  private openRecords(power: Power): RecordStore {
    return openRecordStore(
      "records",
      KEYS_ID,
      0,
      this.disk.poweredBy(power, this.options.random ?? (() => 0)),
    );
  }

  /** Starts with what is durable. The power may fail while it does. */
  private boot(): void {
    this.boots++;
    this.countedEffects = this.effects;
    this.power = new Power();
    const next = this.options.cuts?.find(cut => cut.effect >= this.countedEffects);
    this.power.plan(next && { at: next.at, effect: next.effect - this.countedEffects });
    const records = this.openRecords(this.power);
    if (!this.power.isOn) {
      this.boot();
      return;
    }
    this.signer = new DeviceSigner({
      keys: this.options.keys,
      records,
      channels: { proposal: () => this.proposal, isPresent: () => true },
      link: {
        isThere: true,
        send: step => {
          this.send(step);
          return true;
        },
      },
      answer: (_, answers) => this.answered(answers),
      problem: (code, sentence) => this.problems.push(`${code}: ${sentence}`),
      wrongAnswer: error => this.problems.push(`wrong answer: ${error.message}`),
    });
  }

  /** What comes of an event is stored, and then it is sent. False if the power has failed: all else is forgotten. */
  private powered(work: () => void): boolean {
    const before = this.options.cuts ? this.stored() : undefined;
    work();
    let isStored = false;
    this.power.effect("write state", () => {
      isStored = true;
    });
    if (!isStored) Object.assign(this, before);
    for (const message of this.outbox.splice(0)) this.power.effect("send", () => this.options.send(message));
    if (this.power.isOn) return true;
    this.boot();
    return false;
  }

  private stored(): object {
    return structuredClone(Object.fromEntries(STORED.map(name => [name, this[name]])));
  }

  private send(message: ToDevice): void {
    this.outbox.push(message);
  }

  /** Nothing is on the way and nothing is waited for. */
  get idle(): boolean {
    return this.parts.length === 0 && this.updates.every(update => update.stage === 4);
  }

  get channel(): ChannelParameters {
    return channelOf(this.options.keys, this.proposal);
  }

  /** False if the gateway's power has failed. */
  receive(message: ToGateway): boolean {
    return this.powered(() => this.take(message));
  }

  private take(message: ToGateway): void {
    switch (message.type) {
      case "hello":
        this.greeted(message);
        return;
      case "open":
        if (this.state !== "none" && this.state !== "closed") return;
        this.begin(message.index, message.points);
        return;
      case "pay":
        if (this.options.books) this.options.books.received(message);
        else this.pay(sha256(message.invoice.slice(0, 32)));
        return;
      case "stepped":
        this.signer.stepped(message);
        return;
      case "close":
        this.close();
        return;
      case "settling":
        if (this.options.books) this.options.books.received(message);
        else if (message.refused) this.problems.push(`no settlement: ${message.refused.code}`);
        else this.offer(this.fateOf(message.paymentHash));
        return;
    }
  }

  /** A new session: what was not answered is asked again. What became of a payment, the device asks itself. */
  private greeted(hello: Extract<ToGateway, { type: "hello" }>): void {
    this.signer.restart();
    this.signer.greeted(hello);
    if (this.state !== "none" && hello.index === this.proposal.index) this.tellState();
    this.told.clear();
    if (this.parts.length > 0) this.signer.ask(KEYS_ID, this.parts);
    for (const { id } of this.parts) this.told.add(id);
    this.pump();
  }

  private tellState(): void {
    const state = this.state === "opening" ? "opening" : this.state;
    this.send({ type: "channel", index: this.proposal.index, state });
  }

  private ask(part: SigningPart): void {
    if (part.kind !== "holder") this.tell();
    this.parts.push(part);
    this.signer.ask(KEYS_ID, [part]);
  }

  /** The device is told what it has not been told yet: with a question that it could not answer otherwise, and when nobody waits. */
  private tell(): void {
    const { untold } = this;
    if (untold.length === 0) return;
    for (const { id } of untold) this.told.add(id);
    this.signer.ask(KEYS_ID, untold);
  }

  private get untold(): SigningPart[] {
    return this.parts.filter(({ kind, id }) => kind === "revocation" && !this.told.has(id));
  }

  /** Nothing happens any more. False if the gateway's power has failed. */
  rest(): boolean {
    return this.untold.length === 0 || this.powered(() => this.tell());
  }

  // ── opening ───────────────────────────────────────────────────────────────────────────────────────────

  private begin(index: number, points: readonly Uint8Array[]): void {
    this.state = "opening";
    this.proposal = { ...this.proposal, index };
    this.points.splice(0, this.points.length, ...points);
    this.updates = [];
    this.holderNumber = -1;
    this.counterpartyNumber = -1;
    this.signCounterparty();
  }

  // ── payments ──────────────────────────────────────────────────────────────────────────────────────────

  private fateOf(paymentHash: Uint8Array): Fate {
    const fate = this.options.fates.find(each => equal(sha256(each.preimage), paymentHash));
    if (!fate) throw lngateError("no-fate", `nobody knows the payment ${toHex(paymentHash)}`);
    return fate;
  }

  private pay(hashOfInvoice: Uint8Array): void {
    const fate = this.options.fates.find(each => equal(sha256(sha256(each.preimage)), hashOfInvoice));
    if (!fate) throw lngateError("no-fate", "nobody knows this invoice");
    this.offer(fate);
  }

  /** Asks for the service fee that is owed. False if the gateway's power has failed. */
  settle(fate: Fate): boolean {
    const { amountMsat, feeMsat } = fate;
    const paymentHash = sha256(fate.preimage);
    return this.powered(() => this.send({ type: "settle", paymentHash, amountMsat, maxFeeMsat: feeMsat }));
  }

  /** Pays through the bridge, once for ever. */
  offer(fate: Fate): void {
    const paymentHash = sha256(fate.preimage);
    const known = this.outcome.get(toHex(paymentHash));
    if (known) {
      this.report(fate);
      return;
    }
    this.outcome.set(toHex(paymentHash), "under way");
    this.offered.push(toHex(paymentHash));
    const htlc = { amountMsat: fate.amountMsat + fate.feeMsat, cltvExpiry: HEIGHT + 80, paymentHash };
    this.updates.push({ kind: "add", id: this.nextId++, htlc, by: HOLDER, stage: 0 });
    this.pump();
  }

  /** What has become of a payment that was offered. */
  outcomeOf({ preimage }: Fate): "under way" | "paid" | "failed" | undefined {
    return this.outcome.get(toHex(sha256(preimage)));
  }

  private report(fate: Fate): void {
    const paymentHash = sha256(fate.preimage);
    const known = this.outcomeOf(fate);
    if (this.options.books) {
      if (known === "paid" || known === "failed") this.options.books.decided(fate, known === "paid");
      return;
    }
    if (known === "paid") {
      this.send({ type: "paid", preimage: fate.preimage });
    } else if (known === "failed") {
      this.tell();
      this.send({
        type: "failed",
        paymentHash,
        code: "payment-rejected",
        sentence: "the payee said no",
      });
    }
  }

  /** False if the gateway's power has failed. */
  changeFeerate(feeratePerKw: number): boolean {
    this.updates.push({ kind: "fee", feeratePerKw, by: HOLDER, stage: 0 });
    return this.powered(() => this.pump());
  }

  /** An HTLC that nobody asked for, if the bridge has so much. False if the gateway's power has failed. */
  offerToUs(amountMsat: number, name: string): boolean {
    if (this.balances(COUNTERPARTY).counterpartyMsat < amountMsat) return true;
    const htlc = { amountMsat, cltvExpiry: HEIGHT + 40, paymentHash: derived(name) };
    this.updates.push({ kind: "add", id: this.nextId++, htlc, by: COUNTERPARTY, stage: 0 });
    return this.powered(() => this.pump());
  }

  // ── commitments ───────────────────────────────────────────────────────────────────────────────────────

  /** Who has something new to sign, and is not waiting for the other side's revocation, signs. */
  private pump(): void {
    const has = (by: Side, stage: number) =>
      this.updates.some(each => each.by === by && each.stage === stage);
    if (!this.awaitsOurRevocation && (has(COUNTERPARTY, 0) || has(HOLDER, 2))) this.bridgeSigns();
    if (!this.awaitsTheirRevocation && (has(HOLDER, 0) || has(COUNTERPARTY, 2))) this.signCounterparty();
  }

  private advance(by: Side, from: 0 | 1 | 2 | 3): Update[] {
    const moved = this.updates.filter(each => each.by === by && each.stage === from);
    for (const update of moved) update.stage = (from + 1) as Update["stage"];
    return moved;
  }

  /** LDK asks for our signature of the bridge's next commitment. */
  private signCounterparty(): void {
    this.advance(HOLDER, 0);
    this.advance(COUNTERPARTY, 2);
    const number = ++this.counterpartyNumber;
    this.awaitsTheirRevocation = number > 0;
    const content = this.content(COUNTERPARTY);
    const { commitment, keys } = this.build(COUNTERPARTY, number, content);
    this.ask({
      kind: "counterparty",
      id: `counterparty/${number}`,
      number,
      point: bridgePoint(number),
      content,
      ...(isHandedOn(number) ? { signing: { sighash: commitment.sighash, keys } } : {}),
    });
  }

  /** The bridge signs our next commitment; LDK takes the revocation of the one before as given. */
  private bridgeSigns(): void {
    const fulfilled = this.advance(COUNTERPARTY, 0).flatMap(update =>
      update.kind === "settle" ? [this.htlcOf(update.id)] : [],
    );
    this.advance(HOLDER, 2);
    const number = ++this.holderNumber;
    this.awaitsOurRevocation = number > 0;
    const content = this.content(HOLDER);
    const { commitment } = this.build(HOLDER, number, content);
    const point = this.points[number]!;
    const htlcKey = derivePrivateKey(BRIDGE.htlc.secret, BRIDGE.htlc.point, point);
    this.ask({
      kind: "holder",
      id: `holder/${number}`,
      number,
      point,
      content,
      counterpartySignature: nobleCurve.sign(commitment.sighash, BRIDGE.funding.secret),
      counterpartyHtlcSignatures: commitment.htlcs.map(htlc => nobleCurve.sign(htlc.sighash, htlcKey)),
      preimages: fulfilled
        .filter(htlc => htlc.amountMsat >= this.proposal.holderDustLimitSat * 1000)
        .map(htlc => this.fateOf(htlc.paymentHash).preimage),
      ...(isHandedOn(number) ? { signing: holderSigning(commitment, this.options.keys.shutdownScript) } : {}),
    });
    this.advance(COUNTERPARTY, 1);
  }

  private answered(answers: readonly SigningAnswer[]): void {
    for (const answer of answers) {
      const part = this.parts.find(each => each.id === answer.id);
      if (!part) continue;
      this.parts = this.parts.filter(each => each !== part);
      if (answer.refused !== undefined) {
        this.problems.push(`refused ${part.id}: ${answer.refused}`);
        continue;
      }
      for (const { number, point } of answer.points ?? []) this.points[number] = point;
      if (part.kind === "holder") this.holderAnswered(part.number, answer);
      else if (part.kind === "counterparty") this.counterpartyAnswered(part.number, part.content, answer);
      else if (part.kind === "funding") this.funded(answer);
      else if (part.kind === "closing") this.closeAnswered(answer);
    }
    this.pump();
  }

  private holderAnswered(number: number, answer: SigningAnswer): void {
    if (number === 0) {
      const { transaction, sighashes } = fundingOf(this.options.keys, this.proposal);
      this.ask({
        kind: "funding",
        id: "funding",
        transaction: new Uint8Array(),
        inputs: transaction.inputs.map(() => null!),
        sighashes,
      });
      return;
    }
    const point = answer.secret && nobleCurve.publicKey(answer.secret);
    must(point && equal(point, this.points[number - 1]!), `the secret of our commitment ${number - 1}`);
    this.awaitsOurRevocation = false;
    // Now the bridge has it: what we proposed is irrevocable, and HTLCs go on to the payee.
    for (const update of this.advance(HOLDER, 3)) {
      if (update.kind !== "add") continue;
      const fate = this.fateOf(update.htlc.paymentHash);
      this.updates.push({
        kind: fate.fails ? "fail" : "settle",
        id: update.id,
        by: COUNTERPARTY,
        stage: 0,
      });
      if (fate.fails) continue;
      this.outcome.set(toHex(update.htlc.paymentHash), "paid");
      this.report(fate);
    }
  }

  private counterpartyAnswered(number: number, content: CommitmentContent, answer: SigningAnswer): void {
    const { commitment, keys } = this.build(COUNTERPARTY, number, content);
    const [signature, ...htlcSignatures] = answer.signatures ?? [];
    const { fundingKey } = this.options.keys;
    must(signature && nobleCurve.verify(signature, commitment.sighash, fundingKey), `commitment ${number}`);
    must(htlcSignatures.length === commitment.htlcs.length, `HTLC signatures of commitment ${number}`);
    commitment.htlcs.forEach((htlc, i) => {
      const valid = nobleCurve.verify(htlcSignatures[i]!, htlc.sighash, keys.countersignatoryHtlc);
      must(valid, `HTLC signature ${i} of commitment ${number}`);
    });
    if (number === 0) {
      this.bridgeSigns();
      return;
    }
    this.awaitsTheirRevocation = false;
    this.advance(HOLDER, 1);
    this.parts.push({
      kind: "revocation",
      id: `revocation/${number - 1}`,
      number: number - 1,
      secret: commitmentSecret(SEED, number - 1),
      nextPoint: bridgePoint(number + 1),
    });
    // As the gateway does it, and every third one as one that puts it into any step.
    if (number % 3 === 0) this.tell();
    for (const update of this.advance(COUNTERPARTY, 3)) {
      if (update.kind === "add") {
        this.updates.push({ kind: "fail", id: update.id, by: HOLDER, stage: 0 });
      } else if (update.kind === "fail") {
        const { paymentHash } = this.htlcOf(update.id);
        this.outcome.set(toHex(paymentHash), "failed");
        this.report(this.fateOf(paymentHash));
      }
    }
  }

  private htlcOf(id: number): Omit<Htlc, "offered"> {
    for (const update of this.updates) if (update.kind === "add" && update.id === id) return update.htlc;
    throw lngateError("no-htlc", `there never was an HTLC ${id}`);
  }

  /** What the next commitment of one side is about. */
  balances(side: Side) {
    const counts = ({ by, stage }: Update) => (by === side ? stage >= 3 : stage >= 1);
    let feeratePerKw = FEERATE;
    let holderMsat = this.proposal.channelSat * 1000;
    let counterpartyMsat = 0;
    let pending: { id: number; by: Side; htlc: Omit<Htlc, "offered"> }[] = [];
    for (const update of this.updates.filter(counts)) {
      if (update.kind === "fee") feeratePerKw = update.feeratePerKw;
      else if (update.kind === "add") {
        pending.push(update);
        if (update.by === HOLDER) holderMsat -= update.htlc.amountMsat;
        else counterpartyMsat -= update.htlc.amountMsat;
      } else {
        const { by, htlc } = pending.find(each => each.id === update.id)!;
        pending = pending.filter(each => each.id !== update.id);
        // Settled it goes to the other side, failed it comes back.
        if ((by === HOLDER) === (update.kind === "fail")) holderMsat += htlc.amountMsat;
        else counterpartyMsat += htlc.amountMsat;
      }
    }
    return { feeratePerKw, holderMsat, counterpartyMsat, pending };
  }

  private content(side: Side): CommitmentContent {
    const { feeratePerKw, holderMsat, counterpartyMsat, pending } = this.balances(side);
    const { holder, counterparty } = this.channel;
    return commitmentContent(
      {
        feeratePerKw,
        toBroadcasterMsat: side === HOLDER ? holderMsat : counterpartyMsat,
        toCountersignatoryMsat: side === HOLDER ? counterpartyMsat : holderMsat,
        htlcs: pending.map(({ by, htlc }) => ({ ...htlc, offered: by === side })),
      },
      (side === HOLDER ? holder : counterparty).dustLimitSat,
      side === HOLDER,
    );
  }

  private build(
    side: Side,
    number: number,
    content: CommitmentContent,
  ): { commitment: Commitment; keys: CommitmentKeys } {
    const us = holderBasepoints(this.options.keys);
    const them = counterpartyBasepoints(this.proposal);
    const keys =
      side === HOLDER
        ? deriveCommitmentKeys(nobleCurve, this.points[number]!, us, them)
        : deriveCommitmentKeys(nobleCurve, bridgePoint(number), them, us);
    return { commitment: buildCommitment(this.channel, side, number, keys, content), keys };
  }

  private funded(answer: SigningAnswer): void {
    const { sighashes } = fundingOf(this.options.keys, this.proposal);
    const signatures = answer.signatures ?? [];
    const { fundingKey } = this.options.keys;
    sighashes.forEach((sighash, i) => {
      must(signatures[i] && nobleCurve.verify(signatures[i], sighash, fundingKey), `funding signature ${i}`);
    });
    this.funding = signatures;
    this.state = "ready";
    this.tellState();
  }

  // ── closing ───────────────────────────────────────────────────────────────────────────────────────────

  private close(): void {
    if (this.state !== "ready") return;
    this.state = "closing";
    this.askClose(900);
  }

  private askClose(feeSat: number): void {
    const { holderMsat, counterpartyMsat } = this.balances(HOLDER);
    const { holderSat, counterpartySat } = closingAmounts(this.channel, holderMsat, counterpartyMsat, feeSat);
    this.closes.push({ holderSat, counterpartySat });
    this.ask({
      kind: "closing",
      id: `closing/${feeSat}`,
      toHolderSat: holderSat,
      toCounterpartySat: counterpartySat,
      holderScript: this.options.keys.shutdownScript,
      counterpartyScript: CLOSE_SCRIPT,
      sighash: this.closingSighash({ holderSat, counterpartySat }),
    });
  }

  private closingSighash(amounts: { holderSat: number; counterpartySat: number }): Uint8Array {
    const holderScript = this.options.keys.shutdownScript;
    return buildClosing(this.channel, { ...amounts, holderScript, counterpartyScript: CLOSE_SCRIPT }).sighash;
  }

  private closeAnswered(answer: SigningAnswer): void {
    const sighash = this.closingSighash(this.closes[this.closes.length - 1]!);
    const signature = answer.signatures?.[0];
    must(signature && nobleCurve.verify(signature, sighash, this.options.keys.fundingKey), "the close");
    this.closeSignatures.push(signature);
    // LDK asks twice, with different fees.
    if (this.closes.length === 1) {
      this.askClose(1200);
      return;
    }
    this.state = "closed";
    this.tellState();
  }
}

export const CLOSE_SCRIPT = p2wpkh(BRIDGE.close.point);

export function bridgePoint(number: number): Uint8Array {
  return nobleCurve.publicKey(commitmentSecret(SEED, number));
}
export function bridgeSecret(number: number): Uint8Array {
  return commitmentSecret(SEED, number);
}

/** The invoice of a payment in this world: what the payee hashes its preimage to, and more. */
export function invoiceOf(fate: Fate): Uint8Array {
  return concat([sha256(fate.preimage), new Uint8Array(200)]);
}

/** Every other state is asked for as by a gateway that has stored it without what is to be signed of it. */
function isHandedOn(number: number): boolean {
  return number % 2 === 1;
}

function must(holds: unknown, what: string): asserts holds {
  if (!holds) throw lngateError("bridge-not-satisfied", `the bridge got ${what} that is not valid`);
}
