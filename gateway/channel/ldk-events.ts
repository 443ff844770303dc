/** What LDK tells of a device's channel: who of opening, funding and ending hears of it. */
import * as ldk from "lightningdevkit";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import type { Log } from "../log.ts";
import { userChannelIdOf } from "../signer/remote-signer.ts";
import type { BridgeWords } from "./bridge.ts";
import type { DeviceChannel } from "./channel.ts";
import type { ChannelFunding } from "./funding.ts";
import type { ChannelOpening } from "./opening.ts";

/** Who hears of the channel's events. */
export interface ChannelParts {
  readonly channel: DeviceChannel;
  readonly opening: ChannelOpening;
  readonly funding: ChannelFunding;
  readonly words: BridgeWords;
  readonly log: Log;
  /** Gives a transaction to bitcoind. */
  broadcast(transaction: Uint8Array): void;
}

/** Handles one of LDK's events if it is about the channel; others are passed over. */
export function onChannelEvent(event: ldk.Event, parts: ChannelParts): void {
  if (event instanceof ldk.Event_FundingGenerationReady) parts.funding.build(event);
  else if (event instanceof ldk.Event_FundingTxBroadcastSafe) parts.funding.sign();
  else if (event instanceof ldk.Event_ChannelReady) parts.opening.ready();
  else if (event instanceof ldk.Event_ChannelClosed) closed(event, parts);
  else if (event instanceof ldk.Event_BumpTransaction) bump(event.bump_transaction, parts);
}

function closed(event: ldk.Event_ChannelClosed, parts: ChannelParts): void {
  const { channel, opening, funding, words, log } = parts;
  const { row } = channel;
  if (!row || !isUserChannelId(event.user_channel_id, row.keysId)) return;
  funding.broadcast();
  const reason = event.reason.constructor.name.replace(/^ClosureReason_/, "");
  log.info("LDK has closed the channel", { reason, stage: row.stage });
  if (row.stage === "opening")
    opening.failed(row, event.reason, peerWords(event.reason) ?? words.last ?? reason);
  else if (row.stage !== "closed") channel.put({ ...row, stage: "closing" });
}

/**
 * LDK wants fees paid by a coin. There is none here, and none is needed for a commitment, which pays its own; what
 * timed out in it is collected by the owner's computer.
 */
function bump(bump: ldk.BumpTransactionEvent, parts: ChannelParts): void {
  if (bump instanceof ldk.BumpTransactionEvent_ChannelClose) parts.broadcast(bump.commitment_tx);
}

/** What LDK says of the other side's, or its own, reason. */
function peerWords(reason: ldk.ClosureReason): string | undefined {
  if (reason instanceof ldk.ClosureReason_CounterpartyForceClosed) return reason.peer_msg.get_a();
  if (reason instanceof ldk.ClosureReason_ProcessingError) return reason.err;
  return undefined;
}

/** LDK's binding may give a u128 back with its bytes reversed. */
function isUserChannelId(id: bigint, keysId: Uint8Array): boolean {
  const bytes = fromHex(id.toString(16).padStart(32, "0"));
  const expected = userChannelIdOf(keysId);
  return id === expected || BigInt(`0x${toHex(bytes.reverse())}`) === expected;
}
