/**
 * What device and gateway say to each other once a session is up (docs/wire.md has the table).
 *
 * Everything is idempotent: each side may repeat its last message after a timeout, a restart or a reconnect.
 * Commitments are numbered from 0 upwards.
 */
import {
  bool,
  bytes,
  bytesUpTo,
  list,
  message,
  optional,
  protocol,
  struct,
  text,
  UINT16,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
  words,
} from "../bytes/schema.ts";
import {
  closeCodec,
  htlcCodec,
  MAX_DEPOSITS,
  MAX_HTLCS,
  proposalCodec,
  viewCodec,
} from "../channel/terms.ts";

/** Longest message on a device's link. */
export const MAX_MESSAGE_BYTES = 4096;

const hash = bytes(32);
const point = bytes(33);
const signature = bytes(64);

/** One presignature's online message: s2 = w·z + v for record `id` (docs/threshold.md). */
export const partialCodec = struct({ id: [1, uint(UINT32)], scalar: [2, bytes(32)] });

/**
 * The gateway's half of a signature that stays in the device (kind B), and the low half of its MAC: the device takes
 * no answer that it cannot check.
 */
const authenticatedCodec = struct({
  id: [1, uint(UINT32)],
  scalar: [2, bytes(32)],
  mac: [3, bytes(16)],
});

/** What was refused, and why. */
const refusalCodec = struct({ code: [1, text(64)], sentence: [2, words(200)] });

/** A partial for one input, or for one transaction. */
const signedCodec = struct({
  partials: [1, list(partialCodec, MAX_DEPOSITS)],
  /** Complete signatures with our HTLC key, one per HTLC of the bridge's commitment, in output order. */
  htlcSignatures: optional([2, list(signature, MAX_HTLCS)]),
});

/**
 * Outputs of a commitment that the bridge has published, spent together into the owner's script. With `secret` the
 * commitment was revoked, and the output is its to_local or the HTLC; without, the HTLC is one of ours that timed out.
 */
const spendCodec = struct({
  /** Number of the channel. */
  index: [1, uint(UINT32)],
  /** The commitment's point, and its secret if the bridge has revoked it. */
  point: [2, point],
  secret: optional([3, bytes(32)]),
  htlc: optional([4, htlcCodec]),
  inputs: [
    5,
    list(struct({ txid: [1, hash], vout: [2, uint(UINT32)], sequence: [3, uint(UINT32)] }), 2 * MAX_HTLCS),
  ],
  /** Which of the inputs is to be signed, and its value. */
  input: [6, uint(UINT16)],
  amountSat: [7, uint(UINT53)],
  /** What the owner gets. */
  valueSat: [8, uint(UINT53)],
  locktime: [9, uint(UINT32)],
});

// ── device → gateway ─────────────────────────────────────────────────────────────────────────────────────

/** First message of a session: where the device stands. */
const hello = message(1, "hello", {
  /** How often this flash was written: a smaller number than last time means an old image. */
  generation: [1, uint(UINT53)],
  phase: [2, text(16)],
  index: [3, uint(UINT32)],
  /** Newest numbers, where a channel exists. */
  holderNumber: optional([4, uint(UINT53)]),
  counterpartyNumber: optional([5, uint(UINT53)]),
  /** Unused records of kinds A, B and H. */
  recordsLeft: [6, list(uint(UINT32), 3)],
  /** The device has no curve: it has to be told the keys inside the bridge's commitments. */
  curveless: optional([7, bool()]),
  /** The device's clock, Unix seconds: its owner wants to know if it is wrong. */
  clock: optional([8, uint(UINT53)]),
  /** What the owner's policy says of commitments and fundings: the gateway is to lead to none that would be refused. */
  bounds: optional([
    9,
    struct({
      minFeeratePerKw: [1, uint(UINT32)],
      maxFeeratePerKw: [2, uint(UINT32)],
      maxCloseFeeSat: [3, uint(UINT53)],
    }),
  ]),
});

/** Asks for a channel to be funded from the deposit, with the first commitment points of channel `index`. */
const open = message(2, "open", { index: [1, uint(UINT32)], points: [2, list(point, 8)] });

/** Asks for a payment. The invoice is packed (BOLT #11 without its checksum characters). */
const pay = message(3, "pay", {
  invoice: [1, bytesUpTo(1400)],
  maxFeeMsat: [2, uint(UINT53)],
  /** How often this invoice was authorised before, and failed; absent: never. The same number is the same payment. */
  attempt: optional([3, uint(UINT32)]),
  /** Highest expiry that an HTLC of this payment may have, block height: reckoned by the device's own clock. */
  maxCltvExpiry: optional([4, uint(UINT32)]),
});

/** Answers a `step`. */
const stepped = message(4, "stepped", {
  id: [1, uint(UINT32)],
  /** Per-commitment secret of the holder commitment before the one in the step. */
  secret: optional([2, bytes(32)]),
  /** A commitment point further on. */
  point: optional([3, struct({ number: [1, uint(UINT53)], point: [2, point] })]),
  signed: optional([4, signedCodec]),
  /** The step, or what is left of it, was refused: the code and a sentence. */
  refused: optional([5, refusalCodec]),
  /** Answers `forceClose` or `spend`: a complete signature. */
  completeSignature: optional([6, signature]),
});

/** Asks for a mutual close. */
const close = message(5, "close", {});

/** Answers `settle`: the payment is authorised, the gateway may make it; or it is not, and why. */
const settling = message(6, "settling", {
  paymentHash: [1, hash],
  refused: optional([2, refusalCodec]),
  /** As in `pay`. */
  maxCltvExpiry: optional([3, uint(UINT32)]),
});

// ── gateway → device ─────────────────────────────────────────────────────────────────────────────────────

/**
 * The channel moves on. The parts that are there are processed in this order; the first that is refused ends
 * the step, and `stepped` carries the answers to those before it.
 */
const step = message(16, "step", {
  id: [1, uint(UINT32)],
  /** The bridge's per-commitment secret of its commitment `number`, and its point for commitment number + 2. */
  revoked: optional([
    2,
    struct({ number: [1, uint(UINT53)], secret: [2, bytes(32)], nextPoint: optional([3, point]) }),
  ]),
  proposal: optional([3, proposalCodec]),
  /**
   * A new commitment of ours, signed by the bridge. `view` is absent where it is that of the bridge's newest
   * commitment. The partials (kind B) finish our own signature and, where no HTLC is pending, the anchor's.
   */
  holder: optional([
    4,
    struct({
      number: [1, uint(UINT53)],
      view: optional([2, viewCodec]),
      signature: [3, signature],
      htlcSignatures: optional([4, list(signature, MAX_HTLCS)]),
      partial: [5, authenticatedCodec],
      anchorPartial: optional([6, authenticatedCodec]),
    }),
  ]),
  /**
   * A new commitment of the bridge's to sign. `view` is absent where it is that of our newest commitment, `point`
   * where it came with a revocation. `keys` are for a device without a curve, which cannot derive them: revocation,
   * delayed, the bridge's HTLC key and ours.
   */
  counterparty: optional([
    5,
    struct({
      number: [1, uint(UINT53)],
      point: optional([2, point]),
      view: optional([3, viewCodec]),
      keys: optional([4, list(point, 4)]),
    }),
  ]),
  /** Sign the funding transaction of the proposal. */
  fund: optional([6, bool()]),
  /** Sign a mutual close that pays us and the bridge this much. */
  close: optional([7, closeCodec]),
  /** What `paid` says, where it would go out at the same moment: taken before everything else. */
  paid: optional([8, list(hash, MAX_HTLCS)]),
  /** Hand out the finished signature of our commitment `number`, which has to be the newest: a forced close. */
  forceClose: optional([9, uint(UINT53)]),
  /** Sign one input of a transaction that collects from a commitment of the bridge's on the chain. */
  spend: optional([10, spendCodec]),
});

/**
 * A payment has arrived: the receipt. Not answered; it is sent again when the device asks for the payment again.
 * It comes before the step that takes the HTLC out of the commitments, so that nobody waits for that.
 */
const paid = message(17, "paid", { preimage: [1, hash] });

/** A payment has failed for good, or a request can't be served: the code says why. */
const failed = message(18, "failed", {
  /** Payment hash; absent: the request was `open` or `close`. */
  paymentHash: optional([1, hash]),
  code: [2, text(64)],
  sentence: [3, words(200)],
  /** Number of the channel that was to be opened or closed. */
  index: optional([4, uint(UINT32)]),
});

/** How the channel stands, after `hello` and whenever it changes. */
const channel = message(19, "channel", {
  index: [1, uint(UINT32)],
  /** `none`, `opening`, `ready` (payments can be made), `closing` or `closed`. */
  state: [2, text(16)],
  closeTxid: optional([3, hash]),
  /** Most that the bridge lets be in flight in it, where that is known. */
  inFlightMsat: optional([4, uint(UINT53)]),
});

/**
 * The service fee that is owed, to be paid to the gateway's own node: the hash and amount of its invoice, and the
 * most that the way there may cost. The two together are at most what is owed.
 */
const settle = message(20, "settle", {
  paymentHash: [1, hash],
  amountMsat: [2, uint(UINT53)],
  maxFeeMsat: [3, uint(UINT53)],
});

export const toGateway = protocol([hello, open, pay, stepped, close, settling]);
export const toDevice = protocol([step, paid, failed, channel, settle]);

export type ToGateway = ReturnType<typeof toGateway.decode>;
export type ToDevice = ReturnType<typeof toDevice.decode>;
export type Step = Extract<ToDevice, { type: "step" }>;
export type Stepped = Extract<ToGateway, { type: "stepped" }>;
export type PartialSignature = ValueOf<typeof partialCodec>;
export type AuthenticatedPartial = ValueOf<typeof authenticatedCodec>;
