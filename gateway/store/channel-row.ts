/** What the gateway stores of a device's channel besides LDK's own state. */
import type { Database } from "lmdb";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import {
  bytes,
  bytesUpTo,
  decodeValue,
  encodeValue,
  list,
  optional,
  struct,
  text,
  UINT16,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import { MAX_DEPOSITS, proposalCodec } from "../../src/channel/terms.ts";
import { MAX_COMMITMENT_NUMBER } from "../../src/lightning/shachain.ts";
import type { Peer } from "../lightning/peers/contacts.ts";

const depositCodec = struct({ txid: [1, bytes(32)], vout: [2, uint(UINT32)], valueSat: [3, uint(UINT53)] });

/**
 * opening   the bridge was asked; the funding transaction is not signed
 * funded    it is signed and broadcast
 * ready     payments can be made
 * closing   it is to be closed, or LDK has closed it
 * closed    the transaction that ends it is in a block
 */
export type ChannelStage = "opening" | "funded" | "ready" | "closing" | "closed";
const STAGES: readonly ChannelStage[] = ["opening", "funded", "ready", "closing", "closed"];

const rowCodec = struct({
  stage: [1, text(8)],
  /** The device's number of the channel. */
  index: [2, uint(UINT32)],
  /** Names this attempt in LDK's data. */
  keysId: [3, bytes(32)],
  /** The device's first commitment points. */
  points: [4, list(bytes(33), 8)],
  deposits: [5, list(depositCodec, MAX_DEPOSITS)],
  channelSat: [6, uint(UINT53)],
  changeSat: [7, uint(UINT53)],
  /** From accept_channel. */
  counterpartyDustLimitSat: optional([8, uint(UINT53)]),
  reserveSat: optional([9, uint(UINT53)]),
  /** From accept_channel, too, and no more than the channel holds. */
  inFlightMsat: optional([20, uint(UINT53)]),
  /** Once the bridge's keys are known. */
  proposal: optional([10, proposalCodec]),
  /** Signed. */
  fundingTransaction: optional([11, bytesUpTo(4000)]),
  closeTxid: optional([12, bytes(32)]),
  /** If it was a commitment, of either side: its number. */
  closeNumber: optional([21, uint(MAX_COMMITMENT_NUMBER)]),
  /** Who it is with, for good: the configuration may name another bridge later, for the next channel. */
  bridge: optional([13, struct({ nodeId: [1, bytes(33)], host: [2, text(255)], port: [3, uint(UINT16)] })]),
});
type RowData = ValueOf<typeof rowCodec>;
export type ChannelRow = Omit<RowData, "stage"> & { readonly stage: ChannelStage };

export function readChannelRow(
  table: Database<Uint8Array, string>,
  deviceId: string,
): ChannelRow | undefined {
  const stored = table.get(deviceId);
  return stored && readRow(stored);
}

function readRow(stored: Uint8Array): ChannelRow {
  const row = decodeValue(rowCodec, new Uint8Array(stored));
  return { ...row, stage: STAGES.find(stage => stage === row.stage) ?? "closed" };
}

/** The node that a channel is with, and where it is: by the configuration (`configured`) if that names the same node. */
export function bridgeOf(row: ChannelRow, configured: Peer): Peer {
  const { bridge } = row;
  return bridge && !equal(bridge.nodeId, configured.nodeId) ? bridge : configured;
}

/** Durable when it returns. */
export function writeChannelRow(
  table: Database<Uint8Array, string>,
  deviceId: string,
  row: ChannelRow,
): void {
  table.putSync(deviceId, encodeValue(rowCodec, row));
}

/** Makes room for another channel. LDK may ask for the keys of this one for a long time. */
export function retireChannelRow(
  table: Database<Uint8Array, string>,
  deviceId: string,
  row: ChannelRow,
): void {
  table.transactionSync(() => {
    table.putSync(`${deviceId}/${toHex(row.keysId)}`, encodeValue(rowCodec, row));
    table.removeSync(deviceId);
  });
}

/** The channel never came to be. */
export function forgetChannelRow(table: Database<Uint8Array, string>, deviceId: string): void {
  table.removeSync(deviceId);
}

export function retiredChannelRows(table: Database<Uint8Array, string>, deviceId: string): ChannelRow[] {
  const range = table.getRange({ start: `${deviceId}/`, end: `${deviceId}/~` });
  return [...range].map(({ value }) => readRow(value));
}

const FROZEN = new Uint8Array([1]);

/** Notes, durably, that no channel of this device is to be signed for any more. */
export function freezeChannels(table: Database<Uint8Array, string>, deviceId: string): void {
  table.putSync(`frozen/${deviceId}`, FROZEN);
}

export function isFrozen(table: Database<Uint8Array, string>, deviceId: string): boolean {
  return table.get(`frozen/${deviceId}`) !== undefined;
}
