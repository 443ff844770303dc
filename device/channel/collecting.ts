/**
 * What comes home over the chain with the device's own keys: payments that timed out in a commitment that the bridge
 * published, and everything in one that it had revoked. Whatever is signed here pays the owner's script and nobody else:
 * the gateway says which outputs are spent, the one output is ours by construction. Such a signature ends nothing, so it
 * is given in every phase; it costs a nonce, so what payments in flight need is kept back, and an answer is kept.
 */

import { sighash } from "../../src/bitcoin/sighash.ts";
import { txidOf } from "../../src/bitcoin/transaction.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { recordsToSettle } from "../../src/channel/records-to-settle.ts";
import { isValidScalar } from "../../src/crypto/scalar.ts";
import { lngateError } from "../../src/errors.ts";
import { htlcScript, toLocalScript } from "../../src/lightning/channel.ts";
import { derivePrivateKey, deriveRevocationPrivateKey } from "../../src/lightning/keys.ts";
import type { Step } from "../../src/messages/device.ts";
import { signWithNonce } from "../../src/threshold/online.ts";
import { ensurePresent, ensureRecords, takeRecord, type Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import { endChannel } from "./exiting.ts";
import { inFlight } from "./payments/balance.ts";
import { MAX_COLLECTED, MAX_SUMS, type Proposal } from "./state.ts";

/** The finished signature of our newest commitment, for the gateway to publish it: the channel ends with this. */
export function forceClose(work: Work, number: number): void {
  const { parameters, holder } = work.state;
  enforce(
    "exit-before-revoke",
    holder !== null && holder.number === number && parameters?.funding !== undefined,
    `commitment ${number} of ours is not the newest: it is revoked, or not there yet`,
  );
  ensurePresent(work);
  work.answer.completeSignature = holder!.ownSignature;
  endChannel(work);
}

/** Different questions about one channel: some dozens of outputs, each with a few fees. */
const MAX_QUESTIONS = 128;

export function collect(work: Work, spend: NonNullable<Step["spend"]>): void {
  const { identity, keysFor, curve } = work.context;
  const { point, secret, htlc, inputs, input, amountSat, valueSat, locktime } = spend;
  const proposal = proposalOf(work, spend.index);
  const keys = keysFor(proposal, false, point);
  const script =
    htlc === undefined
      ? toLocalScript(keys, proposal.counterpartyDelay)
      : htlcScript({ ...htlc, offered: htlc.incoming === true }, keys);
  enforce(
    "close-state",
    secret !== undefined || htlc !== undefined,
    "an output that is not revoked and holds no payment is not ours",
  );
  enforce(
    "close-state",
    secret === undefined ||
      (isValidScalar(secret) && (curve === null || equal(curve.publicKey(secret), point))),
    "the secret is not that of the commitment's point",
  );
  const transaction = {
    version: 2,
    inputs,
    outputs: [{ valueSat, script: identity.shutdownScript }],
    locktime,
  };
  const hash = input < inputs.length ? sighash(transaction, input, script, amountSat) : null;
  const { answers, sums, count } = work.state.collected || { answers: [], sums: [], count: 0 };
  const known = answers.filter(answer => hash !== null && equal(answer.sighash, hash))[0];
  if (known !== undefined) {
    work.answer.completeSignature = known.own;
    return;
  }
  // A signature commits to the value of its own input only: what was signed of the same transaction counts, and is never forgotten.
  const id = txidOf(transaction).subarray(0, 8);
  const others = sums.filter(sum => !equal(sum.transaction, id));
  let sumSat = amountSat;
  for (const sum of sums) if (equal(sum.transaction, id)) sumSat += sum.sat;
  if (inputs.length > 1) others.unshift({ transaction: id, sat: sumSat });
  enforce(
    "close-balance",
    hash !== null && valueSat >= sumSat - identity.policy.maxCloseFeeSat && valueSat > 0,
    "collecting would cost more than the highest fee allowed",
  );
  enforce(
    "close-state",
    count < MAX_QUESTIONS && others.length <= MAX_SUMS,
    "too much was asked to be collected from one channel",
  );
  const { H } = recordsToSettle(inFlight(work.state).length);
  ensureRecords(work, { H: H + 1 });
  const key =
    secret === undefined
      ? derivePrivateKey(identity.htlcBasepointSecret, identity.htlcBasepoint, point)
      : deriveRevocationPrivateKey(
          identity.revocationBasepointSecret,
          identity.revocationBasepoint,
          secret,
          point,
        );
  const record = takeRecord(work, "H");
  const own = signWithNonce(record.bytes, key, hash!);
  record.bytes.fill(0);
  key.fill(0);
  work.answer.completeSignature = own;
  const collected = {
    count: count + 1,
    answers: [{ sighash: hash!, own }].concat(answers.slice(0, MAX_COLLECTED - 1)),
    sums: others,
  };
  work.state = { ...work.state, collected };
}

/** The present channel, or one before it. */
function proposalOf({ state }: Work, index: number): Proposal {
  const { books, parameters, former } = state;
  const last = (former || []).filter(each => each.index === index)[0];
  const proposal = index === books.index ? parameters?.proposal : last?.proposal;
  if (proposal === undefined) throw lngateError("channel-unknown", `there was no channel ${index}`);
  return proposal;
}
