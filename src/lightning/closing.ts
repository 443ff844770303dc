/** The mutual close by closing_signed (BOLT #2, Legacy Closing Negotiation; BOLT #3, Legacy Closing Transaction). */
import { sighash } from "../bitcoin/sighash.ts";
import { compareOutputs, type Output, type Transaction } from "../bitcoin/transaction.ts";
import { lngateError } from "../errors.ts";
import { type ChannelParameters, fundingScript } from "./channel.ts";

/** What a mutual close pays; an output of 0 is left out. */
export interface ClosingContent {
  readonly holderSat: number;
  readonly counterpartySat: number;
  readonly holderScript: Uint8Array;
  readonly counterpartyScript: Uint8Array;
}

export interface Closing {
  /** Unsigned. */
  readonly transaction: Transaction;
  /** What both funding keys sign. */
  readonly sighash: Uint8Array;
}

/** Builds the transaction. Throws `bad-closing` for amounts that are none or do not fit into the channel. */
export function buildClosing(channel: ChannelParameters, content: ClosingContent): Closing {
  const { holderSat, counterpartySat } = content;
  const outputs: Output[] = [];
  if (holderSat > 0) outputs.push({ valueSat: holderSat, script: content.holderScript });
  if (counterpartySat > 0) outputs.push({ valueSat: counterpartySat, script: content.counterpartyScript });
  if (
    !(
      holderSat >= 0 &&
      counterpartySat >= 0 &&
      holderSat + counterpartySat <= channel.fundingSat &&
      outputs.length > 0
    )
  ) {
    throw lngateError("bad-closing", "the outputs do not fit into the channel");
  }
  const transaction: Transaction = {
    version: 2,
    inputs: [{ ...channel.funding, sequence: 0xffffffff }],
    outputs: outputs.sort(compareOutputs),
    locktime: 0,
  };
  return { transaction, sighash: sighash(transaction, 0, fundingScript(channel), channel.fundingSat) };
}
