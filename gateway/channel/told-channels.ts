/**
 * What the owner's computer is told of a device's channels, so that it finds their money without the device. The commitment
 * points are the device's choice: of one that was stolen they need not follow from the owner's words, and then nobody
 * else knows them.
 */
import { toHex } from "../../src/bytes/bytes.ts";
import { MAX_HTLCS } from "../../src/channel/terms.ts";
import { viewOf } from "../../src/channel/transactions.ts";
import { MAX_TOLD_CHANNELS, type ToldChannel, type ToldStates } from "../../src/messages/owner.ts";
import type { CommitmentState } from "../signer/parts.ts";
import type { SigningState } from "../signer/state.ts";
import type { ChannelRow } from "../store/channel-row.ts";

/** Revoked states whose points are told: a gateway may not know yet which one is revoked, and the bridge may be gone. */
const BEHIND = 2;
/** A gateway that was put back from a copy may be behind its device, which gives that many points in advance. */
const AHEAD = 4;
const MAX_STATES = 2;

/** The channels in these rows that may have money on the chain, the latest first; what a mutual close ended needs nothing, and comes last. */
export function toldChannels(
  rows: readonly ChannelRow[],
  bookOf: (keysId: Uint8Array) => SigningState | undefined,
): ToldChannel[] {
  const needsNothing = ({ stage, closeNumber }: ChannelRow) =>
    stage === "closed" && closeNumber === undefined ? 1 : 0;
  const latest = rows.slice().sort((a, b) => needsNothing(a) - needsNothing(b) || b.index - a.index);
  const told = latest.flatMap(({ proposal, stage, keysId, closeNumber }) => {
    const book = bookOf(keysId);
    // What never got as far as a signed funding costs a thief nothing, and would push the others out.
    const isFunded = stage !== "opening" || Boolean(book?.fundingSignatures);
    if (!proposal || !book || !isFunded) return [];
    return [{ proposal, number: Math.max(0, book.holderNumber), states: statesOf(book, closeNumber) }];
  });
  return told.slice(0, MAX_TOLD_CHANNELS);
}

function statesOf(book: SigningState, closeNumber: number | undefined): ToldStates {
  const newest = Math.max(0, book.holderNumber);
  const numbers = closeNumber === undefined ? [] : [closeNumber];
  for (let number = Math.max(0, newest - BEHIND); number <= newest + AHEAD; number++) numbers.push(number);
  const points = numbers.flatMap(number => book.pointAt(number) ?? []);
  return {
    points: [...new Map(points.map(point => [toHex(point), point])).values()],
    holder: told(book.holderStates).map(state => ({
      ...stateOf(state, true),
      htlcSignatures: state.counterpartyHtlcSignatures,
    })),
    counterparty: told(book.counterpartyStates).map(state => stateOf(state, false)),
  };
}

/** There are never more than two; a device follows no more payments. */
function told<State extends CommitmentState>(states: readonly State[]): State[] {
  return states.filter(({ content }) => content.htlcs.length <= MAX_HTLCS).slice(-MAX_STATES);
}

function stateOf({ number, point, content }: CommitmentState, isOurs: boolean) {
  return { number, point, view: viewOf(content, isOurs) };
}
