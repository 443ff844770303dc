/**
 * What comes home over the chain with the device's own keys: payments that timed out in a commitment that the bridge
 * published, and everything in one that it had revoked. Whatever is signed here pays the owner's script and nobody else:
 * the gateway says which outputs are spent, the one output is ours by construction. Such a signature ends nothing and
 * costs nothing, so it is given in every phase.
 */
import { sighash } from "../../src/bitcoin/sighash.ts";
import { lngateError } from "../../src/errors.ts";
import { htlcScript, toLocalScript } from "../../src/lightning/channel.ts";
import { derivePrivateKey, deriveRevocationPrivateKey } from "../../src/lightning/keys.ts";
import type { Step } from "../../src/link/messages.ts";
import { signWithNonce } from "../../src/threshold/online.ts";
import { needPresent, takeRecord, type Work } from "./context.ts";
import { demand } from "./demand.ts";
import { endChannel } from "./exiting.ts";
import type { Proposal } from "./state.ts";

/** The finished signature of our newest commitment, for the gateway to publish it: the channel ends with this. */
export function leave(work: Work, number: number): void {
  const { parameters, holder } = work.state;
  demand(
    "exit-before-revoke",
    holder !== null && holder.number === number && parameters?.funding !== undefined,
    `commitment ${number} of ours is not the newest: it is revoked, or not there yet`,
  );
  needPresent(work);
  work.answer.own = holder!.ownSignature;
  endChannel(work);
}

export function collect(work: Work, spend: NonNullable<Step["spend"]>): void {
  const { identity, keysFor } = work.context;
  const { point, secret, htlc, inputs, input, amountSat, valueSat, locktime } = spend;
  const proposal = proposalOf(work, spend.index);
  demand(
    "close-balance",
    input < inputs.length && valueSat >= amountSat - identity.policy.maxCloseFeeSat && valueSat > 0,
    "collecting an output would cost more than the highest fee allowed",
  );
  const keys = keysFor(proposal, false, point);
  const script =
    htlc === undefined
      ? toLocalScript(keys, proposal.theirDelay)
      : htlcScript({ ...htlc, offered: htlc.incoming === true }, keys);
  demand(
    "close-state",
    secret !== undefined || htlc !== undefined,
    "an output that is not revoked and holds no payment is not ours",
  );
  const transaction = {
    version: 2,
    inputs,
    outputs: [{ valueSat, script: identity.shutdownScript }],
    locktime,
  };
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
  work.answer.own = signWithNonce(record.bytes, key, sighash(transaction, input, script, amountSat));
  record.bytes.fill(0);
  key.fill(0);
}

/** The present channel, or one before it. */
function proposalOf({ state }: Work, index: number): Proposal {
  const { books, parameters, former } = state;
  const last = (former || []).filter(each => each.index === index)[0];
  const proposal = index === books.index ? parameters?.proposal : last?.proposal;
  if (proposal === undefined) throw lngateError("channel-unknown", `there was no channel ${index}`);
  return proposal;
}
