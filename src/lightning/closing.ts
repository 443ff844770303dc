/** The mutual close by closing_signed (BOLT #2, Legacy Closing Negotiation; BOLT #3, Legacy Closing Transaction). */
import { sighash } from "../bitcoin/sighash.ts";
import { compareOutputs, type Output, type Transaction } from "../bitcoin/transaction.ts";
import { lngateError } from "../errors.ts";
import { type ChannelParameters, fundingScript, fundingWitness } from "./channel.ts";

/** What a mutual close pays; an output of 0 is left out. */
export interface ClosingContent {
  readonly ourSat: number;
  readonly theirSat: number;
  readonly ourScript: Uint8Array;
  readonly theirScript: Uint8Array;
}

export interface Closing {
  /** Unsigned. */
  readonly transaction: Transaction;
  /** What both funding keys sign. */
  readonly sighash: Uint8Array;
}

/**
 * What each side gets of the balances left when no HTLC is pending: whole satoshis, the funder's less the fee,
 * and nothing that is not above *our* dust limit. (BOLT #2 leaves the last to each side; this is LDK's choice.)
 */
export function closingAmounts(
  channel: ChannelParameters,
  ourMsat: number,
  theirMsat: number,
  feeSat: number,
): { ourSat: number; theirSat: number } {
  const net = (msat: number, charge: number) => {
    const sat = Math.floor(msat / 1000) - charge;
    return sat > channel.ours.dustLimitSat ? sat : 0;
  };
  const weFund = channel.funder === "ours";
  return { ourSat: net(ourMsat, weFund ? feeSat : 0), theirSat: net(theirMsat, weFund ? 0 : feeSat) };
}

/** Builds the transaction. Throws `bad-closing` for amounts that are none or do not fit into the channel. */
export function buildClosing(channel: ChannelParameters, content: ClosingContent): Closing {
  const { ourSat, theirSat } = content;
  const outputs: Output[] = [];
  if (ourSat > 0) outputs.push({ valueSat: ourSat, script: content.ourScript });
  if (theirSat > 0) outputs.push({ valueSat: theirSat, script: content.theirScript });
  if (!(ourSat >= 0 && theirSat >= 0 && ourSat + theirSat <= channel.fundingSat && outputs.length > 0)) {
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

/** The close ready to publish. Both signatures compact. */
export function signedClosing(
  channel: ChannelParameters,
  closing: Closing,
  ourSignature: Uint8Array,
  theirSignature: Uint8Array,
): Transaction {
  const witness = fundingWitness(channel, ourSignature, theirSignature);
  return { ...closing.transaction, inputs: [{ ...closing.transaction.inputs[0]!, witness }] };
}
