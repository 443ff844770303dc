/**
 * How a device gets its channel: it asks for one, its deposit is awaited, the bridge is asked, once more after a while if it
 * refuses, until the channel can be used.
 */
import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import { type DeviceKeys, depositScriptOf } from "../../src/channel/device-keys.ts";
import { codeOf, type LngateError, lngateError } from "../../src/errors.ts";
import type { FeeEstimator } from "../chain/fees.ts";
import type { LightningNode } from "../lightning/node.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import { type Log, lastingTrouble } from "../log.ts";
import type { AcceptedChannel } from "../signer/messages.ts";
import { userChannelIdOf } from "../signer/remote-signer.ts";
import type { ChannelRow } from "../store/channel-row.ts";
import type { BridgeWords } from "./bridge.ts";
import type { DeviceChannel } from "./channel.ts";
import { type Deposits, depositsToSpend, leastDepositSat } from "./deposits.ts";
import type { Openings } from "./openings.ts";
import { leastChannelIn, pauseAfter } from "./refusals.ts";

/** Confirmations a deposit needs before it is spent into a channel. */
export const DEPOSIT_CONFIRMATIONS = 1;
/** How long it is waited for a bridge that is away, ms. */
export const BRIDGE_WAIT_MS = 3_000;
/** Largest channel without option_support_large_channel (BOLT #2). */
const MAX_CHANNEL_SAT = 16_777_215;
/** A change smaller than this is left to the miners. */
const MIN_CHANGE_SAT = 1_000;
/** What keeps a channel from being opened for the moment: it is tried again with every block. */
const WAITS_FOR: ReadonlySet<string> = new Set(["deposit-missing", "bridge-unreachable", "feerates-apart"]);

/** What `ChannelOpening` depends on. */
export interface ChannelOpeningOptions {
  readonly deviceId: string;
  readonly channel: DeviceChannel;
  readonly keys: DeviceKeys;
  /** Of the configuration. */
  readonly bridge: Peer;
  readonly words: BridgeWords;
  readonly deposits: Deposits;
  readonly fees: FeeEstimator;
  /** The smallest channel that is opened, sat. */
  readonly leastChannelSat: number;
  /** Shared by all devices. */
  readonly openings: Openings;
  readonly log: Log;
  /** What LDK has; undefined until it runs. */
  node(): LightningNode | undefined;
  /** Most that a funding transaction may cost, sat, by the owner's policy; undefined if that is not known. */
  maxFeeSat(): number | undefined;
  /** Throws `feerates-apart`. */
  ensureFeerate(): void;
  /** Tells the device that nothing comes of the channel of this index, and why. */
  refuse(index: number, code: string, sentence: string): void;
  /** For what is a fault of this program or of LDK. */
  onFatal(error: unknown): void;
}

/** What the device wants: the number of the channel, and its first commitment points. */
interface OpenRequest {
  readonly index: number;
  readonly points: readonly Uint8Array[];
}

/** See the head of this file. */
export class ChannelOpening {
  private readonly options: ChannelOpeningOptions;
  /** While the deposit is awaited. */
  private openRequest: OpenRequest | undefined;
  private isBusy = false;
  private feeratesApart = false;
  /** How often in a row the bridge did not open the channel; not asked again before then (performance.now()). */
  private refusal: { readonly times: number; readonly until: number } | undefined;
  private againTimer: NodeJS.Timeout | undefined;
  /** The smallest channel that this bridge opens, as it has said. */
  private learntLeastSat = 0;
  /** Why no channel is opened. */
  private readonly trouble: (error: unknown) => void;

  constructor(options: ChannelOpeningOptions) {
    this.options = options;
    this.trouble = lastingTrouble(error => {
      if (error) options.log.warn(error.message, { code: codeOf(error) });
    });
  }

  /** The device asks for a channel, and is told if it can't have one now. */
  asked(index: number, points: readonly Uint8Array[]): void {
    this.openRequest = { index, points };
    this.soon(true);
  }

  /** Something has changed: what the device still waits for may be possible now. */
  tryAgain(): void {
    this.soon(false);
  }

  /** No channel is opened: the feerates that the device signs are not those that make sense. */
  get areFeeratesApart(): boolean {
    return this.feeratesApart;
  }

  stop(): void {
    clearTimeout(this.againTimer);
  }

  /** The smallest deposit of which a channel can be made now, sat. */
  get leastDepositSat(): number {
    const { keys, fees } = this.options;
    return leastDepositSat(this.leastChannelSat, depositScriptOf(keys), fees.feerate("normal"));
  }

  /** The smallest channel that is opened, sat. */
  private get leastChannelSat(): number {
    return Math.max(this.options.leastChannelSat, this.learntLeastSat);
  }

  /** True: this channel has its place among those that are being opened. Otherwise it is tried again once there is one. */
  takePlace(): boolean {
    return this.options.openings.enter(this.options.deviceId, () => this.soon(false));
  }

  /** There is a channel, or money for one: a bridge has only so many places for peers without. */
  async needsBridge(): Promise<boolean> {
    const { channel, deposits, deviceId, node } = this.options;
    if ((channel.row && channel.row.stage !== "closed") || (node()?.channels().length ?? 0) > 0) return true;
    try {
      return (await deposits.of(deviceId)).length > 0;
    } catch (error) {
      // bitcoind is away: whoever opens a channel connects then.
      if (codeOf(error) === undefined) throw error;
      return false;
    }
  }

  private soon(isAsked: boolean): void {
    this.openIfPossible(isAsked).catch(error => this.options.onFatal(error));
  }

  /** Opens the channel that the device wishes for, if its deposit is confirmed. */
  private async openIfPossible(isAsked: boolean): Promise<void> {
    const { openRequest, refusal } = this;
    const { channel, openings, deviceId, refuse } = this.options;
    const node = this.options.node();
    if (!openRequest || !node || this.isBusy || channel.isFrozen) return;
    if (channel.row && channel.row.stage !== "closed") {
      if (isAsked) channel.tellDevice();
      return;
    }
    // It was told so, and waits: the channel may open after all.
    if (refusal && performance.now() < refusal.until) return;
    this.isBusy = true;
    try {
      await this.open(openRequest, node);
      this.trouble(null);
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      if (channel.row?.stage !== "opening") openings.leave(deviceId);
      const isChain = code.startsWith("bitcoind-");
      const passes = isChain || WAITS_FOR.has(code);
      if (!passes) this.openRequest = undefined;
      if (code !== "deposit-missing") this.trouble(error);
      // What is wrong with bitcoind is the operator's to know; for a device it is away.
      if (isAsked && isChain)
        refuse(openRequest.index, "bitcoind-unreachable", "the gateway's bitcoind does not answer now");
      else if (isAsked || !passes) refuse(openRequest.index, code, (error as Error).message);
    } finally {
      this.isBusy = false;
    }
  }

  private async open(openRequest: OpenRequest, node: LightningNode): Promise<void> {
    const { channel, deposits, deviceId, keys, fees, bridge, words, log } = this.options;
    this.feeratesApart = true;
    this.options.ensureFeerate();
    this.feeratesApart = false;
    const confirmed = (await deposits.of(deviceId)).filter(
      each => each.confirmations >= DEPOSIT_CONFIRMATIONS,
    );
    const feerate = fees.feerate("normal");
    const usable = depositsToSpend(confirmed, depositScriptOf(keys), feerate, this.options.maxFeeSat());
    const wholeSat = usable.valueSat - usable.feeSat;
    if (wholeSat < this.leastChannelSat) {
      throw lngateError(
        "deposit-missing",
        `the confirmed deposits that are worth their fee hold ${usable.valueSat} sat: for a channel of ${this.leastChannelSat} sat at least, ${this.leastDepositSat} are needed`,
      );
    }
    const changeSat = wholeSat - MAX_CHANNEL_SAT >= MIN_CHANGE_SAT ? wholeSat - MAX_CHANNEL_SAT : 0;
    const channelSat = Math.min(wholeSat, MAX_CHANNEL_SAT);
    if (!this.takePlace()) return;
    words.forget();
    node.keepConnected(bridge);
    await node.until("bridge-unreachable", () => node.isConnected(bridge.nodeId), BRIDGE_WAIT_MS);
    const row: ChannelRow = {
      stage: "opening",
      index: openRequest.index,
      keysId: new Uint8Array(randomBytes(32)),
      points: openRequest.points,
      deposits: usable.deposits,
      channelSat,
      changeSat,
      bridge,
    };
    // Throws for points that are none, before anything is stored.
    channel.announce(row, openRequest.points);
    if (channel.row) channel.retire();
    channel.put(row);
    log.info("opening a channel", { sat: channelSat, channel: openRequest.index });
    try {
      node.createChannel(bridge.nodeId, channelSat, 0, userChannelIdOf(row.keysId));
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  // ── how it goes on ────────────────────────────────────────────────────────────────────────────────────

  /** The bridge's limits, for the proposal. */
  accepted({ dustLimitSat, reserveSat, inFlightMsat: most }: AcceptedChannel): void {
    const { channel } = this.options;
    const { row } = channel;
    if (row?.stage !== "opening") return;
    const inFlightMsat = Math.min(Number(most), 1000 * row.channelSat);
    channel.put({ ...row, counterpartyDustLimitSat: dustLimitSat, reserveSat, inFlightMsat });
  }

  /** LDK says that the channel can be used. */
  ready(): void {
    const { channel, words, log } = this.options;
    const { row } = channel;
    if (row?.stage !== "funded" && row?.stage !== "opening") return;
    this.openRequest = undefined;
    this.refusal = undefined;
    words.forget();
    channel.put({ ...row, stage: "ready" });
    const { channelSat, inFlightMsat } = row;
    log.info("the channel is ready", { sat: channelSat });
    if (inFlightMsat !== undefined && inFlightMsat < 900 * channelSat)
      log.warn(
        "the bridge lets only a part of the channel be in flight at a time: no payment can be larger",
        {
          sat: Math.floor(inFlightMsat / 1000),
        },
      );
  }

  /** LDK has given up a channel (`row`) that is not funded; `words`: why, as far as it says. */
  failed(row: ChannelRow, reason: ldk.ClosureReason, words: string): void {
    this.abandon(
      reason instanceof ldk.ClosureReason_DisconnectedPeer
        ? lngateError("bridge-unreachable", "the bridge went away while the channel was being opened")
        : this.refused(row, words),
    );
  }

  /** It is asked again after a while, longer each time; what would be refused again is not. */
  private refused(row: ChannelRow, said: string): LngateError {
    const words = this.options.words.note(said);
    const times = (this.refusal?.times ?? 0) + 1;
    const pause = pauseAfter(times);
    const error = lngateError("channel-refused", `the bridge does not open the channel: ${words}`);
    this.refusal = { times, until: performance.now() + pause };
    this.learntLeastSat = leastChannelIn(words, row.channelSat) ?? this.learntLeastSat;
    this.trouble(error);
    clearTimeout(this.againTimer);
    this.againTimer = setTimeout(() => this.soon(false), pause + 10);
    this.againTimer.unref();
    return error;
  }

  /** Nothing came of the channel that was being opened: the deposit is where it was, and the device may ask again. */
  abandon(why?: LngateError): void {
    const { channel, openings, deviceId, refuse } = this.options;
    const { row } = channel;
    if (row?.stage !== "opening") return;
    openings.leave(deviceId);
    if (row.proposal) {
      channel.retire();
      // The device may have accepted it under this number: it has to name another.
      this.openRequest = undefined;
    } else {
      // It leaves nothing behind: a bridge may refuse for years.
      channel.forget();
    }
    // Whatever becomes of the telling, it is over. Why comes first: a device that hears only that would ask again at once.
    if (why) refuse(row.index, why.code, why.message);
    channel.tellDevice();
  }
}
