/**
 * LDK's signer for one device's node: every question of LDK's goes into a book (state.ts), every answer
 * comes out of one, or is "not now". What LDK calls always returns at once; the device answers when it can.
 *
 *   const signer = new RemoteSigner({ nodeSeed, shutdownScript, peer, problem });
 *   const keysId = …;                                     // 32 B, the caller's choice, unique for ever
 *   signer.addChannel({ keysId, … }, storedBook or first points);
 *   … build ChannelManager and ChainMonitor with signer.keys.* and signer.signerProvider,
 *     PeerManager with watchedMessages(channelManager, signer) …
 *   signer.attach({ channelManager, chainMonitor, wake });
 *   channelManager.create_channel(bridge, sat, 0n, userChannelIdOf(keysId), …)
 *
 * The device is a `SigningPeer`: `ask(keysId, parts)` hands over all parts that came up in one turn of the event
 * loop (LDK asks for a secret and for a signature together). Each part is handed over once; `askAgain` hands over
 * everything unanswered (device back, link restarted). Answers come by `answer(keysId, answers)`, in any order
 * and as often as they like; a wrong one goes to `problem`, and its part waits for a better one.
 *
 * To be stored with LDK's own state, in one transaction: `changedBooks()`.
 * A load is the same `addChannel` with the stored book before ChannelManager and monitors are read; LDK finds the
 * channel by its keys id alone. `attach` then asks LDK to repeat what it waits for.
 *
 * LDK keeps its callbacks (callbacks.ts) by weak references only: this object must live as long as the node does.
 */
import { randomBytes } from "node:crypto";
import {
  DecodeError,
  KeysManager,
  Result_CVec_u8ZNoneZ,
  Result_EcdsaChannelSignerDecodeErrorZ,
  Result_ShutdownScriptNoneZ,
  ShutdownScript,
  SignerProvider,
} from "lightningdevkit";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { ChannelParameters } from "../../src/lightning/channel.ts";
import { channelSigner } from "./callbacks.ts";
import { SignedChannel, type SignerChannel, unannouncedChannel } from "./channel.ts";
import { fundingChecks } from "./checks/transactions.ts";
import type { FundingContent, SigningAnswer, SigningPart, SigningPeer } from "./parts.ts";
import type { SigningState } from "./state.ts";
import type { StoredSigningState } from "./stored-state.ts";
import type { SignedNode } from "./unblocking.ts";

/** What the signer of a device's node is made of. */
export interface RemoteSignerOptions {
  /** 32 secret bytes of this node: its node id and onion keys, nothing of the channel. */
  readonly nodeSeed: Uint8Array;
  /** The owner's output script for a mutual close: P2WPKH or P2WSH. Throws `bad-script` for another. */
  readonly shutdownScript: Uint8Array;
  readonly peer: SigningPeer;
  /** The bridge's dust limit for this channel, sat; undefined if it is not known. */
  readonly counterpartyDustLimitSat?: (keysId: Uint8Array) => number | undefined;
  /** The device gains by being told of a revocation before it needs it; otherwise it goes along with a question. */
  readonly tellsAhead?: () => boolean;
  /** A payment is under way: somebody waits at the device for its receipt, or a question is about to come. */
  readonly isPaying?: () => boolean;
  /** Does what no caller waits for, and takes what it throws: LDK is asked in it. */
  readonly guarded?: (work: () => void) => void;
  /** Told of a channel that gets no signature any more, and of answers that were wrong. Never a secret in it. */
  readonly problem: (keysId: Uint8Array, code: string, sentence: string) => void;
}

/** How long a revocation waits for a question that it can go along with; longer, while somebody waits for a receipt. */
const TELL_AFTER_MS = 100;
const TELL_AT_LAST_MS = 5_000;

/** The user_channel_id to pass to create_channel, which ties it to the channel announced by addChannel. */
export function userChannelIdOf(keysId: Uint8Array): bigint {
  // 120 bits: LDK's binding takes no number of 2^124 or more for a u128.
  return BigInt(`0x${toHex(keysId.subarray(0, 15))}`);
}

/** The signer of all channels of one device's node; see above. */
export class RemoteSigner {
  /** Stock entropy source and node signer. */
  readonly keys: KeysManager;
  readonly signerProvider: SignerProvider;
  private readonly options: RemoteSignerOptions;
  private readonly channels = new Map<string, SignedChannel>();
  private node: SignedNode | null = null;
  private turnPending = false;
  private tellTimer: NodeJS.Timeout | undefined;
  private readonly connected = new Set<string>();

  constructor(options: RemoteSignerOptions) {
    this.options = options;
    const now = Date.now();
    this.keys = KeysManager.constructor_new(
      options.nodeSeed,
      BigInt(Math.floor(now / 1000)),
      (now % 1000) * 1e6,
    );
    this.signerProvider = this.provider(readShutdownScript(options.shutdownScript));
  }

  // ── for the gateway ───────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes a channel known: a new one with the device's first commitment points (0 to 4 or more), or one from the
   * store. Throws `bad-point` and what SigningState throws, `keys-id-taken` for a second one.
   */
  addChannel(announced: SignerChannel, from: StoredSigningState | readonly Uint8Array[]): SigningState {
    const key = toHex(announced.keysId);
    if (this.channels.has(key))
      throw lngateError("keys-id-taken", "this signer has a channel of this keys id already");
    const channel = new SignedChannel(announced, from, this.connected.has(toHex(announced.bridge)));
    this.channels.set(key, channel);
    return channel.book;
  }

  /** Forgets a channel that LDK has no monitor of (any more). */
  removeChannel(keysId: Uint8Array): void {
    this.channels.delete(toHex(keysId));
  }

  /** The book of a channel, undefined if there is none. */
  book(keysId: Uint8Array): SigningState | undefined {
    return this.channels.get(toHex(keysId))?.book;
  }

  /** What LDK has told about a channel, once the funding transaction is known. */
  parameters(keysId: Uint8Array): ChannelParameters | null {
    return this.channels.get(toHex(keysId))?.parameters ?? null;
  }

  /** A closing signature is awaited: suspend this node's timer_tick_occurred, or LDK closes by force. */
  get closingPending(): boolean {
    return [...this.channels.values()].some(({ book }) => book.closingPending);
  }

  /**
   * The node is built (and loaded). LDK is asked to repeat what it waits for, the device gets what is unanswered.
   * Call it again with the new objects if the node is rebuilt.
   */
  attach(node: SignedNode): void {
    this.node = node;
    for (const { unblocking } of this.channels.values()) unblocking.note("manager", "monitor");
    this.turn();
  }

  /** The node ends: from here on LDK is asked for nothing, and the device is handed nothing. */
  stop(): void {
    clearTimeout(this.tellTimer);
    this.node = null;
  }

  /** Answers of the device's, from anywhere but inside a callback of LDK's. Wrong ones go to `problem`. */
  answer(keysId: Uint8Array, answers: readonly SigningAnswer[]): void {
    const channel = this.channels.get(toHex(keysId));
    if (!channel) {
      this.options.problem(keysId, "unknown-channel", "an answer for a channel that is not known");
      return;
    }
    for (const answer of answers) {
      try {
        channel.unblocking.note(channel.book.answer(answer));
        if (answer.refused !== undefined) {
          this.options.problem(keysId, answer.refused, `the device refuses ${answer.id}`);
        }
      } catch (error) {
        this.options.problem(keysId, codeOf(error) ?? "internal", messageOf(error));
      }
    }
    this.turn();
  }

  /** Asks the device to sign the funding transaction, as soon as it holds exit 0. Throws `content-conflict`. */
  askFunding(keysId: Uint8Array, content: FundingContent): void {
    const { book, announced } = this.known(keysId);
    book.askFunding(content, fundingChecks(announced.publicKeys.funding, content));
    this.turn();
  }

  /** Hands over everything unanswered again. Throws `unknown-channel`. */
  askAgain(keysId: Uint8Array): void {
    this.known(keysId).forgetHandedOver();
    this.turn();
  }

  /**
   * Hands over what is only told (revocations), although nothing is asked: for when the device is idle. Throws
   * `unknown-channel`.
   */
  tell(keysId: Uint8Array): void {
    const channel = this.known(keysId);
    this.handOver(channel, channel.toldParts());
  }

  /** The books that have changed since they were last taken, to be stored with LDK's state in one transaction. */
  changedBooks(): { readonly keysId: Uint8Array; readonly book: StoredSigningState }[] {
    const changed: { keysId: Uint8Array; book: StoredSigningState }[] = [];
    for (const channel of this.channels.values()) {
      const book = channel.takeChanged();
      if (book) changed.push({ keysId: channel.announced.keysId, book });
    }
    return changed;
  }

  private known(keysId: Uint8Array): SignedChannel {
    const channel = this.channels.get(toHex(keysId));
    if (!channel) throw lngateError("unknown-channel", "no channel with this keys id is known");
    return channel;
  }

  // ── what watchedMessages (messages.ts) tells ──────────────────────────────────────────────────────────

  /** The bridge is connected. A channel that is not funded yet has nothing to reestablish. */
  peerConnected(nodeId: Uint8Array): void {
    this.connected.add(toHex(nodeId));
    for (const { announced, parameters, unblocking } of this.channels.values()) {
      if (equal(announced.bridge, nodeId)) unblocking.live = parameters === null;
    }
    this.turn();
  }

  /** The bridge is gone: nothing may be sent before its channels are reestablished. */
  peerDisconnected(nodeId: Uint8Array): void {
    this.connected.delete(toHex(nodeId));
    for (const { announced, unblocking } of this.channels.values()) {
      if (equal(announced.bridge, nodeId)) unblocking.live = false;
    }
  }

  /**
   * The bridge has seen the revocation of a state of ours that is our newest here, or one that we do not know: this
   * book is older than the channel. Where its proof can be checked and is wrong, LDK deals with it.
   */
  isBehind(channelId: Uint8Array, nextRevocation: number, lastSecret: Uint8Array): boolean {
    const book = this.withId(channelId)?.book;
    return (
      book !== undefined &&
      nextRevocation > book.holderNumber &&
      book.mayHaveRevoked(nextRevocation - 1, lastSecret)
    );
  }

  /** LDK has answered the bridge's channel_reestablish. */
  reestablished(channelId: Uint8Array): void {
    const channel = this.withId(channelId);
    if (channel) channel.unblocking.live = true;
    this.turn();
  }

  /**
   * The bridge's revoke_and_ack has arrived, and LDK will see it next. With it the device is told the bridge's
   * next point ahead of time; a gateway that does not call this loses nothing but that time.
   */
  revokeAndAck(channelId: Uint8Array, secret: Uint8Array, nextPoint: Uint8Array): void {
    this.withId(channelId)?.book.announcedPoint(secret, nextPoint);
  }

  private withId(channelId: Uint8Array): SignedChannel | undefined {
    return [...this.channels.values()].find(channel => channel.hasId(channelId));
  }

  // ── one turn of the event loop: let LDK ask again, gather, hand over ──────────────────────────────────

  private turn(): void {
    if (this.turnPending) return;
    this.turnPending = true;
    setImmediate(() => {
      this.turnPending = false;
      const { node } = this;
      if (node !== null) this.unwaited(() => this.gather(node));
    });
  }

  private gather(node: SignedNode): void {
    for (const channel of this.channels.values()) {
      channel.unblocking.run(
        node,
        channel.announced.bridge,
        () => channel.channelId(),
        () => this.turn(),
      );
      this.handOver(channel, channel.freshParts());
    }
    if (this.untold().length > 0) this.tellLater();
  }

  /**
   * What the device is only told it is told soon after a payment, so that it verifies it, and derives what follows from it, in
   * idle time; with the first step of the next payment there would be somebody who waits.
   */
  private tellLater(waitedMs = 0): void {
    this.tellTimer ??= setTimeout(() => {
      this.tellTimer = undefined;
      if (this.node !== null) this.unwaited(() => this.tellNow(waitedMs));
    }, TELL_AFTER_MS).unref();
  }

  private tellNow(waitedMs: number): void {
    if (this.options.tellsAhead?.() === false) return;
    const untold = this.untold();
    if (untold.length > 0 && waitedMs < TELL_AT_LAST_MS && this.options.isPaying?.())
      this.tellLater(waitedMs + TELL_AFTER_MS);
    else for (const channel of untold) this.handOver(channel, channel.untoldParts());
  }

  /** What nobody has called, and nobody would catch. */
  private unwaited(work: () => void): void {
    if (this.options.guarded) this.options.guarded(work);
    else work();
  }

  private untold(): SignedChannel[] {
    return [...this.channels.values()].filter(channel => channel.untoldParts().length > 0);
  }

  private handOver(channel: SignedChannel, parts: readonly SigningPart[]): void {
    if (parts.length === 0) return;
    channel.noteHandedOver(parts);
    this.options.peer.ask(channel.announced.keysId, parts);
  }

  // ── LDK's side ────────────────────────────────────────────────────────────────────────────────────────

  private provider(shutdownScript: ShutdownScript): SignerProvider {
    return SignerProvider.new_impl({
      generate_channel_keys_id: (inbound, _valueSat, userChannelId) =>
        this.keysIdFor(Boolean(inbound), userChannelId),
      derive_channel_signer: (valueSat, keysId) => {
        const channel = this.channels.get(toHex(keysId)) ?? this.unannounced(keysId);
        this.guarded(
          channel,
          () => {
            if (valueSat !== BigInt(channel.announced.fundingSat))
              channel.book.refuse("policy-channel-parameters");
          },
          undefined,
        );
        return channelSigner({
          channel,
          guarded: (body, otherwise) => this.guarded(channel, body, otherwise),
          counterpartyDustLimitSat: () =>
            this.options.counterpartyDustLimitSat?.(channel.announced.keysId) ?? 0,
        });
      },
      // Only for objects that LDK wrote before 2022.
      read_chan_signer: () =>
        Result_EcdsaChannelSignerDecodeErrorZ.constructor_err(DecodeError.constructor_invalid_value()),
      get_destination_script: keysId => {
        const channel = this.channels.get(toHex(keysId));
        return channel
          ? Result_CVec_u8ZNoneZ.constructor_ok(channel.announced.destinationScript)
          : Result_CVec_u8ZNoneZ.constructor_err();
      },
      get_shutdown_scriptpubkey: () => Result_ShutdownScriptNoneZ.constructor_ok(shutdownScript),
    });
  }

  /** LDK's user_channel_id may come back with its bytes reversed. */
  private keysIdFor(inbound: boolean, userChannelId: bigint): Uint8Array {
    for (const { announced, book } of this.channels.values()) {
      const id = userChannelIdOf(announced.keysId);
      const isMeant = id === userChannelId || reversed128(id) === userChannelId;
      // A second channel with the same keys would be a second content for the same commitment numbers.
      const isUnused = book.holderNumber < 0 && book.counterpartyNumber < 0;
      if (!inbound && isMeant && isUnused) return announced.keysId;
    }
    // Nobody announced it: it gets a signer that signs nothing.
    return new Uint8Array(randomBytes(32));
  }

  private unannounced(keysId: Uint8Array): SignedChannel {
    this.options.problem(
      keysId,
      "unknown-channel",
      "LDK asks for the keys of a channel that nobody announced",
    );
    return unannouncedChannel(keysId, this.options.shutdownScript);
  }

  /**
   * Runs what LDK called. An exception must not reach LDK; the channel gets no signature any more, since what
   * happened is not known.
   */
  private guarded<T>({ book, announced }: SignedChannel, body: () => T, otherwise: T): T {
    const alreadyRefused = book.refusal !== null;
    let result = otherwise;
    try {
      result = body();
    } catch (error) {
      book.refuse(codeOf(error) ?? "internal");
      if (!alreadyRefused) this.options.problem(announced.keysId, "signer-failed", messageOf(error));
    }
    if (!alreadyRefused && book.refusal !== null) {
      const sentence = `no signature will be given for this channel: ${book.refusal}`;
      this.options.problem(announced.keysId, book.refusal, sentence);
    }
    this.turn();
    return result;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function reversed128(value: bigint): bigint {
  const hex = value.toString(16).padStart(32, "0");
  return BigInt(`0x${hex.match(/../g)!.reverse().join("")}`);
}

function readShutdownScript(script: Uint8Array): ShutdownScript {
  const program = script.slice(2);
  if (script[0] === 0 && script[1] === program.length) {
    if (program.length === 20) return ShutdownScript.constructor_new_p2wpkh(program);
    if (program.length === 32) return ShutdownScript.constructor_new_p2wsh(program);
  }
  throw lngateError("bad-script", "the shutdown script must be P2WPKH or P2WSH");
}
