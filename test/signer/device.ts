/**
 * A device for tests: it holds all of its keys in the open and answers what the remote signer asks, but only
 * after a while, out of order, and some of it twice. Like a real one it rebuilds every transaction from the
 * content it is told and from keys it derives itself, checks the bridge's signatures, and refuses a second
 * content for a number.
 */
import { createHash } from "node:crypto";
import type { PublicKeys } from "../../gateway/signer/decode.ts";
import type {
  CommitmentState,
  HolderState,
  SigningAnswer,
  SigningPart,
  SigningPeer,
  SpendContent,
} from "../../gateway/signer/parts.ts";
import { SIGHASH_ALL, sighash } from "../../src/bitcoin/sighash.ts";
import { parseTransaction } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import {
  anchorScript,
  type ChannelParameters,
  COUNTERPARTY,
  HOLDER,
  htlcScript,
  type Side,
  toLocalScript,
} from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { buildCommitment, type Commitment } from "../../src/lightning/commitment.ts";
import {
  type CommitmentKeys,
  deriveCommitmentKeys,
  derivePrivateKey,
  deriveRevocationPrivateKey,
} from "../../src/lightning/keys.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";

const derive = (seed: string, label: string) =>
  new Uint8Array(createHash("sha256").update(`${seed}/${label}`).digest());

/** Numbers that look random and are the same in every run. */
function pseudoRandom(seed: string): () => number {
  let count = 0;
  return () => derive(seed, `random/${count++}`).reduce((sum, byte) => (sum * 256 + byte) % 65521, 0) / 65521;
}

export class TestDevice implements SigningPeer {
  readonly secrets: Record<
    "funding" | "revocation" | "payment" | "delayed" | "htlc" | "commitments",
    Uint8Array
  >;
  readonly publicKeys: PublicKeys;
  /** Milliseconds before each answer. */
  delayMs = 5;
  /** Switched off: nothing is answered; what was asked is lost. */
  silent = false;
  /** Answers to parts of this kind are wrong. */
  lieAbout: SigningPart["kind"] | null = null;
  /** What it was asked, one entry per message: the ids of the parts. */
  readonly asked: string[][] = [];
  /** Numbers of the holder states it has finished, with its own signature. */
  readonly exits = new Map<number, Uint8Array>();
  /** The points of the bridge's states that it signed. */
  readonly points = new Map<number, Uint8Array>();
  /** How many commitments were rebuilt and found to be what the bridge signed or LDK asked for. */
  rebuilt = 0;
  /** How the answers of one message go out. */
  parametersOf: (keysId: Uint8Array) => ChannelParameters | null = () => null;
  deliver: (keysId: Uint8Array, answers: SigningAnswer[]) => void = () => {};
  private readonly contents = new Map<string, string>();
  private readonly random: () => number;
  private exited = false;
  private channel: ChannelParameters | null = null;

  constructor(seed: string) {
    const names = ["funding", "revocation", "payment", "delayed", "htlc", "commitments"] as const;
    this.secrets = Object.fromEntries(names.map(name => [name, derive(seed, name)])) as TestDevice["secrets"];
    const point = (name: (typeof names)[number]) => nobleCurve.publicKey(this.secrets[name]);
    this.publicKeys = {
      funding: point("funding"),
      basepoints: {
        revocation: point("revocation"),
        payment: point("payment"),
        delayed: point("delayed"),
        htlc: point("htlc"),
      },
    };
    this.random = pseudoRandom(seed);
  }

  point(number: number): Uint8Array {
    return nobleCurve.publicKey(commitmentSecret(this.secrets.commitments, number));
  }

  firstPoints(): Uint8Array[] {
    return [0, 1, 2, 3, 4].map(number => this.point(number));
  }

  ask(keysId: Uint8Array, parts: readonly SigningPart[]): void {
    this.asked.push(parts.map(part => part.id));
    if (this.silent) return;
    // A copy as a link would make one: later changes must not show.
    const message = structuredClone(parts);
    setTimeout(() => {
      if (this.silent) return;
      const answers = message.map(part => {
        const answer = this.answerTo(keysId, part);
        if (part.kind === this.lieAbout) for (const bytes of lies(answer)) bytes.fill(7);
        return answer;
      });
      answers.sort(() => this.random() - 0.5);
      for (const answer of answers) {
        this.deliver(keysId, [answer]);
        if (this.random() < 0.3) this.deliver(keysId, [answer]);
      }
    }, this.delayMs);
  }

  private answerTo(keysId: Uint8Array, part: SigningPart): SigningAnswer {
    // As a real device keeps what was proposed to it.
    this.channel ??= this.parametersOf(keysId);
    const { channel } = this;
    if (!channel) throw new Error("the device was asked before the channel had parameters");
    switch (part.kind) {
      case "revocation":
        return { id: part.id };
      case "holder":
        this.finish(channel, part);
        return {
          id: part.id,
          ...(part.number > 0 ? { secret: commitmentSecret(this.secrets.commitments, part.number - 1) } : {}),
          points: [{ number: part.number + 4, point: this.point(part.number + 4) }],
        };
      case "counterparty": {
        if (this.exited) throw new Error("the device was asked for a state after its exit");
        const { commitment } = this.rebuild(channel, COUNTERPARTY, part);
        this.points.set(part.number, part.point);
        const htlcKey = derivePrivateKey(this.secrets.htlc, this.publicKeys.basepoints.htlc, part.point);
        return {
          id: part.id,
          signatures: [
            nobleCurve.sign(commitment.sighash, this.secrets.funding),
            ...commitment.htlcs.map(htlc => nobleCurve.sign(htlc.sighash, htlcKey)),
          ],
        };
      }
      case "exit":
        this.finish(channel, part);
        this.exited = true;
        return { id: part.id, signatures: [this.exits.get(part.number)!] };
      case "closing": {
        const closing = buildClosing(channel, {
          holderSat: part.toHolderSat,
          counterpartySat: part.toCounterpartySat,
          holderScript: part.holderScript,
          counterpartyScript: part.counterpartyScript,
        });
        return { id: part.id, signatures: [nobleCurve.sign(closing.sighash, this.secrets.funding)] };
      }
      case "funding": {
        if (!this.exits.has(0)) throw new Error("the device was asked to fund before it had an exit");
        const transaction = parseTransaction(part.transaction);
        const hashes = part.inputs.map(input =>
          sighash(transaction, input.index, input.witnessScript, input.amountSat, SIGHASH_ALL),
        );
        return { id: part.id, signatures: hashes.map(hash => nobleCurve.sign(hash, this.secrets.funding)) };
      }
      case "spend":
        return { id: part.id, signatures: [this.spend(channel, part)] };
    }
  }

  /** Our own state: the bridge's signatures must be valid for what is rebuilt here. */
  private finish(channel: ChannelParameters, state: HolderState): void {
    const { commitment, keys } = this.rebuild(channel, HOLDER, state);
    if (!equal(state.point, this.point(state.number)))
      throw new Error("a foreign point in our own commitment");
    const valid =
      nobleCurve.verify(
        state.counterpartySignature,
        commitment.sighash,
        channel.counterparty.fundingPubkey,
      ) &&
      state.counterpartyHtlcSignatures.length === commitment.htlcs.length &&
      commitment.htlcs.every((htlc, i) =>
        nobleCurve.verify(state.counterpartyHtlcSignatures[i]!, htlc.sighash, keys.countersignatoryHtlc),
      );
    if (!valid) throw new Error(`the bridge's signatures on our state ${state.number} are not valid`);
    this.exits.set(state.number, nobleCurve.sign(commitment.sighash, this.secrets.funding));
  }

  private rebuild(
    channel: ChannelParameters,
    broadcaster: Side,
    state: CommitmentState,
  ): { commitment: Commitment; keys: CommitmentKeys } {
    const [first, second] =
      broadcaster === HOLDER
        ? [channel.holder, channel.counterparty]
        : [channel.counterparty, channel.holder];
    const keys = deriveCommitmentKeys(nobleCurve, state.point, first.basepoints, second.basepoints);
    const commitment = buildCommitment(channel, broadcaster, state.number, keys, state.content);
    const which = `${broadcaster}/${state.number}`;
    const txid = toHex(commitment.txid);
    if ((this.contents.get(which) ?? txid) !== txid) throw new Error(`a second content for ${which}`);
    this.contents.set(which, txid);
    this.rebuilt++;
    return { commitment, keys };
  }

  private spend(channel: ChannelParameters, content: SpendContent): Uint8Array {
    const { purpose } = content;
    const sign = (script: Uint8Array, secret: Uint8Array) =>
      nobleCurve.sign(
        sighash(
          parseTransaction(content.transaction),
          content.input,
          script,
          content.amountSat,
          content.sighashType,
        ),
        secret,
      );
    const { holder, counterparty } = channel;
    const htlcSecret = (point: Uint8Array) =>
      derivePrivateKey(this.secrets.htlc, holder.basepoints.htlc, point);
    switch (purpose.kind) {
      case "anchor":
        return sign(anchorScript(holder.fundingPubkey), this.secrets.funding);
      case "holder-htlc": {
        const keys = deriveCommitmentKeys(
          nobleCurve,
          purpose.point,
          holder.basepoints,
          counterparty.basepoints,
        );
        return sign(htlcScript(purpose.htlc, keys), htlcSecret(purpose.point));
      }
      case "counterparty-htlc": {
        const keys = deriveCommitmentKeys(
          nobleCurve,
          purpose.point,
          counterparty.basepoints,
          holder.basepoints,
        );
        return sign(htlcScript(purpose.htlc, keys), htlcSecret(purpose.point));
      }
      case "justice-output":
      case "justice-htlc": {
        const point = nobleCurve.publicKey(purpose.secret);
        const keys = deriveCommitmentKeys(nobleCurve, point, counterparty.basepoints, holder.basepoints);
        const script =
          purpose.kind === "justice-output"
            ? toLocalScript(keys, counterparty.toLocalDelay)
            : htlcScript(purpose.htlc, keys);
        const secret = deriveRevocationPrivateKey(
          this.secrets.revocation,
          holder.basepoints.revocation,
          purpose.secret,
          point,
        );
        return sign(script, secret);
      }
    }
  }
}

const lies = (answer: SigningAnswer) => [
  ...(answer.signatures ?? []),
  ...(answer.secret ? [answer.secret] : []),
];
