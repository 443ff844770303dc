/**
 * What the owner's computer and the gateway say to each other: pairing, charging, and requests about the channel.
 * The owner asks, the gateway answers, one question at a time; any question may be answered by `refused`. Pairing
 * runs on a link of its own, whose key comes from the pairing code; the rest on the link whose key pairing made.
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
import { shutdownScriptCodec } from "../channel/device-keys.ts";
import { serviceFeeCodec } from "../channel/service-fee.ts";
import { MAX_HTLCS, proposalCodec, viewCodec } from "../channel/terms.ts";
import { MAX_COMMITMENT_NUMBER } from "../lightning/shachain.ts";
import { OWNER_MAX_BYTES } from "./fragments.ts";

const point = bytes(33);
const points = 2 * 128 * 33;
const MAX_CEREMONY = OWNER_MAX_BYTES - 100;

/** `A` or `B`. */
const kind = text(1);
const recordCounts = struct({ A: [1, uint(UINT32)], B: [2, uint(UINT32)] });

/** The device's keys (src/channel/device-keys.ts) but the one that both have made together. */
const pairedKeysCodec = struct({
  revocationBasepoint: [1, point],
  htlcBasepoint: [2, point],
  paymentBasepoint: [3, point],
  delayedPaymentBasepoint: [4, point],
  depositOwnerKey: [5, point],
  /** Blocks after which the owner alone may take a deposit back. */
  depositDelay: [6, uint(UINT16)],
  shutdownScript: [7, shutdownScriptCodec],
});

/** What the owner allows the device to spend: the device has it in its flash, and the gateway holds it to the same. */
export const spendingLimitsCodec = struct({
  /** Limits on amount plus routing fee plus service fee, msat. */
  perPaymentMsat: [1, uint(UINT53)],
  perHourMsat: [2, uint(UINT53)],
  perDayMsat: [3, uint(UINT53)],
  /** Node ids that may be paid, as many as a device remembers; empty: anyone. */
  payees: [4, list(point, 64)],
});
export type SpendingLimits = ValueOf<typeof spendingLimitsCodec>;

/** Most channels that the owner is told of at once: the latest. Each has cost its device a funding transaction. */
export const MAX_TOLD_CHANNELS = 64;
/** Most commitment points that are told of a channel. */
const MAX_TOLD_POINTS = 16;

/** What only the device and the gateway know of the commitments of a channel that may be on the chain. Nothing of it is secret. */
export const toldStatesCodec = struct({
  /** Our commitment points as the device gave them: they need not follow from the words. */
  points: [1, list(point, MAX_TOLD_POINTS)],
  /** Our commitments that are not revoked; the bridge's signatures of the payments in them, in output order. */
  holder: [
    2,
    list(
      struct({
        number: [1, uint(MAX_COMMITMENT_NUMBER)],
        point: [2, point],
        view: [3, viewCodec],
        htlcSignatures: [4, list(bytes(64), MAX_HTLCS)],
      }),
      2,
    ),
  ],
  /** The bridge's. */
  counterparty: [
    3,
    list(struct({ number: [1, uint(MAX_COMMITMENT_NUMBER)], point: [2, point], view: [3, viewCodec] }), 2),
  ],
});
export type ToldStates = ValueOf<typeof toldStatesCodec>;

/** A channel: what it was agreed to be, the number of our newest commitment, and what is known of its commitments. */
const toldChannelCodec = struct({
  proposal: [1, proposalCodec],
  number: [2, uint(MAX_COMMITMENT_NUMBER)],
  states: [3, toldStatesCodec],
});
export type ToldChannel = ValueOf<typeof toldChannelCodec>;

// ── the owner asks ───────────────────────────────────────────────────────────────────────────────────────

/** Starts (or, with `completed`, asks about) a pairing; `ecdh` is an ephemeral public key. */
const pair = message(1, "pair", {
  version: [1, uint(255)],
  ecdh: [2, point],
  /** Confirmation of an earlier attempt whose end the owner did not see. */
  completed: optional([3, bytes(32)]),
});
/** K0' of docs/threshold.md. */
const pairNonce = message(2, "pair-nonce", { k0: [1, bytes(32)] });
/** K2. */
const pairShare = message(3, "pair-share", { k2: [1, bytes(98)] });
/** K4. */
const pairAgree = message(4, "pair-agree", { k4: [1, bytes(32)] });
/** Oblivious transfers: E2 of kind A, E1 of kind B. */
const pairTransfers = message(5, "pair-transfers", { e2: [1, bytes(points)], e1: [2, bytes(points)] });
/** The device's keys and limits, and the proof that both sides derived the same link keys. The owner has stored everything. */
const pairComplete = message(6, "pair-complete", {
  keys: [1, pairedKeysCodec],
  confirmation: [2, bytes(32)],
  limits: [3, spendingLimitsCodec],
});

/** How does the device stand? */
const status = message(16, "status", {});
/** Where do deposits go? */
const fund = message(17, "fund", {});
/** Close the channel with the bridge's consent; the money goes to the owner's address. */
const close = message(18, "close", {});
/** The device is lost or stolen: co-sign nothing more, and have the bridge close the channel. For ever. */
const freeze = message(19, "freeze", {});
/** To these limits the device is to be held from now on; without them: to which is it held? */
const limits = message(20, "limits", { limits: optional([1, spendingLimitsCodec]) });
/** With what can the money of the device's channels be found, if the device is gone? */
const channels = message(21, "channels", {});

/** Charging begins: what is in the device's flash. The gateway forgets what is not. */
const charge = message(32, "charge", {
  epoch: [1, uint(UINT32)],
  /** The id after the last record of each kind that the flash was given in this epoch. */
  installed: [2, recordCounts],
  /** Fingerprints of the oblivious transfers that the owner holds: SHA256(E1 ‖ E2). */
  setupA: optional([3, bytes(32)]),
  setupB: optional([4, bytes(32)]),
  /** The owner's word to go on after a failed check. */
  confirmReset: optional([5, bool()]),
  /** Id of the run of MACs that the owner holds. */
  run: optional([6, bytes(32)]),
});
/** New oblivious transfers, after a RESET or where the two sides do not hold the same. Kind B carries E1. */
const setup = message(33, "setup", { kind: [1, kind], e1: optional([2, bytes(points)]) });
/** Kind A: E2, which answers the gateway's E1. */
const setupAnswer = message(34, "setup-answer", { kind: [1, kind], e2: [2, bytes(points)] });
/** A new batch. Kind B carries S0 and the id of its first record; kind A asks the gateway for them. */
const presign = message(35, "presign", {
  kind: [1, kind],
  size: [2, uint(64)],
  firstId: optional([3, uint(UINT32)]),
  s0: optional([4, bytesUpTo(64)]),
});
/** The owner's next message of the batch: S1 and S3 of kind A, S2 and S4 of kind B; M1 of a run of MACs. */
const presignStep = message(36, "presign-step", { step: [1, text(2)], body: [2, bytesUpTo(MAX_CEREMONY)] });
/** The batch with this first id is in the device's flash. */
const installed = message(37, "installed", { kind: [1, kind], firstId: [2, uint(UINT32)] });
/** A new run of MACs for kind B, by kind A's oblivious transfers. */
const macRun = message(39, "mac-run", {});
/** A check failed on the owner's side: code of the error. The gateway draws the same consequence. */
const aborted = message(38, "aborted", { kind: [1, kind], code: [2, text(64)] });

// ── the gateway answers ──────────────────────────────────────────────────────────────────────────────────

const refused = message(1, "refused", { code: [1, text(64)], sentence: [2, words(600)] });

/**
 * K0, the gateway's ephemeral public key, and where it is: the network, its height, the device's name; and what its
 * service costs (absent: nothing).
 */
const pairing = message(2, "pairing", {
  network: [1, text(8)],
  blockHeight: [2, uint(UINT32)],
  name: [3, text(64)],
  ecdh: [4, point],
  k0: [5, bytes(32)],
  serviceFee: optional([6, serviceFeeCodec]),
});
/** K1. */
const pairCommitted = message(3, "pair-committed", { k1: [1, bytes(32)] });
/** K3. */
const pairOpened = message(4, "pair-opened", { k3: [1, bytes(130)] });
/** K4, and E1 of kind A. */
const pairAgreed = message(5, "pair-agreed", { k4: [1, bytes(32)], e1: [2, bytes(points)] });
/** E2 of kind B. */
const pairTransferred = message(6, "pair-transferred", { e2: [1, bytes(points)] });
/** The code is used up; the gateway's proof that it derived the same keys. */
const paired = message(7, "paired", { confirmation: [1, bytes(32)] });

/** How the device and its channel stand, as the gateway sees it. */
const statusReport = message(16, "status-report", {
  name: [1, text(64)],
  /** A device session is up. */
  online: [2, bool()],
  /** `none`, `opening`, `ready`, `closing`, `closed`. */
  channel: [3, text(16)],
  /** Confirmed and unconfirmed deposits that are not spent, sat. */
  depositSat: [4, uint(UINT53)],
  depositUnconfirmedSat: [5, uint(UINT53)],
  /** The device's side of the channel, sat. */
  balanceSat: optional([6, uint(UINT53)]),
  /** Presignatures the gateway holds and has not used. */
  records: [7, recordCounts],
  fundingTxid: optional([8, bytes(32)]),
  closeTxid: optional([9, bytes(32)]),
  /**
   * `awaiting-owner` or `locked` after a failed check while presigning, `rolled-back` for an old image of the flash,
   * `stuck` for a channel that can do nothing any more but be closed, `awaiting-bridge` for one that the bridge was told to
   * close and has not, `close-stalled` for a mutual close that the bridge does not end, `feerates-apart` for a channel that is
   * not opened, since its device signs no feerate that makes sense.
   */
  trouble: optional([10, text(32)]),
  /** The device's last `hello`: when (Unix seconds), how often its flash had been written, what its clock said. */
  seen: optional([
    11,
    struct({ at: [1, uint(UINT53)], generation: [2, uint(UINT53)], clock: optional([3, uint(UINT53)]) }),
  ]),
  /** The gateway's clock and the newest block's time (0: not known yet), Unix seconds. */
  time: [12, uint(UINT53)],
  blockTime: [13, uint(UINT53)],
  /** What the bridge said last about a channel that it ends or does not open; it may be anything. */
  bridgeWords: optional([14, words(200)]),
  /** Most that the bridge lets be in flight in the channel, sat. */
  inFlightSat: optional([15, uint(UINT53)]),
  /** How many channels of the network the gateway knows, and since when nothing new has come (Unix seconds; 0: never). */
  graph: optional([16, struct({ channels: [1, uint(UINT53)], changedAt: [2, uint(UINT53)] })]),
});
/** The deposit address as the gateway computes it; the owner computes it too and compares. */
const deposit = message(17, "deposit", {
  address: [1, text(100)],
  /** Smallest deposit from which a channel is opened, sat. */
  minimumSat: [2, uint(UINT53)],
  confirmations: [3, uint(UINT16)],
});
/**
 * The close has been asked for; `status` tells how it goes on. `held` is the present channel for owners that do not ask for
 * `channels`: what it was agreed to be, and the number of our newest commitment.
 */
const closingStarted = message(18, "closing", {
  channel: [1, text(16)],
  closeTxid: optional([2, bytes(32)]),
  held: optional([3, struct({ proposal: [1, proposalCodec], number: [2, uint(MAX_COMMITMENT_NUMBER)] })]),
});
/** The limits to which the device is held; absent: to none, since the owner has never said. */
const limitsKept = message(19, "limits", { limits: optional([1, spendingLimitsCodec]) });

/** The channels that were funded, the latest first. */
const channelsTold = message(20, "channels", { channels: [1, list(toldChannelCodec, MAX_TOLD_CHANNELS)] });

/** The gateway's view at the start of charging. */
const charging = message(32, "charging", {
  /** Least id that a new batch of each kind may begin with. */
  nextId: [1, recordCounts],
  /** Kinds that need new oblivious transfers. */
  needSetup: [2, list(kind, 2)],
  /** Kind B needs a new run of MACs. */
  needRun: [3, bool()],
});
/** E1 of kind A, or E2 of kind B. */
const setupStep = message(33, "setup-step", { body: [1, bytes(points)] });
/** The gateway's next message of the batch: S0, S2, S4 of kind A; S1, S3, S5 of kind B; M0 of a run of MACs. */
const presigned = message(34, "presigned", { step: [1, text(2)], body: [2, bytesUpTo(MAX_CEREMONY)] });
const done = message(35, "done", {});

export const fromOwner = protocol([
  pair,
  pairNonce,
  pairShare,
  pairAgree,
  pairTransfers,
  pairComplete,
  status,
  fund,
  close,
  freeze,
  limits,
  channels,
  charge,
  setup,
  setupAnswer,
  presign,
  presignStep,
  installed,
  aborted,
  macRun,
]);
export const toOwner = protocol([
  refused,
  pairing,
  pairCommitted,
  pairOpened,
  pairAgreed,
  pairTransferred,
  paired,
  statusReport,
  deposit,
  closingStarted,
  limitsKept,
  channelsTold,
  charging,
  setupStep,
  presigned,
  done,
]);

export type FromOwner = ReturnType<typeof fromOwner.decode>;
export type ToOwner = ReturnType<typeof toOwner.decode>;
