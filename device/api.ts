/** What an application on a board calls, and what it gets: `openDevice` (device.ts) gives a {@link Device}. */

/** A payment that has arrived. */
export interface Receipt {
  /** Payment hash and preimage, hex: SHA256(preimage) = hash proves the payment. */
  readonly hash: string;
  readonly preimage: string;
  readonly amountMsat: number;
  /** Routing fee paid on top. */
  readonly feeMsat: number;
  /** The gateway's fee for its service: owed from now on, and settled later. */
  readonly serviceFeeMsat: number;
  /** From `pay()` to the preimage. */
  readonly ms: number;
}

/** What `pay()` and `quote()` may be told. */
export interface PayOptions {
  /** Most that routing may cost; default: 1 % of the amount, at least 3,000 msat. */
  readonly maxFeeMsat?: number;
  /** When to give up waiting (`payment-pending`); the payment itself goes on, and `pay()` again joins it. */
  readonly timeoutMs?: number;
}

/** What a payment may cost at most: `amountMsat + maxFeeMsat + serviceFeeMsat`. */
export interface Quote {
  readonly amountMsat: number;
  readonly maxFeeMsat: number;
  readonly serviceFeeMsat: number;
}

/** What the device has, and how it stands. */
export interface Balance {
  /** Ours in the channel at rest, before the commitment fee, sat. */
  readonly balanceSat: number;
  /** What can be paid now, fees included, msat: also by what the bridge lets be in flight at a time. */
  readonly spendableMsat: number;
  /** Service fees of payments that have arrived, less what is settled; kept aside, msat. */
  readonly owedMsat: number;
  readonly phase: string;
  /** What the exits would pay of channels that have ended, sat. That they have is the gateway's word: the chain shows it. */
  readonly formerSat: number;
  readonly recordsLeft: { readonly A: number; readonly B: number; readonly H: number };
  /** Answers of the gateway's that were wrong: an alarm, as an honest one gives none. The third has locked the device. */
  readonly wrongAnswers: number;
  /** The bridge's signature on an HTLC was not valid: another alarm. Nothing more is paid from this channel: close it. */
  readonly badHtlcSignature: boolean;
}

/** What an application on the board calls. */
export interface Device {
  readonly id: string;
  /** Connects to the gateway and stays connected. Resolves with the first session. */
  connect(): Promise<void>;
  isConnected(): boolean;
  /**
   * Resolves when all that was paid is settled and the gateway has confirmed it (half a second after the receipt, if nothing
   * is slow): from then on the power may be cut. Without it the bridge closes the channel before the payment expires.
   */
  settled(): Promise<void>;
  /**
   * Asks for a channel funded from the deposit, and waits until it can be used. Asks again until the deposit is
   * there and the bridge opens it; why it does not is the owner's to see. Errors: `gateway-unreachable`,
   * `records-used-up`, `exits-kept`.
   */
  openChannel(): Promise<void>;
  /**
   * Pays a BOLT #11 invoice. Idempotent by payment hash: paid before, it resolves with the same receipt; under
   * way, it joins. Rejects with a stable code: `invoice-…` (malformed, wrong-network, amountless, expired, …),
   * `policy-…` (the owner's limits), `balance-too-low`, `records-used-up`, `gateway-unreachable`,
   * `channel-not-open`, `payment-…` and `no-route` (the gateway's word), `payment-pending` (not decided yet).
   */
  pay(invoice: string, options?: PayOptions): Promise<Receipt>;
  /** What `pay()` with the same arguments would cost. Throws `invoice-…` for what is not an invoice. */
  quote(invoice: string, options?: PayOptions): Quote;
  /** No payment is in flight, and both commitments say so. */
  isAtRest(): boolean;
  balance(): Balance;
  /** Asks for a mutual close to the owner's address. Resolves with the closing transaction's id when it is confirmed. */
  close(): Promise<{ txid: string }>;
  /**
   * The owner leaves without the gateway: the channel ends on this device for good, and its last state is given as text
   * (exit-text.ts) for `lngate device exit --from`. Again and again it gives the same. Throws `policy-close-state` where
   * there is no channel, `vault-rolled-back`.
   */
  exit(): string;
  /**
   * Forgets the exits of channels up to this number, which somebody has seen closed on the chain. Only the owner can know:
   * an exit that is forgotten while the gateway has lied leaves the money to its mercy.
   */
  forget(index: number): void;
  /**
   * Ends the connection, and resolves when it has ended: as soon as what was paid is settled, after two seconds at the latest,
   * and at once if it is called again. What is under way goes on at the next `connect()`; who waits for it here is told that
   * it is not decided (`payment-pending`), or `gateway-unreachable`.
   */
  disconnect(): Promise<void>;
}
