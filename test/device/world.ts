/**
 * A whole world in one process and without a clock: the device in its box, an honest gateway and bridge, and what is on
 * the way between them. A scenario is a list of wishes; the world goes on until each is fulfilled, whatever fails.
 */
import type { PaymentOrder } from "../../device/channel/payments/paying.ts";
import { knownPayment } from "../../device/channel/payments/remembered.ts";
import { type ChannelState, readState } from "../../device/channel/state.ts";
import type { SpendingPolicy } from "../../device/identity.ts";
import { openVault } from "../../device/vault/vault.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { type Curve, nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { type ToGateway, toDevice } from "../../src/messages/device.ts";
import type { Cut as GatewayCut } from "../gateway-cuts/power.ts";
import { Auditor, Violation } from "./audit.ts";
import { Box, type Cut } from "./box.ts";
import { derived } from "./dealer.ts";
import { type Charge, chargedFlash, chip, HEIGHT, identityWith, NOW_MS } from "./parties.ts";
import { type Fate, invoiceOf, Peer } from "./peer.ts";

/** What the application, the gateway or the bridge wishes. */
export type Wish =
  | { readonly wish: "open" | "close" }
  /** Several are asked for at once. */
  | { readonly wish: "pay"; readonly names: readonly string[] }
  /** The gateway wants its fee, by the name of the payment. */
  | { readonly wish: "settle"; readonly name: string }
  | { readonly wish: "feerate"; readonly feeratePerKw: number }
  | { readonly wish: "incoming"; readonly amountMsat: number; readonly name: string };

export interface WorldOptions {
  readonly cuts?: readonly Cut[];
  readonly gatewayCuts?: readonly GatewayCut[];
  /** Decides how a cut tears, what is lost and what comes first. Without it nothing is lost, all comes in order. */
  readonly random?: () => number;
  /** Probability that the session breaks when a message is to arrive, and that a message arrives twice. */
  readonly breaks?: number;
  readonly repeats?: number;
  readonly curve?: Curve | null;
  readonly policy?: Partial<SpendingPolicy>;
  readonly charge?: Charge;
  readonly proposal?: Partial<Proposal>;
  /** Check the exit after every single operation of the flash. */
  readonly everyOperation?: boolean;
  /** Sees every state that is in flash from now on. */
  watch?(state: ChannelState, box: Box): void;
}

/** Payments by name. Where a name ends in "fails" the payee refuses. */
export const FATES: { readonly [name: string]: Fate } = {
  toll: fate("toll", 2_000_000, 3_000),
  "this fails": { ...fate("this fails", 1_500_000, 1_000), fails: true },
  dust: fate("dust", 100_000, 500),
  "dust that fails": { ...fate("dust that fails", 120_500, 0), fails: true },
  halfDust: fate("halfDust", 450_000, 0),
  one: fate("one", 900_001, 2_345),
  two: fate("two", 1_100_000, 0),
  three: fate("three", 700_999, 1),
  fee: fate("fee", 700_000, 1_500),
};

/** What the gateway of this world takes: so much that a single toll leads to a settlement that can be seen. */
const SERVICE_FEE = { ratePpm: 400_000, baseMsat: 7, settleFromMsat: 700_000, creditMsat: 5_000_000 };

function fate(name: string, amountMsat: number, feeMsat: number): Fate {
  return { preimage: derived(`preimage ${name}`), amountMsat, feeMsat };
}

/** Everything that can happen to a channel, once. */
export const LIFE: readonly Wish[] = [
  { wish: "open" },
  { wish: "pay", names: ["toll"] },
  { wish: "pay", names: ["this fails"] },
  { wish: "pay", names: ["dust"] },
  { wish: "feerate", feeratePerKw: 1800 },
  { wish: "pay", names: ["one", "two", "halfDust"] },
  { wish: "settle", name: "fee" },
  { wish: "incoming", amountMsat: 0, name: "unasked" },
  { wish: "close" },
];

/** The shortest life with a payment in it. */
export const SHORT_LIFE: readonly Wish[] = [
  { wish: "open" },
  { wish: "pay", names: ["toll"] },
  { wish: "close" },
];

export class World {
  readonly box: Box;
  readonly peer: Peer;
  readonly auditor = new Auditor();
  private readonly options: WorldOptions;
  private toDevice: Uint8Array[] = [];
  private toPeer: ToGateway[] = [];
  private session = 0;
  readOuts = 0;
  /** Messages and their bytes, as they came out of the device or arrived at it. */
  readonly traffic: { readonly up: number[]; readonly down: number[] } = { up: [], down: [] };

  constructor(options: WorldOptions = {}) {
    this.options = options;
    const identity = identityWith(options.policy, SERVICE_FEE);
    this.peer = new Peer({
      keys: identity,
      fates: Object.values(FATES),
      ...(options.charge ? { charge: options.charge } : {}),
      ...(options.proposal ? { proposal: options.proposal } : {}),
      ...(options.gatewayCuts ? { cuts: options.gatewayCuts } : {}),
      ...(options.random ? { random: options.random } : {}),
      send: message => {
        this.auditor.gave(message);
        const encoded = toDevice.encode(message);
        this.traffic.down.push(encoded.length);
        this.toDevice.push(encoded);
      },
    });
    this.box = new Box({
      image: chargedFlash(options.policy, options.charge, SERVICE_FEE),
      curve: options.curve === undefined ? nobleCurve : options.curve,
      ...(options.cuts ? { cuts: options.cuts } : {}),
      ...(options.random ? { random: options.random } : {}),
      onSend: (message, encoded) => {
        this.traffic.up.push(encoded.length);
        this.auditor.sent(message, this.box.flash.image());
      },
      onPersisted: (state, box) => {
        this.auditor.state(state, identity);
        options.watch?.(state, box);
      },
      ...(options.everyOperation ? { onOperation: flash => this.readOut(flash.image()) } : {}),
    });
  }

  /** What the owner finds who takes the chip out at this instant. */
  private readOut(image: Uint8Array): void {
    const vault = openVault(chip(image));
    this.auditor.state(readState(vault.journal), vault.identity);
    this.readOuts++;
  }

  /** Fulfils the wishes one after the other. Throws a Violation if something must not be, or if it gets stuck. */
  live(wishes: readonly Wish[]): this {
    this.connect();
    for (const wish of wishes) this.fulfil(wish);
    if (this.peer.problems.length > 0) throw new Violation(this.peer.problems.join("; "));
    return this;
  }

  private fulfil(wish: Wish): void {
    if (wish.wish === "feerate") this.inGateway(() => this.peer.changeFeerate(wish.feeratePerKw));
    if (wish.wish === "incoming")
      this.inGateway(() => this.peer.offerToUs(wish.amountMsat || 600_000, wish.name));
    for (let tries = 0; !this.isFulfilled(wish); tries++) {
      if (tries > 20)
        throw new Violation(`stuck at ${JSON.stringify(wish)}: ${this.peer.problems.join("; ")}`);
      this.urge(wish);
      this.settle();
    }
  }

  private isFulfilled(wish: Wish): boolean {
    const { state } = this.box;
    if (!this.peer.idle || this.toDevice.length + this.toPeer.length > 0) return false;
    switch (wish.wish) {
      case "open":
        return state.books.phase === "open" && this.peer.state === "ready";
      case "close":
        return state.books.phase === "none" && this.peer.state === "closed";
      case "pay":
        return wish.names.every(name => knownPayment(state, sha256(FATES[name]!.preimage))?.settled);
      case "settle": {
        const { preimage, amountMsat, feeMsat } = FATES[wish.name]!;
        const known = knownPayment(state, sha256(preimage));
        // Before so much is owed an honest gateway does not ask.
        return known ? known.settled === true : state.books.owedMsat < amountMsat + feeMsat;
      }
      default:
        return true;
    }
  }

  /** The application asks, or asks again. */
  private urge(wish: Wish): void {
    const { state } = this.box;
    if (wish.wish === "open" && state.books.phase === "none") this.run(() => this.box.run({ type: "open" }));
    if (wish.wish === "close" && (state.books.phase === "open" || state.books.phase === "closing")) {
      this.run(() => this.box.run({ type: "close" }));
    }
    if (wish.wish === "settle") this.inGateway(() => this.peer.settle(FATES[wish.name]!));
    if (wish.wish !== "pay") return;
    for (const name of wish.names) {
      const order = orderOf(FATES[name]!);
      if (knownPayment(this.box.state, order.paymentHash)) continue;
      this.run(() => this.box.run({ type: "pay", order }));
    }
  }

  /** Messages arrive until none is left, and nothing that is to be told. */
  private settle(): void {
    this.deliver();
    this.inGateway(() => this.peer.rest());
    this.deliver();
  }

  private deliver(): void {
    for (let count = 0; this.toDevice.length + this.toPeer.length > 0; count++) {
      if (count > 10_000) throw new Violation("the two talk for ever");
      if (this.happens(this.options.breaks)) this.breakSession();
      const up = this.toPeer.length > 0 && (this.toDevice.length === 0 || this.happens(0.5));
      if (up) this.inGateway(() => this.peer.receive(this.toPeer.shift()!));
      else if (this.toDevice.length > 0) {
        const message = this.toDevice.shift()!;
        const before = this.session;
        this.run(() => this.box.receive(message));
        if (this.session === before && this.happens(this.options.repeats))
          this.run(() => this.box.receive(message));
      }
    }
  }

  /** Lets the device do something; what it sent is on its way. A power cut ends the session. */
  private run(step: () => boolean): void {
    const survived = step();
    this.toPeer.push(...this.box.takeSent());
    if (!survived) this.breakSession();
  }

  /** Lets the gateway do something. A power cut ends the session; what was on the way to the device may still arrive. */
  private inGateway(step: () => boolean): void {
    if (step()) return;
    while (this.toDevice.length > 0 && this.happens(0.5)) {
      const message = this.toDevice.shift()!;
      this.run(() => this.box.receive(message));
    }
    this.toPeer = [];
    this.breakSession();
  }

  /** What was on the way is lost, the last messages to the gateway perhaps not. Then a new session begins. */
  private breakSession(): void {
    this.toDevice = [];
    while (this.toPeer.length > 0) {
      const message = this.toPeer.shift()!;
      if (!this.happens(0.5) || !this.peer.receive(message)) this.toPeer = [];
    }
    this.toDevice = [];
    this.connect();
  }

  private connect(): void {
    this.session++;
    this.run(() => this.box.run({ type: "connected", generation: this.box.vault.journal.generation }));
  }

  private happens(probability = 0): boolean {
    return this.options.random !== undefined && this.options.random() < probability;
  }

  /** How it ended: the same for every run of the same wishes. */
  outcome() {
    const { books, payments } = this.box.state;
    return {
      phase: books.phase,
      index: books.index,
      baseSat: books.baseSat,
      hourMsat: books.hour.spentMsat,
      owedMsat: books.owedMsat,
      payments: payments.map(each => {
        return (
          each && {
            hash: toHex(each.paymentHash),
            paid: !!each.preimage,
            settled: !!each.settled,
            fee: each.feeMsat,
          }
        );
      }),
      offered: [...this.peer.offered].sort(),
      closes: Array.from(this.peer.closes, ({ holderSat, counterpartySat }) => ({
        holderSat,
        counterpartySat,
      })),
    };
  }
}

export function orderOf(fate: Fate): PaymentOrder {
  return {
    paymentHash: sha256(fate.preimage),
    amountMsat: fate.amountMsat,
    maxFeeMsat: 5_000,
    payee: null,
    maxCltvExpiry: HEIGHT + 2016,
    expiresAt: NOW_MS / 1000 + 3600,
    invoice: invoiceOf(fate),
  };
}
