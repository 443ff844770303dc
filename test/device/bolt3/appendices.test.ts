/**
 * The published test vectors of BOLT #3, against what the device builds its transactions, keys and secrets with.
 * Appendix B (funding) spends a P2PKH output, which no channel here does; C is of commitments without anchors, which are
 * not built here: its keys, hashes, numbers and signatures are compared, and its HTLCs serve appendix F.
 */
import { expect, test } from "@jest/globals";
import { witnessSignature } from "../../../src/bitcoin/script.ts";
import { sighash } from "../../../src/bitcoin/sighash.ts";
import { parseTransaction, transactionBytes, txidOf } from "../../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../../src/bytes/bytes.ts";
import { commitmentOf, viewOf } from "../../../src/channel/transactions.ts";
import { nobleCurve as curve } from "../../../src/crypto/curve.ts";
import { fundingScript } from "../../../src/lightning/channel.ts";
import {
  commitmentNumberOf,
  signedCommitment,
  signedHtlcTransaction,
} from "../../../src/lightning/commitment.ts";
import {
  derivePrivateKey,
  derivePublicKey,
  deriveRevocationPrivateKey,
  deriveRevocationPublicKey,
} from "../../../src/lightning/keys.ts";
import { commitmentSecret, EMPTY_SECRET_STORE, storeSecret } from "../../../src/lightning/shachain.ts";
import { commitmentContent } from "../../lightning/balances.ts";
import { codeThrownBy } from "../../thrown.ts";
import { describeVectors } from "../../vectors.ts";
import { type AppendixC, channelOf, compactOf, htlcOf, keysOf, secretOf } from "./appendixC.ts";

interface AnchorCase {
  readonly Name: string;
  readonly LocalBalance: number;
  readonly RemoteBalance: number;
  readonly DustLimitSatoshis: number;
  readonly FeePerKw: number;
  readonly UseTestHtlcs: boolean;
  readonly HtlcDescs: readonly { RemoteSigHex: string; ResolutionTxHex: string }[];
  readonly ExpectedCommitmentTxHex: string;
  readonly RemoteSigHex: string;
}

describeVectors<AppendixC>("BOLT #3 appendix C", "bolt3-commitment.json", common => {
  test("appendix C: the derived keys are the ones that we derive", () => {
    const channel = channelOf(common, 546);
    const keys = keysOf(common, channel);
    expect(toHex(keys.broadcasterHtlc)).toBe(common.common["local_htlcpubkey"]);
    expect(toHex(keys.countersignatoryHtlc)).toBe(common.common["remote_htlcpubkey"]);
    expect(toHex(keys.delayed)).toBe(common.common["local_delayedpubkey"]);
    expect(toHex(keys.revocation)).toBe(common.common["local_revocation_pubkey"]);
  });

  test.each(common.cases)("appendix C, $name: its signatures are over our hashes", vector => {
    const channel = channelOf(common, 546);
    const keys = keysOf(common, channel);
    const transaction = parseTransaction(fromHex(vector.commit_tx));
    expect(commitmentNumberOf(channel, transaction)).toBe(common.common.commitment_number);
    const hash = sighash(transaction, 0, fundingScript(channel), channel.fundingSat);
    const signature = (der: string) => compactOf(fromHex(der));
    expect(curve.verify(signature(vector.local_signature), hash, channel.holder.fundingPubkey)).toBe(true);
    expect(curve.verify(signature(vector.remote_signature), hash, channel.counterparty.fundingPubkey)).toBe(
      true,
    );
    expect(vector.htlc_txs.length).toBe(vector.num_htlcs);
    vector.htlc_txs.forEach(({ tx }, i) => {
      const second = parseTransaction(fromHex(tx));
      const { vout, witness } = second.inputs[0]!;
      const htlcHash = sighash(second, 0, witness![4]!, transaction.outputs[vout]!.valueSat);
      const theirs = signature(vector.htlc_signatures[i]!);
      expect(curve.verify(theirs, htlcHash, keys.countersignatoryHtlc)).toBe(true);
      expect(toHex(witnessSignature(theirs))).toBe(toHex(witness![1]!));
    });
  });

  describeVectors<readonly AnchorCase[]>(
    "BOLT #3 appendix F, anchors",
    "bolt3-commitment-anchors.json",
    cases => {
      test.each(cases)("appendix F, $Name: every transaction byte for byte", vector => {
        const channel = channelOf(common, vector.DustLimitSatoshis);
        const numbers = !vector.UseTestHtlcs
          ? []
          : vector.Name.includes("same amount")
            ? [1, 5, 6]
            : [0, 1, 2, 3, 4];
        const htlcs = numbers.map(i => htlcOf(common, i));
        const content = commitmentContent(
          {
            feeratePerKw: vector.FeePerKw,
            toBroadcasterMsat: vector.LocalBalance,
            toCountersignatoryMsat: vector.RemoteBalance,
            htlcs,
          },
          vector.DustLimitSatoshis,
          true,
        );
        const keys = keysOf(common, channel);
        const number = common.common.commitment_number;
        // As the device does, from what crosses the link.
        const commitment = commitmentOf(channel, true, number, keys, viewOf(content, true));

        const expected = parseTransaction(fromHex(vector.ExpectedCommitmentTxHex));
        expect(commitmentNumberOf(channel, expected)).toBe(number);
        expect(toHex(commitment.txid)).toBe(toHex(txidOf(expected)));
        const remoteSignature = compactOf(fromHex(vector.RemoteSigHex));
        expect(curve.verify(remoteSignature, commitment.sighash, channel.counterparty.fundingPubkey)).toBe(
          true,
        );
        const holderSignature = curve.sign(commitment.sighash, secretOf(common, "local_funding_privkey"));
        const signed = signedCommitment(channel, commitment, holderSignature, remoteSignature);
        expect(toHex(transactionBytes(signed))).toBe(vector.ExpectedCommitmentTxHex);

        expect(commitment.htlcs.length).toBe(vector.HtlcDescs.length);
        commitment.htlcs.forEach((htlc, i) => {
          const theirs = compactOf(fromHex(vector.HtlcDescs[i]!.RemoteSigHex));
          expect(curve.verify(theirs, htlc.sighash, keys.countersignatoryHtlc)).toBe(true);
          const secret = derivePrivateKey(
            secretOf(common, "local_payment_basepoint_secret"),
            channel.holder.basepoints.htlc,
            fromHex(common.common["local_per_commitment_point"]!),
          );
          const ours = curve.sign(sighash(htlc.transaction, 0, htlc.witnessScript, htlc.valueSat), secret);
          const { preimage } = htlcs.find(each => each.cltvExpiry === htlc.htlc.cltvExpiry)!;
          const second = signedHtlcTransaction(htlc, ours, theirs, htlc.htlc.offered ? null : preimage);
          expect(toHex(transactionBytes(second))).toBe(vector.HtlcDescs[i]!.ResolutionTxHex);
        });
      });
    },
  );
});

interface ShachainVectors {
  readonly generate: readonly { name: string; seed: string; I: string; output: string }[];
  readonly insert: readonly {
    name: string;
    inserts: { I: string; secret: string; output: "OK" | "ERROR" }[];
  }[];
}

/** The appendix counts downwards from 2^48 - 1. */
const numberOf = (index: string) => 2 ** 48 - 1 - Number(index);

describeVectors<ShachainVectors>(
  "BOLT #3 appendix D, per-commitment secrets",
  "bolt3-shachain.json",
  vectors => {
    test.each(vectors.generate)("appendix D, $name", ({ seed, I, output }) => {
      expect(toHex(commitmentSecret(fromHex(seed.slice(2)), numberOf(I)))).toBe(output.slice(2));
    });

    test.each(vectors.insert)("appendix D, $name", ({ inserts }) => {
      let store = EMPTY_SECRET_STORE;
      for (const { I, secret, output } of inserts) {
        expect(store.count).toBe(numberOf(I));
        const insert = () => storeSecret(store, fromHex(secret.slice(2)));
        if (output === "OK") store = insert();
        else expect(codeThrownBy(insert)).toBe("bad-secret");
      }
    });
  },
);

type KeyVectors = Record<
  | "base_secret"
  | "per_commitment_secret"
  | "base_point"
  | "per_commitment_point"
  | "localpubkey"
  | "localprivkey"
  | "revocationpubkey"
  | "revocationprivkey",
  string
>;

describeVectors<KeyVectors>("BOLT #3 appendix E, key derivation", "bolt3-keys.json", vectors => {
  const hex = (name: keyof KeyVectors) => fromHex(vectors[name]);

  test("appendix E: a public and a private key", () => {
    const [point, base] = [hex("per_commitment_point"), hex("base_point")];
    expect(toHex(curve.publicKey(hex("base_secret")))).toBe(vectors.base_point);
    expect(toHex(derivePublicKey(curve, base, point))).toBe(vectors.localpubkey);
    expect(toHex(derivePrivateKey(hex("base_secret"), base, point))).toBe(vectors.localprivkey);
  });

  test("appendix E: a public and a private revocation key", () => {
    const [point, base] = [hex("per_commitment_point"), hex("base_point")];
    expect(toHex(curve.publicKey(hex("per_commitment_secret")))).toBe(vectors.per_commitment_point);
    expect(toHex(deriveRevocationPublicKey(curve, base, point))).toBe(vectors.revocationpubkey);
    const secret = deriveRevocationPrivateKey(hex("base_secret"), base, hex("per_commitment_secret"), point);
    expect(toHex(secret)).toBe(vectors.revocationprivkey);
  });
});
