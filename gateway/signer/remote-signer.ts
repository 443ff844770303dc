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
 * LDK's callbacks never throw, never call LDK's manager or monitor, and never wait (LDK would be left with locks
 * held). LDK keeps them by weak references only: this object must live as long as the node does.
 */
import { randomBytes } from "node:crypto";
import {
  type ChainMonitor,
  ChannelId,
  type ChannelManager,
  ChannelPublicKeys,
  type ChannelSignerInterface,
  DecodeError,
  DelayedPaymentBasepoint,
  EcdsaChannelSigner,
  type EcdsaChannelSignerInterface,
  type HTLCOutputInCommitment,
  HtlcBasepoint,
  KeysManager,
  Option_C2Tuple_PublicKeyChannelIdZZ,
  OutPoint,
  Result__u832NoneZ,
  Result_C2Tuple_ECDSASignatureCVec_ECDSASignatureZZNoneZ,
  Result_CVec_u8ZNoneZ,
  Result_ECDSASignatureNoneZ,
  Result_EcdsaChannelSignerDecodeErrorZ,
  Result_NoneNoneZ,
  Result_PublicKeyNoneZ,
  Result_ShutdownScriptNoneZ,
  RevocationBasepoint,
  ShutdownScript,
  SignerProvider,
  TwoTuple_ECDSASignatureCVec_ECDSASignatureZZ,
  TwoTuple_PublicKeyChannelIdZ,
} from "lightningdevkit";
import { SIGHASH_ALL, sighash } from "../../src/bitcoin/sighash.ts";
import { parseTransaction } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import {
  anchorScript,
  type ChannelParameters,
  fundingScript,
  type Htlc,
  htlcScript,
  type Side,
  toLocalScript,
} from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { ANCHOR_SAT, buildCommitment, type Commitment } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import {
  type DecodedCommitment,
  decodeClosing,
  decodeCommitment,
  decodeHolder,
  decodeHtlc,
  decodeHtlcDescriptor,
  decodeParameters,
  numberOf,
  type ProvidedParameters,
  type PublicKeys,
} from "./decode.ts";
import {
  type FundingContent,
  isQuestion,
  type SignatureCheck,
  type SigningAnswer,
  type SigningPart,
  type SigningPeer,
  type SpendContent,
  type Unblocks,
} from "./parts.ts";
import { ChannelBook } from "./state.ts";
import type { PlainBook } from "./stored-state.ts";

/** What is fixed about a channel before it is proposed to the bridge. */
export interface SignerChannel {
  /** 32 B, unique for ever: names the device's channel, and this attempt to open it, in LDK's own data. */
  readonly keysId: Uint8Array;
  readonly fundingSat: number;
  /** Node id of the bridge, 33 B. */
  readonly bridge: Uint8Array;
  /** The threshold key, the device's revocation and HTLC basepoints, the owner's payment and delayed basepoints. */
  readonly publicKeys: PublicKeys;
  /** The owner's output script for what LDK claims on the chain. */
  readonly destinationScript: Uint8Array;
}

export interface RemoteSignerOptions {
  /** 32 secret bytes of this node: its node id and onion keys, nothing of the channel. */
  readonly nodeSeed: Uint8Array;
  /** The owner's output script for a mutual close: P2WPKH or P2WSH. Throws `bad-script` for another. */
  readonly shutdownScript: Uint8Array;
  readonly peer: SigningPeer;
  /** The bridge's dust limit for this channel, sat; undefined if it is not known. */
  readonly theirDustLimitSat?: (keysId: Uint8Array) => number | undefined;
  /** Told of a channel that gets no signature any more, and of answers that were wrong. Never a secret in it. */
  readonly problem: (keysId: Uint8Array, code: string, sentence: string) => void;
}

/** The node that this signer signs for. */
export interface SignedNode {
  readonly channelManager: ChannelManager;
  readonly chainMonitor: ChainMonitor;
  /** LDK may have messages to send and events to handle. */
  wake(): void;
}

/** The user_channel_id to pass to create_channel, which ties it to the channel announced by addChannel. */
export function userChannelIdOf(keysId: Uint8Array): bigint {
  // 120 bits: LDK's binding takes no number of 2^124 or more for a u128.
  return BigInt(`0x${toHex(keysId.subarray(0, 15))}`);
}

interface Entry {
  readonly channel: SignerChannel;
  readonly book: ChannelBook;
  /** Once LDK has provided them. */
  parameters: ChannelParameters | null;
  /** Part ids that were handed to the peer. */
  handedOver: Set<string>;
  /** The book's revision that was last given away for storing. */
  storedRevision: number;
  unblocks: Unblocks[];
  /** The bridge is connected, and the channel was opened or reestablished since. */
  live: boolean;
  /** This channel, for ChannelManager.signer_unblocked. */
  target: Option_C2Tuple_PublicKeyChannelIdZZ | null;
}

export class RemoteSigner {
  /** Stock entropy source and node signer. */
  readonly keys: KeysManager;
  readonly signerProvider: SignerProvider;
  private readonly options: RemoteSignerOptions;
  private readonly entries = new Map<string, Entry>();
  private readonly shutdownScript: ShutdownScript;
  private node: SignedNode | null = null;
  private turnPending = false;
  private readonly connected = new Set<string>();
  private readonly everyChannel = Option_C2Tuple_PublicKeyChannelIdZZ.constructor_none();

  constructor(options: RemoteSignerOptions) {
    this.options = options;
    const now = Date.now();
    this.keys = KeysManager.constructor_new(
      options.nodeSeed,
      BigInt(Math.floor(now / 1000)),
      (now % 1000) * 1e6,
    );
    this.shutdownScript = readShutdownScript(options.shutdownScript);
    this.signerProvider = SignerProvider.new_impl({
      generate_channel_keys_id: (inbound, _valueSat, userChannelId) =>
        this.keysIdFor(Boolean(inbound), userChannelId),
      derive_channel_signer: (valueSat, keysId) => {
        const entry = this.entryFor(keysId);
        this.guarded(
          entry,
          () => {
            if (valueSat !== BigInt(entry.channel.fundingSat)) entry.book.refuse("policy-channel-parameters");
          },
          undefined,
        );
        return this.channelSigner(entry);
      },
      // Only for objects that LDK wrote before 2022.
      read_chan_signer: () =>
        Result_EcdsaChannelSignerDecodeErrorZ.constructor_err(DecodeError.constructor_invalid_value()),
      get_destination_script: keysId => {
        const entry = this.entries.get(toHex(keysId));
        return entry
          ? Result_CVec_u8ZNoneZ.constructor_ok(entry.channel.destinationScript)
          : Result_CVec_u8ZNoneZ.constructor_err();
      },
      get_shutdown_scriptpubkey: () => Result_ShutdownScriptNoneZ.constructor_ok(this.shutdownScript),
    });
  }

  // ── for the gateway ───────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes a channel known: a new one with the device's first commitment points (0 to 4 or more), or one from the
   * store. Throws `bad-point` and what ChannelBook throws, `keys-id-taken` for a second one.
   */
  addChannel(channel: SignerChannel, from: PlainBook | readonly Uint8Array[]): ChannelBook {
    const key = toHex(channel.keysId);
    if (this.entries.has(key))
      throw lngateError("keys-id-taken", "this signer has a channel of this keys id already");
    // An invalid point would stop LDK altogether.
    const { funding, basepoints } = channel.publicKeys;
    for (const point of [
      funding,
      basepoints.revocation,
      basepoints.payment,
      basepoints.delayed,
      basepoints.htlc,
    ]) {
      if (!nobleCurve.isPoint(point))
        throw lngateError("bad-point", "a public key of the channel is no point of the curve");
    }
    const book = "version" in from ? ChannelBook.fromPlain(from) : ChannelBook.open(from);
    const storedRevision = "version" in from ? book.revision : -1;
    const live = this.connected.has(toHex(channel.bridge));
    this.entries.set(key, { ...newEntry(channel, book), storedRevision, live });
    return book;
  }

  /** Forgets a channel that LDK has no monitor of (any more). */
  removeChannel(keysId: Uint8Array): void {
    this.entries.delete(toHex(keysId));
  }

  /** The book of a channel, undefined if there is none. */
  book(keysId: Uint8Array): ChannelBook | undefined {
    return this.entries.get(toHex(keysId))?.book;
  }

  /** What LDK has told about a channel, once the funding transaction is known. */
  parameters(keysId: Uint8Array): ChannelParameters | null {
    return this.entries.get(toHex(keysId))?.parameters ?? null;
  }

  /** A closing signature is awaited: suspend this node's timer_tick_occurred, or LDK closes by force. */
  get closingPending(): boolean {
    return [...this.entries.values()].some(entry => entry.book.closingPending);
  }

  /**
   * The node is built (and loaded). LDK is asked to repeat what it waits for, the device gets what is unanswered.
   * Call it again with the new objects if the node is rebuilt.
   */
  attach(node: SignedNode): void {
    this.node = node;
    for (const entry of this.entries.values()) entry.unblocks.push("manager", "monitor");
    this.turn();
  }

  /** Answers of the device's, from anywhere but inside a callback of LDK's. Wrong ones go to `problem`. */
  answer(keysId: Uint8Array, answers: readonly SigningAnswer[]): void {
    const entry = this.entries.get(toHex(keysId));
    if (!entry) {
      this.options.problem(keysId, "unknown-channel", "an answer for a channel that is not known");
      return;
    }
    for (const answer of answers) {
      try {
        entry.unblocks.push(entry.book.answer(answer));
        if (answer.refused !== undefined) {
          this.options.problem(keysId, answer.refused, `the device refuses ${answer.id}`);
        }
      } catch (error) {
        this.options.problem(keysId, codeOf(error) ?? "internal", messageOf(error));
      }
    }
    this.turn();
  }

  // ── what watchedMessages (messages.ts) tells ─────────────────────────────────────────────────────

  peerConnected(nodeId: Uint8Array): void {
    this.connected.add(toHex(nodeId));
    // A channel that is not funded yet has nothing to reestablish.
    for (const entry of this.entries.values()) {
      if (equal(entry.channel.bridge, nodeId)) entry.live = entry.parameters === null;
    }
    this.turn();
  }

  peerDisconnected(nodeId: Uint8Array): void {
    this.connected.delete(toHex(nodeId));
    for (const entry of this.entries.values()) {
      if (equal(entry.channel.bridge, nodeId)) entry.live = false;
    }
  }

  /**
   * The bridge has seen the revocation of a state of ours that is our newest here, or one that we do not know: this
   * book is older than the channel. Where its proof can be checked and is wrong, LDK deals with it.
   */
  isBehind(channelId: Uint8Array, nextRevocation: number, lastSecret: Uint8Array): boolean {
    for (const { parameters, book } of this.entries.values()) {
      if (!parameters || !equal(channelIdOf(parameters).get_a(), channelId)) continue;
      return nextRevocation > book.holderNumber && book.mayHaveRevoked(nextRevocation - 1, lastSecret);
    }
    return false;
  }

  /** LDK has answered the bridge's channel_reestablish. */
  reestablished(channelId: Uint8Array): void {
    for (const entry of this.entries.values()) {
      if (entry.parameters && equal(channelIdOf(entry.parameters).get_a(), channelId)) entry.live = true;
    }
    this.turn();
  }

  /**
   * The bridge's revoke_and_ack has arrived, and LDK will see it next. With it the device is told the bridge's
   * next point ahead of time; a gateway that does not call this loses nothing but that time.
   */
  revokeAndAck(channelId: Uint8Array, secret: Uint8Array, nextPoint: Uint8Array): void {
    for (const { parameters, book } of this.entries.values()) {
      if (parameters && equal(channelIdOf(parameters).get_a(), channelId))
        book.announcedPoint(secret, nextPoint);
    }
  }

  /** Asks the device to sign the funding transaction, as soon as it holds exit 0. Throws `content-conflict`. */
  askFunding(keysId: Uint8Array, content: FundingContent): void {
    const entry = this.known(keysId);
    const transaction = parseTransaction(content.transaction);
    const checks = content.inputs.map(({ index, witnessScript, amountSat }) => ({
      publicKey: entry.channel.publicKeys.funding,
      hash: sighash(transaction, index, witnessScript, amountSat),
    }));
    entry.book.askFunding(content, checks);
    this.turn();
  }

  /** Asks for the signature of an on-chain spend that LDK does not ask for itself. Null: not yet. */
  askSpend(keysId: Uint8Array, content: SpendContent): Uint8Array | null {
    const entry = this.known(keysId);
    const signature = entry.book.spendSignature(content, this.spendCheck(entry, content));
    this.turn();
    return signature;
  }

  /** Hands over everything unanswered again. */
  askAgain(keysId: Uint8Array): void {
    const entry = this.known(keysId);
    entry.handedOver.clear();
    this.turn();
  }

  /** Hands over what is only told (revocations), although nothing is asked: for when the device is idle. */
  tell(keysId: Uint8Array): void {
    const entry = this.known(keysId);
    this.handOver(
      entry,
      entry.book.wants().filter(part => !isQuestion(part)),
    );
  }

  /** The books that have changed since they were last taken, to be stored with LDK's state in one transaction. */
  changedBooks(): { readonly keysId: Uint8Array; readonly book: PlainBook }[] {
    const changed: { keysId: Uint8Array; book: PlainBook }[] = [];
    for (const entry of this.entries.values()) {
      if (entry.storedRevision === entry.book.revision) continue;
      entry.storedRevision = entry.book.revision;
      changed.push({ keysId: entry.channel.keysId, book: entry.book.toPlain() });
    }
    return changed;
  }

  private known(keysId: Uint8Array): Entry {
    const entry = this.entries.get(toHex(keysId));
    if (!entry) throw lngateError("unknown-channel", "no channel with this keys id is known");
    return entry;
  }

  // ── one turn of the event loop: gather, hand over, let LDK ask again ──────────────────────────────────

  private turn(): void {
    if (this.turnPending) return;
    this.turnPending = true;
    setImmediate(() => {
      this.turnPending = false;
      if (this.node === null) return;
      for (const entry of this.entries.values()) {
        this.unblock(entry);
        const wanted = entry.book.wants();
        entry.handedOver = new Set(wanted.map(part => part.id).filter(id => entry.handedOver.has(id)));
        const fresh = wanted.filter(part => !isQuestion(part) || !entry.handedOver.has(part.id));
        if (fresh.some(isQuestion)) this.handOver(entry, fresh);
      }
    });
  }

  private handOver(entry: Entry, parts: readonly SigningPart[]): void {
    if (parts.length === 0) return;
    for (const part of parts) entry.handedOver.add(part.id);
    this.options.peer.ask(entry.channel.keysId, parts);
  }

  /** Lets LDK ask again, as far as it may now. */
  private unblock(entry: Entry): void {
    const { node } = this;
    if (node === null || entry.unblocks.length === 0) return;
    const manager = entry.unblocks.includes("manager");
    const monitor = entry.unblocks.includes("monitor");
    const later = manager && !this.mayUnblock(entry, node.chainMonitor);
    entry.unblocks = later ? ["manager"] : [];
    if (monitor) node.chainMonitor.signer_unblocked(null);
    if (manager && !later) {
      const { parameters } = entry;
      // One object per channel: the manager's binding keeps every object that was ever passed to it.
      if (parameters) entry.target ??= targetOf(entry.channel.bridge, channelIdOf(parameters));
      node.channelManager.signer_unblocked(entry.target ?? this.everyChannel);
    }
    if (monitor || (manager && !later)) node.wake();
  }

  /**
   * LDK 0.1 does not check by itself whether a message that was waiting for the signer may be sent now. Two cases
   * end with the bridge closing the channel: a message before channel_reestablish, and a revoke_and_ack that goes
   * out twice because a monitor update was in progress too.
   */
  private mayUnblock(entry: Entry, chainMonitor: ChainMonitor): boolean {
    if (!entry.live) return false;
    const storing = chainMonitor.list_pending_monitor_updates().some(each => each.get_b().length > 0);
    if (storing) setTimeout(() => this.turn(), STORE_RETRY_MS).unref();
    return !storing;
  }

  // ── LDK's side ────────────────────────────────────────────────────────────────────────────────────────

  /** LDK's user_channel_id may come back with its bytes reversed. */
  private keysIdFor(inbound: boolean, userChannelId: bigint): Uint8Array {
    for (const { channel, book } of this.entries.values()) {
      const id = userChannelIdOf(channel.keysId);
      const isMeant = id === userChannelId || reversed128(id) === userChannelId;
      // A second channel with the same keys would be a second content for the same commitment numbers.
      const isUnused = book.holderNumber < 0 && book.counterpartyNumber < 0;
      if (!inbound && isMeant && isUnused) return channel.keysId;
    }
    // Nobody announced it: it gets a signer that signs nothing (entryFor).
    return new Uint8Array(randomBytes(32));
  }

  private entryFor(keysId: Uint8Array): Entry {
    const entry = this.entries.get(toHex(keysId));
    if (entry) return entry;
    const point = () => nobleCurve.publicKey(new Uint8Array(randomBytes(32)));
    const channel: SignerChannel = {
      keysId,
      fundingSat: 0,
      bridge: point(),
      publicKeys: {
        funding: point(),
        basepoints: { revocation: point(), payment: point(), delayed: point(), htlc: point() },
      },
      destinationScript: this.options.shutdownScript,
    };
    const book = ChannelBook.open([point(), point(), point(), point(), point()]);
    book.refuse("unknown-channel");
    this.options.problem(
      keysId,
      "unknown-channel",
      "LDK asks for the keys of a channel that nobody announced",
    );
    return newEntry(channel, book);
  }

  private channelSigner(entry: Entry): EcdsaChannelSigner {
    const { funding, basepoints } = entry.channel.publicKeys;
    return EcdsaChannelSigner.new_impl(
      this.ecdsaSigner(entry),
      this.stateSigner(entry),
      ChannelPublicKeys.constructor_new(
        funding,
        RevocationBasepoint.constructor_new(basepoints.revocation),
        basepoints.payment,
        DelayedPaymentBasepoint.constructor_new(basepoints.delayed),
        HtlcBasepoint.constructor_new(basepoints.htlc),
      ),
    );
  }

  /**
   * Runs what LDK called. An exception must not reach LDK; the channel gets no signature any more, since what
   * happened is not known.
   */
  private guarded<T>(entry: Entry, body: () => T, otherwise: T): T {
    const { book } = entry;
    const alreadyRefused = book.refusal !== null;
    let result = otherwise;
    try {
      result = body();
    } catch (error) {
      book.refuse(codeOf(error) ?? "internal");
      if (!alreadyRefused) this.options.problem(entry.channel.keysId, "signer-failed", messageOf(error));
    }
    if (!alreadyRefused && book.refusal !== null) {
      const sentence = `no signature will be given for this channel: ${book.refusal}`;
      this.options.problem(entry.channel.keysId, book.refusal, sentence);
    }
    this.turn();
    return result;
  }

  private stateSigner(entry: Entry): ChannelSignerInterface {
    const { book, channel } = entry;
    return {
      get_per_commitment_point: index => {
        const point = this.guarded(entry, () => book.pointAt(numberOf(index)), null);
        return point ? Result_PublicKeyNoneZ.constructor_ok(point) : Result_PublicKeyNoneZ.constructor_err();
      },
      release_commitment_secret: index => {
        const secret = this.guarded(entry, () => book.secretAt(numberOf(index)), null);
        return secret ? Result__u832NoneZ.constructor_ok(secret) : Result__u832NoneZ.constructor_err();
      },
      // An Err here would close the channel. What is wrong is noticed, and no signature follows.
      validate_holder_commitment: (holder, preimages) => {
        this.guarded(
          entry,
          () => {
            const { state, commitment } = decodeHolder(holder);
            const { txid, checks } = this.rebuilt(entry, "ours", commitment);
            const fulfilled = preimages.length > 0 ? { preimages: preimages.map(each => each.slice()) } : {};
            book.validateHolder({ ...state, ...fulfilled }, txid, checks);
          },
          undefined,
        );
        return Result_NoneNoneZ.constructor_ok();
      },
      validate_counterparty_revocation: (index, secret) => {
        this.guarded(entry, () => book.counterpartyRevoked(numberOf(index), secret), undefined);
        return Result_NoneNoneZ.constructor_ok();
      },
      channel_keys_id: () => channel.keysId,
      provide_channel_parameters: parameters => {
        this.guarded(entry, () => this.provide(entry, decodeParameters(parameters)), undefined);
      },
    };
  }

  private ecdsaSigner(entry: Entry): EcdsaChannelSignerInterface {
    const { book } = entry;
    const single = (body: () => Uint8Array | null) => {
      const signature = this.guarded(entry, body, null);
      return signature
        ? Result_ECDSASignatureNoneZ.constructor_ok(signature)
        : Result_ECDSASignatureNoneZ.constructor_err();
    };
    const spend = (content: SpendContent) => book.spendSignature(content, this.spendCheck(entry, content));
    const never = () => Result_ECDSASignatureNoneZ.constructor_err();
    return {
      sign_counterparty_commitment: commitment => {
        const signatures = this.guarded(
          entry,
          () => {
            const decoded = decodeCommitment(commitment);
            const { txid, checks, htlcChecks } = this.rebuilt(entry, "theirs", decoded);
            return book.counterpartySignatures(decoded.state, txid, [...checks, ...htlcChecks]);
          },
          null,
        );
        const result = Result_C2Tuple_ECDSASignatureCVec_ECDSASignatureZZNoneZ;
        if (!signatures) return result.constructor_err();
        const [first, ...htlcs] = signatures;
        return result.constructor_ok(
          TwoTuple_ECDSASignatureCVec_ECDSASignatureZZ.constructor_new(first!, htlcs),
        );
      },
      sign_holder_commitment: holder =>
        single(() => {
          const { state, commitment } = decodeHolder(holder);
          const { txid, checks } = this.rebuilt(entry, "ours", commitment);
          return book.exitSignature(state, txid, checks);
        }),
      sign_closing_transaction: closing =>
        single(() => {
          const parameters = provided(entry);
          const asked = decodeClosing(closing);
          const hashOf = (content: typeof asked) =>
            buildClosing(parameters, {
              ourSat: content.toHolderSat,
              theirSat: content.toCounterpartySat,
              ourScript: content.holderScript,
              theirScript: content.counterpartyScript,
            }).sighash;
          const script = fundingScript(parameters);
          const ldksHash = closing.trust().get_sighash_all(script, BigInt(parameters.fundingSat));
          if (!equal(hashOf(asked), ldksHash)) {
            throw lngateError("closing-mismatch", "the mutual close is not as LDK has built it");
          }
          // A bridge leaves out what is below its own dust limit, and takes no signature for anything else. LDK goes by
          // ours, but finds out what the bridge has signed, and puts this signature beside it.
          const dustSat = this.options.theirDustLimitSat?.(entry.channel.keysId) ?? 0;
          const content = asked.toCounterpartySat < dustSat ? { ...asked, toCounterpartySat: 0 } : asked;
          return book.closingSignature(content, {
            publicKey: parameters.ours.fundingPubkey,
            hash: hashOf(content),
          });
        }),
      sign_holder_htlc_transaction: (transaction, input, descriptor) =>
        single(() => {
          const { number, point, htlc } = decodeHtlcDescriptor(descriptor);
          return spend({
            purpose: { kind: "holder-htlc", number, point, htlc },
            transaction,
            input,
            amountSat: satOf(htlc),
            sighashType: SIGHASH_ALL,
          });
        }),
      sign_counterparty_htlc_transaction: (transaction, input, amount, point, htlc) =>
        single(() =>
          spend({
            purpose: { kind: "counterparty-htlc", point, htlc: decodeHtlc(htlc) },
            transaction,
            input,
            amountSat: Number(amount),
            sighashType: SIGHASH_ALL,
          }),
        ),
      sign_justice_revoked_output: (transaction, input, amount, secret) =>
        single(() =>
          spend({
            purpose: { kind: "justice-output", secret },
            transaction,
            input,
            amountSat: Number(amount),
            sighashType: SIGHASH_ALL,
          }),
        ),
      sign_justice_revoked_htlc: (
        transaction: Uint8Array,
        input: number,
        amount: bigint,
        secret: Uint8Array,
        htlc: HTLCOutputInCommitment,
      ) =>
        single(() =>
          spend({
            purpose: { kind: "justice-htlc", secret, htlc: decodeHtlc(htlc) },
            transaction,
            input,
            amountSat: Number(amount),
            sighashType: SIGHASH_ALL,
          }),
        ),
      sign_holder_anchor_input: (transaction, input) =>
        single(() =>
          spend({
            purpose: { kind: "anchor" },
            transaction,
            input,
            amountSat: ANCHOR_SAT,
            sighashType: SIGHASH_ALL,
          }),
        ),
      // Channels are private and are not spliced.
      sign_channel_announcement_with_funding_key: never,
      sign_splicing_funding_input: never,
    };
  }

  /**
   * LDK provides the same parameters once per monitor and once per manager. An LDK that was talked out of anchors
   * says so only here.
   */
  private provide(entry: Entry, given: ProvidedParameters): void {
    const { channel, book } = entry;
    const samePublicKeys =
      equal(given.ours.funding, channel.publicKeys.funding) &&
      (["revocation", "payment", "delayed", "htlc"] as const).every(each =>
        equal(given.ours.basepoints[each], channel.publicKeys.basepoints[each]),
      );
    const known = entry.parameters?.funding;
    const sameFunding =
      !known || (equal(known.txid, given.funding.txid) && known.vout === given.funding.vout);
    if (!given.anchors || !given.weFund || !samePublicKeys || !sameFunding) {
      book.refuse("policy-channel-parameters");
      return;
    }
    entry.parameters = {
      funding: given.funding,
      fundingSat: channel.fundingSat,
      funder: "ours",
      ours: {
        fundingPubkey: given.ours.funding,
        basepoints: given.ours.basepoints,
        toLocalDelay: given.ourDelay,
        dustLimitSat: NOT_KNOWN_TO_SIGNERS,
      },
      theirs: {
        fundingPubkey: given.theirs.funding,
        basepoints: given.theirs.basepoints,
        toLocalDelay: given.theirDelay,
        dustLimitSat: NOT_KNOWN_TO_SIGNERS,
      },
    };
  }

  /**
   * Builds a commitment from what the device will be told, and insists that it is LDK's, so that what the device
   * signs is what LDK asked for. Checks: the funding key's signature, and for the bridge's commitment our HTLC key's.
   */
  private rebuilt(
    entry: Entry,
    broadcaster: Side,
    decoded: DecodedCommitment,
  ): { txid: Uint8Array; checks: SignatureCheck[]; htlcChecks: SignatureCheck[] } {
    const parameters = provided(entry);
    const { number, content } = decoded.state;
    const commitment: Commitment = buildCommitment(parameters, broadcaster, number, decoded.keys, content);
    if (!equal(commitment.txid, decoded.txid)) {
      throw lngateError(
        "commitment-mismatch",
        `commitment ${number} (${broadcaster}) is not as LDK has built it`,
      );
    }
    return {
      txid: decoded.txid,
      checks: [{ publicKey: parameters.ours.fundingPubkey, hash: commitment.sighash }],
      htlcChecks: commitment.htlcs.map(htlc => ({
        publicKey: decoded.keys.countersignatoryHtlc,
        hash: htlc.sighash,
      })),
    };
  }

  /** What the signature of a spend must be valid for; the keys come from the channel's basepoints. */
  private spendCheck(entry: Entry, content: SpendContent): SignatureCheck {
    const { ours, theirs } = provided(entry);
    const { purpose } = content;
    const check = (publicKey: Uint8Array, witnessScript: Uint8Array) => ({
      publicKey,
      hash: sighash(
        parseTransaction(content.transaction),
        content.input,
        witnessScript,
        content.amountSat,
        content.sighashType,
      ),
    });
    const keysAt = (point: Uint8Array, broadcaster: Side) =>
      broadcaster === "ours"
        ? deriveCommitmentKeys(nobleCurve, point, ours.basepoints, theirs.basepoints)
        : deriveCommitmentKeys(nobleCurve, point, theirs.basepoints, ours.basepoints);
    switch (purpose.kind) {
      case "anchor":
        return check(ours.fundingPubkey, anchorScript(ours.fundingPubkey));
      case "holder-htlc": {
        const keys = keysAt(purpose.point, "ours");
        return check(keys.broadcasterHtlc, htlcScript(purpose.htlc, keys));
      }
      case "counterparty-htlc": {
        const keys = keysAt(purpose.point, "theirs");
        return check(keys.countersignatoryHtlc, htlcScript(purpose.htlc, keys));
      }
      case "justice-output":
      case "justice-htlc": {
        const keys = keysAt(nobleCurve.publicKey(purpose.secret), "theirs");
        const script =
          purpose.kind === "justice-output"
            ? toLocalScript(keys, theirs.toLocalDelay)
            : htlcScript(purpose.htlc, keys);
        return check(keys.revocation, script);
      }
    }
  }
}

/** How soon to look again whether LDK's store is done. */
const STORE_RETRY_MS = 3;

/** LDK tells its signer no dust limits; what is built from a commitment's content needs none. */
const NOT_KNOWN_TO_SIGNERS = 0;

function newEntry(channel: SignerChannel, book: ChannelBook): Entry {
  return {
    channel,
    book,
    parameters: null,
    handedOver: new Set(),
    storedRevision: book.revision,
    unblocks: [],
    live: false,
    target: null,
  };
}

function provided(entry: Entry): ChannelParameters {
  if (entry.parameters) return entry.parameters;
  throw lngateError(entry.book.refusal ?? "no-parameters", "LDK has not provided usable channel parameters");
}

function channelIdOf({ funding }: ChannelParameters): ChannelId {
  return ChannelId.constructor_v1_from_funding_outpoint(OutPoint.constructor_new(funding.txid, funding.vout));
}

function targetOf(bridge: Uint8Array, channelId: ChannelId): Option_C2Tuple_PublicKeyChannelIdZZ {
  return Option_C2Tuple_PublicKeyChannelIdZZ.constructor_some(
    TwoTuple_PublicKeyChannelIdZ.constructor_new(bridge, channelId),
  );
}

function satOf(htlc: Htlc): number {
  return Math.floor(htlc.amountMsat / 1000);
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
