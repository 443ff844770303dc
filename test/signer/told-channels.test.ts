/** Of which channels, and what of them, the gateway tells the owner. */
import { expect, test } from "@jest/globals";
import { toldChannels } from "../../gateway/channel/told-channels.ts";
import type { HolderState } from "../../gateway/signer/parts.ts";
import { SigningState } from "../../gateway/signer/state.ts";
import type { ChannelRow } from "../../gateway/store/channel-row.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";
import { MAX_TOLD_CHANNELS, toOwner } from "../../src/messages/owner.ts";
import { proposalWith } from "../device/parties.ts";

const SEED = new Uint8Array(32).fill(9);
const secret = (number: number) => commitmentSecret(SEED, number);
const point = (number: number) => nobleCurve.publicKey(secret(number));
const points = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, i) => point(first + i));
const htlc = { offered: true, amountMsat: 5_000_000, cltvExpiry: 800, paymentHash: secret(90) };

const holder = (number: number): HolderState => ({
  number,
  point: point(number),
  content: { feeratePerKw: 253, toBroadcasterSat: 150_000, toCountersignatorySat: 0, htlcs: [htlc] },
  counterpartySignature: new Uint8Array(64),
  counterpartyHtlcSignatures: [new Uint8Array(64).fill(number)],
});

/** Our states up to `number` are held by the device, and the one after is validated. */
function bookAt(number: number): SigningState {
  const book = SigningState.open(points(0, 4));
  const build = () => ({ checks: [] });
  for (let n = 0; n <= number + 1; n++) {
    book.validateHolder(holder(n), secret(n), build);
    if (n > number) break;
    if (n > 0) book.secretAt(n - 1);
    const further = { number: n + 4, point: point(n + 4) };
    book.answer({ id: `holder/${n}`, ...(n > 0 ? { secret: secret(n - 1) } : {}), points: [further] });
  }
  return book;
}

const row = (index: number, changed: Partial<ChannelRow> = {}): ChannelRow => ({
  stage: "ready",
  index,
  keysId: new Uint8Array(32).fill(index),
  points: [],
  deposits: [],
  channelSat: 200_000,
  changeSat: 0,
  proposal: proposalWith({ index }),
  ...changed,
});
const numbers = (rows: ChannelRow[]) =>
  toldChannels(rows, () => bookAt(0)).map(({ proposal }) => proposal.index);

test("the points of the newest state, of those before it that may be on the chain, and of what the device is ahead", () => {
  const book = bookAt(6);
  const [told] = toldChannels([row(1)], () => book);
  expect(told!.number).toBe(7);
  expect(told!.states.points.map(toHex)).toEqual(points(5, 10).map(toHex));
  // Also the one with which the channel was closed.
  const [closed] = toldChannels([row(1, { stage: "closed", closeNumber: 2 })], () => book);
  expect(closed!.states.points.map(toHex)).toEqual([point(2), ...points(5, 10)].map(toHex));
  // What is not revoked, and may be published: the device may have the state that it has not answered for.
  expect(told!.states.holder.map(({ number, htlcSignatures }) => [number, htlcSignatures[0]![0]])).toEqual([
    [6, 6],
    [7, 7],
  ]);
  expect(told!.states.holder[0]!.view.htlcs).toEqual([
    { amountMsat: 5_000_000, cltvExpiry: 800, paymentHash: secret(90) },
  ]);
  expect(toOwner.decode(toOwner.encode({ type: "channels", channels: [told!] }))).toEqual({
    type: "channels",
    channels: [told],
  });
});

test("the latest come first, those that were closed together last, and what was never funded not at all", () => {
  const closed = { stage: "closed" } as const;
  const rows = [row(1, { ...closed, closeNumber: 3 }), row(2, closed), row(3, { stage: "opening" }), row(4)];
  expect(numbers(rows)).toEqual([4, 1, 2]);
  expect(numbers([row(1, { stage: "funded" })])).toEqual([1]);
  const many = Array.from({ length: MAX_TOLD_CHANNELS + 10 }, (_, i) => row(i + 2, closed));
  // Closes that need nothing push out none that does.
  expect(numbers([...many, row(1)])).toHaveLength(MAX_TOLD_CHANNELS);
  expect(numbers([...many, row(1)])[0]).toBe(1);
});

test("a funding that is signed and not sent counts", () => {
  const book = bookAt(0);
  book.askFunding({ transaction: new Uint8Array(1), inputs: [] }, []);
  expect(toldChannels([row(1, { stage: "opening" })], () => book)).toEqual([]);
  book.answer({ id: "funding", signatures: [] });
  expect(toldChannels([row(1, { stage: "opening" })], () => book)).toHaveLength(1);
});
