/**
 * Pairing on the owner's computer: in the device's role it makes the threshold key with the gateway, derives fresh
 * link keys and makes the transfers for presigning, and puts all of it into a folder before the gateway hears that
 * it may mark the code as used. A pairing that breaks off anywhere is repeated with the same code; one whose last
 * answer was lost is recognised and completed.
 */

import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { DEFAULT_POLICY, type DeviceIdentity, type SpendingPolicy } from "../../device/identity.ts";
import { formatVault } from "../../device/vault/vault.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { ascii, concat, equal } from "../../src/bytes/bytes.ts";
import { type ServiceFee, serviceFeeFault, serviceFeeText } from "../../src/channel/service-fee.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import type { FromOwner, ToOwner } from "../../src/messages/owner.ts";
import { fromOwner, toOwner } from "../../src/messages/owner.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { decodePairingCode, type PairingCode } from "../../src/pairing/code.ts";
import {
  GATEWAY_NAME,
  longTermKeys,
  PAIRING_VERSION,
  pairingKeys,
  transcriptOf,
} from "../../src/pairing/keys.ts";
import { NO_ABORTS } from "../../src/threshold/abort.ts";
import { keygenDevice } from "../../src/threshold/keygen.ts";
import { setupP1, setupP2 } from "../../src/threshold/transfer/setup.ts";
import {
  type DeviceInfo,
  readDeviceInfo,
  writeBackup,
  writeChargingState,
  writeDeviceInfo,
} from "../folder/device-files.ts";
import {
  completePairingFolder,
  deviceFolder,
  type Owner,
  openOwner,
  pairingFolder,
  readJson,
  startPairingFolder,
  takeDeviceIndex,
  writeJson,
} from "../folder/folder.ts";
import { coldKeys, deviceSecrets } from "../folder/seed.ts";
import { connectOwner, type OwnerConnection } from "./connection.ts";
import { spendingLimits } from "./limits.ts";

/** Written last into a pairing's folder: from then on it is complete, should the gateway agree. */
const PAIRING_FILE = "pairing.json";
/** Blocks after which the owner alone may take a deposit back: about a week. */
export const DEFAULT_DEPOSIT_DELAY = 1008;

export type MaxServiceFee = Pick<ServiceFee, "ratePpm" | "baseMsat">;
/** What an owner who says nothing agrees to: 5 %, and a satoshi. */
export const DEFAULT_MAX_SERVICE_FEE: MaxServiceFee = { ratePpm: 50_000, baseMsat: 1_000 };

/** The pairing code, and what the owner agrees to. */
export interface PairOptions {
  /** The owner's folder. */
  readonly folder: string;
  /** As it was typed. */
  readonly code: string;
  readonly policy?: Partial<SpendingPolicy>;
  readonly depositDelay?: number;
  /** The chain's height now, from a source of the owner's; without it the gateway's word is taken, if it can be. */
  readonly height?: number;
  /** The most that the gateway may take for each payment; default: `DEFAULT_MAX_SERVICE_FEE`. */
  readonly maxServiceFee?: Partial<MaxServiceFee>;
  /** Size of the flash of a device of the board `node`, in pages of 4 KiB. */
  readonly flashPages?: number;
  /** What the gateway takes for its service, before anything is agreed on; undefined: nothing. Throws to refuse it. */
  onServiceFee?(terms: ServiceFee | undefined): void;
  onStep?(step: "connecting" | "keys" | "transfers" | "storing"): void;
  /** For tests: how long to wait for the gateway, ms. */
  readonly connectTimeoutMs?: number;
}

/**
 * Pairs a device and returns what was stored of it. Throws `pairing-code-malformed` (a typing mistake),
 * `pairing-code-wrong` (this gateway knows no such code), `pairing-code-used`, `pairing-code-expired`,
 * `pairing-wrong-network`, `pairing-mismatch`, `service-fee-too-high`, `service-fee-invalid`, `gateway-unreachable`, `owner-missing`, and what a ceremony throws.
 */
export async function pairDevice(options: PairOptions): Promise<DeviceInfo> {
  const owner = openOwner(options.folder);
  const code = decodePairingCode(options.code);
  const folder = deviceFolder(owner.folder, code.deviceId);
  if (existsSync(folder))
    throw lngateError("pairing-code-used", `this code has been used: its device is paired, in ${folder}`);
  const { linkKey, password } = pairingKeys(code.secret, code.deviceId);
  options.onStep?.("connecting");
  const connection = await connectOwner({
    brokerUrl: `mqtt://${code.host}:${code.port}`,
    identity: `${code.deviceId}.pair`,
    password,
    linkKey,
    refusedLogin: [
      "pairing-code-wrong",
      `the gateway at ${code.host} does not know this pairing code: it was replaced by another, or made by another gateway`,
    ],
    ...(options.connectTimeoutMs === undefined ? {} : { connectTimeoutMs: options.connectTimeoutMs }),
  });
  try {
    await converse(options, owner, code, connection);
  } finally {
    connection.close();
  }
  rmSync(join(pairingFolder(owner.folder, code.deviceId), PAIRING_FILE), { force: true });
  completePairingFolder(owner.folder, code.deviceId);
  return readDeviceInfo(folder);
}

/** Ends when the gateway has confirmed that the device in the pairing's folder is paired. */
async function converse(
  options: PairOptions,
  owner: Owner,
  code: PairingCode,
  connection: OwnerConnection,
): Promise<void> {
  const transcript: Uint8Array[] = [];
  const ask = async <T extends ToOwner["type"]>(question: FromOwner, ...expected: T[]) => {
    const answer = await connection.ask(question, ...expected);
    transcript.push(fromOwner.encode(question), toOwner.encode(answer));
    return answer;
  };
  const { random } = nodeLinkCrypto;
  const pending = pairingFolder(owner.folder, code.deviceId);
  const completed = readJson(join(pending, PAIRING_FILE))?.bytes("confirmation", 32);

  const ecdhSecret = random(32);
  const begun = await ask(
    {
      type: "pair",
      version: PAIRING_VERSION,
      ecdh: nobleCurve.publicKey(ecdhSecret),
      ...(completed ? { completed } : {}),
    },
    "pairing",
    "paired",
  );
  if (begun.type === "paired") {
    if (completed && equal(begun.confirmation, completed)) return;
    throw lngateError("pairing-mismatch", "the gateway confirms a pairing that this computer has not made");
  }
  if (begun.network !== owner.network)
    throw lngateError(
      "pairing-wrong-network",
      `the gateway is on ${begun.network}, this owner's folder is for ${owner.network}`,
    );
  const birthTime = Math.floor(Date.now() / 1000);
  const birthHeight = heightOf(owner.network, begun.blockHeight, birthTime, options.height);
  const { serviceFee } = begun;
  if (serviceFee) checkServiceFee(serviceFee, { ...DEFAULT_MAX_SERVICE_FEE, ...options.maxServiceFee });
  options.onServiceFee?.(serviceFee);

  options.onStep?.("keys");
  const names = { gateway: GATEWAY_NAME, device: ascii(code.deviceId) };
  const k0 = keygenDevice(names, random).receive(begun.k0);
  const { k1 } = await ask({ type: "pair-nonce", k0: k0.send }, "pair-committed");
  const k2 = k0.next.receive(k1);
  const { k3 } = await ask({ type: "pair-share", k2: k2.send }, "pair-opened");
  const k4 = k2.next.receive(k3);

  const agreed = await ask({ type: "pair-agree", k4: k4.send }, "pair-agreed");
  const { share } = k4.next.receive(agreed.k4);

  options.onStep?.("transfers");
  const transferA = setupP2(share, "A", random).receive(agreed.e1);
  const transferB = setupP1(share, "B", random);
  const transferred = await ask(
    { type: "pair-transfers", e2: transferA.send, e1: transferB.send },
    "pair-transferred",
  );
  const setupB = transferB.next.receive(transferred.e2);

  options.onStep?.("storing");
  const made = longTermKeys(
    nobleCurve.multiply(begun.ecdh, ecdhSecret).subarray(1),
    code.secret,
    transcriptOf(transcript),
  );
  const folder = startPairingFolder(owner.folder, code.deviceId);
  const index = takeDeviceIndex(owner.folder);
  const cold = coldKeys(owner.keys, index);
  const secrets = deviceSecrets(owner.keys.hotSecret, share.joint, random(32));
  const depositDelay = options.depositDelay ?? DEFAULT_DEPOSIT_DELAY;
  const policy = { ...DEFAULT_POLICY, ...options.policy };
  const keys = {
    fundingKey: share.joint,
    revocationBasepoint: secrets.revocationBasepoint,
    htlcBasepoint: secrets.htlcBasepoint,
    paymentBasepoint: cold.paymentBasepoint,
    delayedPaymentBasepoint: cold.delayedPaymentBasepoint,
    depositOwnerKey: cold.depositOwnerKey,
    depositDelay,
    shutdownScript: cold.shutdownScript,
  };
  const brokerUrl = `mqtt://${code.host}:${code.port}`;
  const info: DeviceInfo = {
    deviceId: code.deviceId,
    name: begun.name,
    network: owner.network,
    brokerUrl,
    ownerPassword: made.ownerPassword,
    ownerLinkKey: made.ownerLinkKey,
    index,
    keys,
  };
  writeDeviceInfo(folder, info);
  writeBackup(folder, info, share);
  writeChargingState(folder, {
    setups: {
      A: { setup: transferA.setup, fingerprint: sha256(concat([agreed.e1, transferA.send])) },
      B: { setup: setupB, fingerprint: sha256(concat([transferB.send, transferred.e2])) },
    },
    aborts: NO_ABORTS,
    ends: { A: 0, B: 0 },
  });
  writeFlash(folder, options, {
    network: owner.network,
    deviceId: code.deviceId,
    brokerUrl,
    brokerPassword: made.devicePassword,
    linkKey: made.deviceLinkKey,
    ...secrets,
    ...keys,
    birthHeight,
    birthTime,
    policy,
    ...(serviceFee ? { serviceFee } : {}),
  });
  writeJson(join(folder, PAIRING_FILE), { version: 1, confirmation: made.gatewayConfirmation });

  const { fundingKey: _, ...otherKeys } = keys;
  const { confirmation } = await ask(
    {
      type: "pair-complete",
      keys: otherKeys,
      confirmation: made.ownerConfirmation,
      limits: spendingLimits(policy),
    },
    "paired",
  );
  if (!equal(confirmation, made.gatewayConfirmation))
    throw lngateError(
      "pairing-mismatch",
      "the two sides have seen different messages: somebody is in between",
    );
}

/** Terms within what the owner agrees to, and such that they can be kept. */
function checkServiceFee(terms: ServiceFee, max: MaxServiceFee): void {
  if (terms.ratePpm > max.ratePpm || terms.baseMsat > max.baseMsat)
    throw lngateError(
      "service-fee-too-high",
      `the gateway takes ${serviceFeeText(terms)} for its service; agreed to are at most ${serviceFeeText(max)}`,
    );
  const fault = serviceFeeFault(terms);
  if (fault) throw lngateError("service-fee-invalid", `the gateway's terms can't be kept: ${fault}`);
}

/** Blocks by which a height may differ within days, whatever the time says. */
const HEIGHT_SLACK = 432;

/**
 * The height from which the device will reckon how long money may be locked: the owner's own source says it, or the
 * gateway. On mainnet that is checked against the clock: block 840,000 was mined on 20 April 2024, and since then they
 * came at most 5 % faster, and 3 % slower, than one in ten minutes. Elsewhere it can't be: there is no money, either.
 */
function heightOf(network: Network, said: number, now: number, own: number | undefined): number {
  const blocks = (now - 1_713_571_767) / 600;
  const implausible =
    own === undefined
      ? network === "mainnet" &&
        (said > 840_000 + blocks * 1.05 + HEIGHT_SLACK || said < 840_000 + blocks * 0.97 - HEIGHT_SLACK)
      : Math.abs(said - own) > HEIGHT_SLACK;
  if (implausible)
    throw lngateError(
      "pairing-height-implausible",
      `the gateway says that the chain is at block ${said}; that can't be${own === undefined ? " (or this computer's clock is wrong)" : `: your own source says ${own}`}`,
    );
  return own ?? said;
}

function writeFlash(folder: string, { flashPages }: PairOptions, identity: DeviceIdentity): void {
  const flash = openFileFlash(folder, flashPages === undefined ? {} : { pageCount: flashPages });
  try {
    formatVault(flash, identity);
  } finally {
    flash.close();
  }
}
