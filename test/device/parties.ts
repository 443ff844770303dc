/** Everybody's keys in the open, the device's flash as its owner charged it, and the gateway's half of the records. */

import { DEFAULT_POLICY, type DeviceIdentity, type SpendingPolicy } from "../../device/identity.ts";
import { openVaultToCharge } from "../../device/vault/charging.ts";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { formatVault } from "../../device/vault/vault.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { concat } from "../../src/bytes/bytes.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { rememberCurve } from "./curve.ts";
import { type DealtRecord, dealNonce, dealRecord, dealtMac, derived, withMacs } from "./dealer.ts";

rememberCurve();

export const NOW_MS = 1_750_000_000_000;
export const HEIGHT = 120;

export function keyPair(name: string): { secret: Uint8Array; point: Uint8Array } {
  const secret = derived(`lngate test ${name}`);
  return { secret, point: nobleCurve.publicKey(secret) };
}

/** The whole of a funding key that in truth nobody has. */
export const FUNDING = keyPair("funding");
const OWNER = {
  payment: keyPair("owner payment"),
  delayed: keyPair("owner delayed"),
  deposit: keyPair("owner deposit"),
  shutdown: keyPair("owner shutdown"),
};
export const BRIDGE = {
  funding: keyPair("bridge funding"),
  revocation: keyPair("bridge revocation"),
  payment: keyPair("bridge payment"),
  delayed: keyPair("bridge delayed"),
  htlc: keyPair("bridge htlc"),
  close: keyPair("bridge close"),
};
const REVOCATION = keyPair("device revocation");
const HTLC = keyPair("device htlc");

/** What the gateway of this world takes: 5 %, settled from 1,000 sat. */
export const SERVICE_FEE: ServiceFee = {
  ratePpm: 50_000,
  baseMsat: 0,
  settleFromMsat: 1_000_000,
  creditMsat: 5_000_000,
};

export function identityWith(policy: Partial<SpendingPolicy> = {}, serviceFee?: ServiceFee): DeviceIdentity {
  return {
    network: "regtest",
    deviceId: "toll2345",
    brokerUrl: "mqtt://127.0.0.1:1883",
    brokerPassword: "none",
    linkKey: derived("link"),
    drbgSeed: derived("drbg"),
    commitmentMaster: derived("commitments"),
    revocationBasepointSecret: REVOCATION.secret,
    htlcBasepointSecret: HTLC.secret,
    revocationBasepoint: REVOCATION.point,
    htlcBasepoint: HTLC.point,
    paymentBasepoint: OWNER.payment.point,
    delayedPaymentBasepoint: OWNER.delayed.point,
    fundingKey: FUNDING.point,
    depositOwnerKey: OWNER.deposit.point,
    depositDelay: 4320,
    shutdownScript: p2wpkh(OWNER.shutdown.point),
    birthHeight: HEIGHT,
    birthTime: NOW_MS / 1000,
    policy: { ...DEFAULT_POLICY, ...policy },
    ...(serviceFee ? { serviceFee } : {}),
  };
}

export const DEPOSIT = { txid: derived("deposit"), vout: 1, valueSat: 201_000 };

/** A channel that the device accepts. */
export function proposalWith(changed: Partial<Proposal> = {}): Proposal {
  return {
    index: 1,
    fundingKey: BRIDGE.funding.point,
    revocationBasepoint: BRIDGE.revocation.point,
    paymentBasepoint: BRIDGE.payment.point,
    delayedPaymentBasepoint: BRIDGE.delayed.point,
    htlcBasepoint: BRIDGE.htlc.point,
    deposits: [DEPOSIT],
    channelSat: 200_000,
    changeSat: 0,
    holderDelay: 720,
    counterpartyDelay: 144,
    holderDustLimitSat: 354,
    // As Core Lightning: so an HTLC may have an output on one side and none on the other.
    counterpartyDustLimitSat: 546,
    reserveSat: 2000,
    ...changed,
  };
}

export interface Charge {
  readonly A: number;
  readonly B: number;
  readonly H: number;
}
export const CHARGE: Charge = { A: 60, B: 70, H: 60 };

/** α ‖ key of all records of kind B. */
export const MAC = dealtMac("MACs");

const dealt = new Map<string, DealtRecord>();
/** Record number `id` of kind A or B. */
export function recordOf(kind: "A" | "B", id: number): DealtRecord {
  const name = `${kind}${id}`;
  let record = dealt.get(name);
  if (record === undefined) {
    record = dealRecord(FUNDING.secret, name);
    if (kind === "B") record = { ...record, answering: withMacs(record.answering, MAC, id) };
    dealt.set(name, record);
  }
  return record;
}
const nonces: Uint8Array[] = [];
export function nonceOf(id: number): Uint8Array {
  nonces[id] ??= dealNonce(`H${id}`);
  return nonces[id];
}

const ids = (count: number) => Array.from({ length: count }, (_, id) => id);

/** The gateway's half of the records. */
export function gatewayBatches(charge: Charge = CHARGE): Batch[] {
  const batch = (kind: "A" | "B", side: keyof DealtRecord, count: number): Batch => ({
    kind,
    epoch: 0,
    firstId: 0,
    count,
    records: concat(ids(count).map(id => recordOf(kind, id)[side])),
  });
  return [batch("A", "completing", charge.A), batch("B", "answering", charge.B)];
}

export const PAGE_BYTES = 4096;
const PAGES = 40;
/** Of each of the journal's two areas; before them is one page, behind them are the records. */
export const AREA_PAGES = 8;

/** A chip with this content, or as `chargedFlash` leaves it. */
export function chip(image: Uint8Array) {
  return memoryFlash(PAGE_BYTES, PAGES, image);
}

const images = new Map<string, Uint8Array>();
/** The image of a flash that was paired and charged. */
export function chargedFlash(
  policy: Partial<SpendingPolicy> = {},
  charge: Charge = CHARGE,
  serviceFee?: ServiceFee,
): Uint8Array {
  const name = JSON.stringify([policy, charge, serviceFee], (_, value) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );
  let image = images.get(name);
  if (image === undefined) {
    const flash = memoryFlash(PAGE_BYTES, PAGES);
    formatVault(flash, identityWith(policy, serviceFee), AREA_PAGES);
    const { records } = openVaultToCharge(flash);
    const append = (kind: "A" | "B" | "H", count: number, record: (id: number) => Uint8Array) => {
      if (count > 0)
        records.append({
          kind,
          epoch: 0,
          firstId: 0,
          count,
          records: concat(ids(count).map(record)),
          ...(kind === "B" ? { mac: MAC } : {}),
        });
    };
    append("A", charge.A, id => recordOf("A", id).answering);
    append("B", charge.B, id => recordOf("B", id).completing);
    append("H", charge.H, nonceOf);
    image = flash.image();
    images.set(name, image);
  }
  return image;
}
