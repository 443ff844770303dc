/**
 * The channel of one device as the gateway has stored it: the present one, and those before it, whose money may still be
 * on its way home. Whoever changes its row does it here: then the device hears of every state that it can tell apart.
 */
import type { Database } from "lmdb";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import type { DeviceKeys } from "../../src/channel/device-keys.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { fundingOf } from "../../src/channel/transactions.ts";
import { lngateError } from "../../src/errors.ts";
import type { ToDevice, ToGateway } from "../../src/messages/device.ts";
import type { ToldChannel } from "../../src/messages/owner.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import type { NodeStore } from "../lightning/store.ts";
import type { RemoteSigner } from "../signer/remote-signer.ts";
import type { StoredSigningState } from "../signer/stored-state.ts";
import {
  bridgeOf,
  type ChannelRow,
  forgetChannelRow,
  freezeChannels,
  isFrozen,
  readChannelRow,
  retireChannelRow,
  retiredChannelRows,
  writeChannelRow,
} from "../store/channel-row.ts";
import { decodeStored, encodeStored } from "../store/values.ts";
import type { Openings } from "./openings.ts";
import { toldChannels } from "./told-channels.ts";

/** LDK's own dust limit, fixed for anchors channels, sat. */
export const LDK_DUST_LIMIT_SAT = 354;

/** What the device and its owner are told of the present channel. */
export type ChannelState = "none" | "opening" | "ready" | "closing" | "closed";

/** What `DeviceChannel` depends on. */
export interface DeviceChannelOptions {
  readonly deviceId: string;
  readonly table: Database<Uint8Array, string>;
  readonly keys: DeviceKeys;
  /** The one in the configuration: channels are with it unless their rows name another. */
  readonly bridge: Peer;
  /** The place among them is given up when the channel is past its opening. */
  readonly openings: Openings;
  readonly signer: Pick<
    RemoteSigner,
    "addChannel" | "removeChannel" | "book" | "parameters" | "changedBooks"
  >;
  /** False if the device is not there: it is told when it comes. */
  send(message: ToDevice): boolean;
}

/** See the head of this file. */
export class DeviceChannel {
  private readonly options: DeviceChannelOptions;
  private present: ChannelRow | undefined;
  private frozen: boolean;
  /** ChannelSummary of channels that never were, to be taken out of the store. */
  private readonly deadBooks: string[] = [];

  constructor(options: DeviceChannelOptions) {
    this.options = options;
    this.present = readChannelRow(options.table, options.deviceId);
    this.frozen = isFrozen(options.table, options.deviceId);
  }

  /** The present channel; also one that has ended, until there is another. */
  get row(): ChannelRow | undefined {
    return this.present;
  }

  /** All channels of the device, the present one last. */
  rows(): ChannelRow[] {
    const { row, options } = this;
    return [...retiredChannelRows(options.table, options.deviceId), ...(row ? [row] : [])];
  }

  /** Whether these are the keys of the present channel. */
  isPresent(keysId: Uint8Array): boolean {
    return this.row !== undefined && equal(this.row.keysId, keysId);
  }

  get state(): ChannelState {
    const stage = this.row?.stage ?? "none";
    return stage === "funded" ? "opening" : stage;
  }

  /** The owner has said that the device is lost or stolen. */
  get isFrozen(): boolean {
    return this.frozen;
  }

  /** Why the present channel can do nothing any more but be closed: a code; null if it can. */
  get stuck(): string | null {
    const { row } = this;
    if (!row || row.stage === "closed") return null;
    return this.options.signer.book(row.keysId)?.stuck ?? null;
  }

  /** Of the funding transaction, in internal byte order, once that is signed. */
  get fundingTxid(): Uint8Array | undefined {
    const { row } = this;
    return row?.proposal && row.stage !== "opening"
      ? fundingOf(this.options.keys, row.proposal).txid
      : undefined;
  }

  /** Of the present channel, for owners that do not ask for all. */
  get held(): { readonly proposal: Proposal; readonly number: number } | undefined {
    const { row } = this;
    if (!row?.proposal) return undefined;
    const number = Math.max(0, this.options.signer.book(row.keysId)?.holderNumber ?? 0);
    return { proposal: row.proposal, number };
  }

  /** What the owner has to know to find the money of all channels without the device. */
  get told(): readonly ToldChannel[] {
    return toldChannels(this.rows(), keysId => this.options.signer.book(keysId));
  }

  /** Most that may be in flight in the channel, sat, where the bridge has said so. */
  get inFlightSat(): number | undefined {
    const { row } = this;
    const msat = row?.stage === "closed" ? undefined : row?.inFlightMsat;
    return msat === undefined ? undefined : Math.floor(msat / 1000);
  }

  /** Who the present channel is with, and where that is; undefined without a channel. */
  get bridge(): Peer | undefined {
    return this.row && bridgeOf(this.row, this.options.bridge);
  }

  /** The device has answered for a later state of its channel than it remembers. */
  knowsMoreThan(hello: Extract<ToGateway, { type: "hello" }>): boolean {
    const { row } = this;
    const reached = row && this.options.signer.book(row.keysId)?.deviceReached;
    if (!row || !reached || Math.max(reached.holder, reached.counterparty) < 0) return false;
    if (hello.index !== row.index) return hello.index < row.index;
    return (
      (hello.holderNumber ?? -1) < reached.holder || (hello.counterpartyNumber ?? -1) < reached.counterparty
    );
  }

  /** Tells the device. Where there is no channel, the last one has ended: for it, one that was given up is closed as well. */
  tellDevice(): void {
    const { row } = this;
    const index = row?.index ?? Math.max(0, ...this.rows().map(each => each.index));
    this.options.send({
      type: "channel",
      index,
      state: row || index === 0 ? this.state : "closed",
      ...(row?.closeTxid ? { closeTxid: row.closeTxid } : {}),
      ...(row?.inFlightMsat ? { inFlightMsat: row.inFlightMsat } : {}),
    });
  }

  // ── changes: durable when they return ─────────────────────────────────────────────────────────────────

  /** Stores the present channel, or a new one. */
  put(row: ChannelRow): void {
    const before = this.state;
    const { table, deviceId, openings } = this.options;
    this.present = row;
    writeChannelRow(table, deviceId, row);
    if (row.stage !== "opening" && row.stage !== "funded") openings.leave(deviceId);
    if (this.state !== before) this.tellDevice();
  }

  /** Makes room for another channel. LDK may ask for the keys of this one for a long time. */
  retire(): void {
    const { row, options } = this;
    if (row) retireChannelRow(options.table, options.deviceId, row);
    this.present = undefined;
  }

  /** The present channel never came to be: nobody has signed anything of it, and LDK has forgotten it. */
  forget(): void {
    const { row, options } = this;
    if (!row) return;
    forgetChannelRow(options.table, options.deviceId);
    options.signer.removeChannel(row.keysId);
    this.deadBooks.push(bookKey(row.keysId));
    this.present = undefined;
  }

  /** Nothing is signed for this device any more. */
  freeze(): void {
    freezeChannels(this.options.table, this.options.deviceId);
    this.frozen = true;
  }

  // ── the signer ────────────────────────────────────────────────────────────────────────────────────────

  /** Makes all channels known to the signer, with the books that are stored of them. */
  announceAll(store: NodeStore): void {
    for (const each of this.rows()) {
      const book = store.get(bookKey(each.keysId));
      this.announce(each, book ? decodeStored<StoredSigningState>(book) : each.points);
    }
  }

  /** Makes a channel known to the signer: from its book, or from the device's first points. Throws `bad-point`. */
  announce(row: ChannelRow, from: StoredSigningState | readonly Uint8Array[]): void {
    const { keys, signer, bridge } = this.options;
    signer.addChannel(
      {
        keysId: row.keysId,
        fundingSat: row.channelSat,
        bridge: bridgeOf(row, bridge).nodeId,
        publicKeys: {
          funding: keys.fundingKey,
          basepoints: {
            revocation: keys.revocationBasepoint,
            payment: keys.paymentBasepoint,
            delayed: keys.delayedPaymentBasepoint,
            htlc: keys.htlcBasepoint,
          },
        },
        destinationScript: keys.shutdownScript,
      },
      from,
    );
  }

  /** The rows of the signer's books that have changed (null: that are to go), for the transaction that stores LDK's state. */
  changedBooks(): Map<string, Uint8Array | null> {
    return new Map<string, Uint8Array | null>([
      ...this.options.signer
        .changedBooks()
        .map(({ keysId, book }) => [bookKey(keysId), encodeStored(book)] as const),
      ...this.deadBooks.splice(0).map(key => [key, null] as const),
    ]);
  }

  /** The bridge's dust limit for the channel with this keys id, sat; undefined if it is not known. */
  counterpartyDustLimitSat(keysId: Uint8Array): number | undefined {
    return this.rows().find(each => equal(each.keysId, keysId))?.counterpartyDustLimitSat;
  }

  /** What the device is asked to agree to. Throws `unknown-channel`, also as long as LDK does not know the bridge's keys. */
  proposal(keysId: Uint8Array): Proposal {
    const { row } = this;
    if (!row || !equal(row.keysId, keysId)) {
      const former = this.rows().find(each => equal(each.keysId, keysId));
      if (former?.proposal) return former.proposal;
      throw lngateError("unknown-channel", "no channel with this keys id is known");
    }
    if (row.proposal) return row.proposal;
    const channel = this.options.signer.parameters(keysId);
    if (!channel) throw lngateError("unknown-channel", "the bridge's keys are not known yet");
    const { counterparty, holder } = channel;
    const proposal: Proposal = {
      index: row.index,
      fundingKey: counterparty.fundingPubkey,
      revocationBasepoint: counterparty.basepoints.revocation,
      paymentBasepoint: counterparty.basepoints.payment,
      delayedPaymentBasepoint: counterparty.basepoints.delayed,
      htlcBasepoint: counterparty.basepoints.htlc,
      deposits: row.deposits,
      channelSat: row.channelSat,
      changeSat: row.changeSat,
      holderDelay: holder.toLocalDelay,
      counterpartyDelay: counterparty.toLocalDelay,
      holderDustLimitSat: LDK_DUST_LIMIT_SAT,
      counterpartyDustLimitSat: row.counterpartyDustLimitSat ?? LDK_DUST_LIMIT_SAT,
      reserveSat: row.reserveSat ?? 0,
    };
    this.put({ ...row, proposal });
    return proposal;
  }
}

/** Why a channel is stuck, for people. `code`: `DeviceChannel.stuck`. */
export function stuckSentence(code: string): string {
  return code === "device-answer-wrong"
    ? "the channel can't go on, since the device's half of a signature is wrong and it keeps to it"
    : `the channel can't go on, since the device refuses a state of it (${code})`;
}

function bookKey(keysId: Uint8Array): string {
  return `book/${toHex(keysId)}`;
}
