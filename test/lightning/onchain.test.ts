/**
 * Every transaction that this project's scripts allow, given to a real bitcoind: what the owner, the bridge and a
 * punished cheat can take, and when.
 */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { depositScript } from "../../src/bitcoin/deposit.ts";
import { p2wpkh, p2wpkhScriptCode, p2wsh, witnessSignature } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import {
  parseTransaction,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import {
  type ChannelParameters,
  COUNTERPARTY,
  fundingScript,
  HOLDER,
  type Side,
  toLocalScript,
} from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import {
  anchorBump,
  buildCommitment,
  type Commitment,
  type HtlcTransaction,
  type OutputKind,
  signedAnchorBump,
  signedCommitment,
  signedHtlcTransaction,
} from "../../src/lightning/commitment.ts";
import { buildFunding, fundingWeight, signedFunding } from "../../src/lightning/funding.ts";
import {
  type CommitmentKeys,
  deriveCommitmentKeys,
  derivePrivateKey,
  deriveRevocationPrivateKey,
} from "../../src/lightning/keys.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";
import {
  buildSweep,
  type FoundOutput,
  punishHtlc,
  punishToLocal,
  type Spend,
  signedSweep,
  spendDeposit,
  spendToLocal,
  spendToRemote,
  timeOutHtlc,
} from "../../src/lightning/sweep.ts";
import { commitmentContent, signedClosing } from "./balances.ts";

const FEERATE_PER_KW = 1000;
const DELAY = 6;
const DEPOSIT_DELAY = 8;
const DEPOSIT_SAT = 1_000_000;
const PREIMAGE = new Uint8Array(32).fill(5);

/** Ten secrets per side: funding and the four basepoints are the first ones. */
const secret = (side: Side, n: number) => sha256(new Uint8Array([side === HOLDER ? 1 : 2, n]));
const [FUNDING, REVOCATION, PAYMENT, DELAYED, HTLC, SEED] = [0, 1, 2, 3, 4, 5];

const basepointsOf = (side: Side) => ({
  revocation: curve.publicKey(secret(side, REVOCATION)),
  payment: curve.publicKey(secret(side, PAYMENT)),
  delayed: curve.publicKey(secret(side, DELAYED)),
  htlc: curve.publicKey(secret(side, HTLC)),
});

const partyOf = (side: Side) => ({
  fundingPubkey: curve.publicKey(secret(side, FUNDING)),
  basepoints: basepointsOf(side),
  toLocalDelay: DELAY,
  dustLimitSat: 354,
});

const OWNER_SECRET = secret(HOLDER, 9);
const OWNER = curve.publicKey(OWNER_SECRET);
const OWNER_SCRIPT = p2wpkh(OWNER);
const DEPOSIT = depositScript(partyOf(HOLDER).fundingPubkey, OWNER, DEPOSIT_DELAY);
const NUMBER = 7;

let chain: Regtest;

async function accepts(tx: Transaction): Promise<string> {
  const raw = toHex(transactionBytes(tx));
  const [answer] = await chain.rpc<{ allowed: boolean; "reject-reason"?: string }[]>("testmempoolaccept", [
    [raw],
  ]);
  return answer!.allowed ? "yes" : answer!["reject-reason"]!;
}

async function publish(tx: Transaction): Promise<void> {
  await chain.rpc("sendrawtransaction", [toHex(transactionBytes(tx))]);
  await chain.mine(1);
}

/** Pays a script from the node's wallet; the new output, one block old. */
async function pay(script: Uint8Array, sat: number) {
  const id = await chain.fund(toHex(script), sat);
  const tx = parseTransaction(fromHex(await chain.rpc<string>("getrawtransaction", [id])));
  await chain.mine(1);
  const vout = tx.outputs.findIndex(output => equal(output.script, script));
  return { txid: txidOf(tx), vout, valueSat: sat };
}

interface Open {
  readonly channel: ChannelParameters;
  /** Our commitment NUMBER, with an HTLC in each direction; its own HTLC runs out at `expiry`. */
  readonly commitment: Commitment;
  readonly keys: CommitmentKeys;
  readonly expiry: number;
}

/** A channel that we fund from a deposit, opened on the chain, and our commitment for it. */
async function open(): Promise<Open> {
  const deposit = await pay(p2wsh(DEPOSIT), DEPOSIT_SAT);
  const parties = {
    holder: partyOf(HOLDER),
    counterparty: partyOf(COUNTERPARTY),
    funder: HOLDER as Side,
  };
  const script = fundingScript({ ...parties, funding: deposit, fundingSat: 0 });
  const trial = buildFunding([deposit], DEPOSIT, script, 600_000, 300_000);
  const feeSat = Math.ceil((fundingWeight(trial) * FEERATE_PER_KW) / 1000);
  const funding = buildFunding([deposit], DEPOSIT, script, 600_000, DEPOSIT_SAT - 600_000 - feeSat);
  const signatures = funding.sighashes.map(hash => curve.sign(hash, secret(HOLDER, FUNDING)));
  await publish(signedFunding(funding, signatures));

  const channel = { ...parties, funding: { txid: funding.txid, vout: 0 }, fundingSat: 600_000 };
  const point = curve.publicKey(commitmentSecret(secret(HOLDER, SEED), NUMBER));
  const keys = deriveCommitmentKeys(curve, point, basepointsOf(HOLDER), basepointsOf(COUNTERPARTY));
  const expiry = (await chain.rpc<number>("getblockcount")) + 4;
  const htlc = { amountMsat: 50_000_000, paymentHash: sha256(PREIMAGE) };
  const balances = {
    feeratePerKw: FEERATE_PER_KW,
    toBroadcasterMsat: 300_000_000,
    toCountersignatoryMsat: 200_000_000,
    htlcs: [
      { ...htlc, offered: true, cltvExpiry: expiry },
      { ...htlc, offered: false, cltvExpiry: expiry + 1 },
    ],
  };
  const content = commitmentContent(balances, 354, true);
  return { channel, commitment: buildCommitment(channel, HOLDER, NUMBER, keys, content), keys, expiry };
}

function signed({ channel, commitment }: Open): Transaction {
  const sign = (side: Side) => curve.sign(commitment.sighash, secret(side, FUNDING));
  return signedCommitment(channel, commitment, sign(HOLDER), sign(COUNTERPARTY));
}

function outputOf(commitment: Commitment, kind: OutputKind): FoundOutput {
  const vout = commitment.outputs.findIndex(output => output.kind === kind);
  return { txid: commitment.txid, vout, ...commitment.outputs[vout]! };
}

const htlcOutput = (commitment: Commitment, { vout }: HtlcTransaction): FoundOutput => {
  return { txid: commitment.txid, vout, ...commitment.outputs[vout]! };
};

const htlcSecretOf = (side: Side) => {
  const point = curve.publicKey(commitmentSecret(secret(HOLDER, SEED), NUMBER));
  return derivePrivateKey(secret(side, HTLC), basepointsOf(side).htlc, point);
};

const delayedSecret = () => {
  const point = curve.publicKey(commitmentSecret(secret(HOLDER, SEED), NUMBER));
  return derivePrivateKey(secret(HOLDER, DELAYED), basepointsOf(HOLDER).delayed, point);
};

function sweep(spends: readonly (readonly [Spend, Uint8Array])[]): Transaction {
  const built = buildSweep(
    spends.map(([spend]) => spend),
    OWNER_SCRIPT,
    FEERATE_PER_KW,
  );
  return signedSweep(
    built,
    built.sighashes.map((hash, i) => curve.sign(hash, spends[i]![1])),
  );
}

/** An HTLC transaction has no fee of its own: a coin of the owner's is added, then the broadcaster signs it all. */
async function paidHtlc(htlc: HtlcTransaction, preimage: Uint8Array | null): Promise<Transaction> {
  const coin = await pay(OWNER_SCRIPT, 20_000);
  const counterparty = curve.sign(htlc.sighash, htlcSecretOf(COUNTERPARTY));
  const whole = {
    ...htlc.transaction,
    inputs: [...htlc.transaction.inputs, { txid: coin.txid, vout: coin.vout, sequence: 0xfffffffd }],
    outputs: [...htlc.transaction.outputs, { valueSat: coin.valueSat - 2000, script: OWNER_SCRIPT }],
  };
  const holder = curve.sign(sighash(whole, 0, htlc.witnessScript, htlc.valueSat), htlcSecretOf(HOLDER));
  return withCoin({ ...htlc, transaction: whole }, holder, counterparty, preimage, coin.valueSat);
}

function withCoin(
  htlc: HtlcTransaction,
  holder: Uint8Array,
  counterparty: Uint8Array,
  preimage: Uint8Array | null,
  coinSat: number,
): Transaction {
  const [first] = signedHtlcTransaction(htlc, holder, counterparty, preimage).inputs;
  return { ...htlc.transaction, inputs: [first!, ownerInput(htlc.transaction, 1, coinSat)] };
}

/** An input with a coin of the owner's (P2WPKH), signed. */
function ownerInput(tx: Transaction, index: number, sat: number) {
  const signature = curve.sign(sighash(tx, index, p2wpkhScriptCode(OWNER), sat), OWNER_SECRET);
  return { ...tx.inputs[index]!, witness: [witnessSignature(signature), OWNER] };
}

describe("on a real chain", () => {
  beforeAll(async () => {
    chain = await startRegtest();
  });
  afterAll(() => chain?.stop());

  test("the owner takes the deposit back alone, but only after its delay", async () => {
    const deposit = await pay(p2wsh(DEPOSIT), 100_000);
    const refund = sweep([
      [spendDeposit({ ...deposit, witnessScript: DEPOSIT }, DEPOSIT_DELAY), OWNER_SECRET],
    ]);
    expect(await accepts(refund)).toBe("non-BIP68-final");
    await chain.mine(DEPOSIT_DELAY - 1);
    await publish(refund);
  });

  test("a mutual close pays both sides", async () => {
    const { channel } = await open();
    const content = {
      holderSat: 399_000,
      counterpartySat: 200_000,
      holderScript: OWNER_SCRIPT,
      counterpartyScript: p2wpkh(OWNER),
    };
    const closing = buildClosing(channel, content);
    const sign = (side: Side) => curve.sign(closing.sighash, secret(side, FUNDING));
    await publish(signedClosing(channel, closing, sign(HOLDER), sign(COUNTERPARTY)));
  });

  test("we exit alone, hurried by the anchor, and collect everything that is ours", async () => {
    const opened = await open();
    const { commitment, keys } = opened;
    const coin = await pay(OWNER_SCRIPT, 50_000);
    await chain.rpc("sendrawtransaction", [toHex(transactionBytes(signed(opened)))]);

    // The anchor was signed without the coin that now pays.
    const bump = anchorBump(commitment, "local-anchor", OWNER_SCRIPT)!;
    const anchorSpend = signedAnchorBump(bump, curve.sign(bump.sighash, secret(HOLDER, FUNDING)));
    const whole = {
      ...anchorSpend,
      inputs: [...anchorSpend.inputs, { txid: coin.txid, vout: coin.vout, sequence: 0xfffffffd }],
      outputs: [...anchorSpend.outputs, { valueSat: coin.valueSat - 9000, script: OWNER_SCRIPT }],
    };
    await publish({ ...whole, inputs: [whole.inputs[0]!, ownerInput(whole, 1, coin.valueSat)] });

    const [offered, received] = [true, false].map(
      is => commitment.htlcs.find(each => each.htlc.offered === is)!,
    );
    const success = await paidHtlc(received!, PREIMAGE);
    await publish(success);
    await chain.mine(2);
    const timeout = await paidHtlc(offered!, null);
    await publish(timeout);

    const script = toLocalScript(keys, DELAY);
    const second = [success, timeout].map(tx => {
      return spendToLocal({ txid: txidOf(tx), vout: 0, valueSat: 50_000, witnessScript: script }, DELAY);
    });
    const toLocal = spendToLocal(outputOf(commitment, "to-local"), DELAY);
    const everything = sweep([toLocal, ...second].map(spend => [spend, delayedSecret()] as const));
    expect(await accepts(everything)).toBe("non-BIP68-final");
    await chain.mine(DELAY - 1);
    await publish(everything);
  });

  test("an HTLC of holder does not come back before it expires", async () => {
    const opened = await open();
    await publish(signed(opened));
    const offered = opened.commitment.htlcs.find(each => each.htlc.offered)!;
    expect(await accepts(await paidHtlc(offered, null))).toBe("non-final");
  });

  test("the other side collects from our commitment what is its own", async () => {
    const opened = await open();
    const { commitment, expiry } = opened;
    await publish(signed(opened));
    const [offered, received] = [true, false].map(
      is => commitment.htlcs.find(each => each.htlc.offered === is)!,
    );
    const claims: [Spend, Uint8Array][] = [
      [spendToRemote(outputOf(commitment, "to-remote")), secret(COUNTERPARTY, PAYMENT)],
      [
        { ...htlcOutput(commitment, offered!), sequence: 1, stack: [PREIMAGE], notBefore: 0 },
        htlcSecretOf(COUNTERPARTY),
      ],
    ];
    await publish(sweep(claims));
    const timedOut = timeOutHtlc(htlcOutput(commitment, received!), expiry + 1);
    expect(await accepts(sweep([[timedOut, htlcSecretOf(COUNTERPARTY)]]))).toBe("non-final");
    await chain.mine(3);
    await publish(sweep([[timedOut, htlcSecretOf(COUNTERPARTY)]]));
  });

  test("a revoked commitment loses everything to the other side", async () => {
    const opened = await open();
    const { commitment, keys } = opened;
    await publish(signed(opened));
    const [offered, received] = [true, false].map(
      is => commitment.htlcs.find(each => each.htlc.offered === is)!,
    );
    const success = await paidHtlc(received!, PREIMAGE);
    await publish(success);

    const revealed = commitmentSecret(secret(HOLDER, SEED), NUMBER);
    const base = secret(COUNTERPARTY, REVOCATION);
    const revocation = deriveRevocationPrivateKey(
      base,
      curve.publicKey(base),
      revealed,
      curve.publicKey(revealed),
    );
    expect(toHex(curve.publicKey(revocation))).toBe(toHex(keys.revocation));
    const second = {
      txid: txidOf(success),
      vout: 0,
      valueSat: 50_000,
      witnessScript: toLocalScript(keys, DELAY),
    };
    await publish(
      sweep([
        [punishToLocal(outputOf(commitment, "to-local")), revocation],
        [punishHtlc(htlcOutput(commitment, offered!), keys.revocation), revocation],
        [punishToLocal(second), revocation],
      ]),
    );
  });
});
