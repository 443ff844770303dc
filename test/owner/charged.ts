/** One paired device that is charged again and again: what is in its flash, and what the gateway has of it. */
import { rmSync } from "node:fs";
import { expect } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { chargeDevice, recordsInFlash } from "../../owner/client/charge.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { paymentsFor } from "../../owner/client/records-needed.ts";
import type { DeviceInfo } from "../../owner/folder/device-files.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import { concat } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { answer as answerA, answerWithMac, complete, isAuthentic } from "../../src/threshold/online.ts";
import { macKeys } from "../../src/threshold/presigning/mac-keys.ts";
import { type GatewayHalf, newOwner, startGatewayHalf } from "./gateway-half.ts";

export class Charged {
  readonly gateway: GatewayHalf;
  readonly folder: string;
  readonly info: DeviceInfo;
  /** The device's own folder. */
  readonly path: string;

  private constructor(gateway: GatewayHalf, folder: string, info: DeviceInfo) {
    this.gateway = gateway;
    this.folder = folder;
    this.info = info;
    this.path = deviceFolder(folder, info.deviceId);
  }

  static async start(): Promise<Charged> {
    const gateway = await startGatewayHalf();
    const folder = newOwner();
    return new Charged(gateway, folder, await pairDevice({ folder, code: gateway.invite() }));
  }

  async stop(): Promise<void> {
    await this.gateway.stop();
    rmSync(this.folder, { recursive: true });
  }

  charge(payments: number, more: Partial<Parameters<typeof chargeDevice>[0]> = {}) {
    return chargeDevice({ folder: this.folder, deviceId: this.info.deviceId, payments, ...more });
  }

  /** So many payments more than the flash is charged for that records of both kinds are missing. */
  further(): number {
    return paymentsFor(recordsInFlash(this.path)) + 2;
  }

  /** The records of a kind in the flash, by id. */
  inFlash(kind: "A" | "B" | "H"): Map<number, Uint8Array> {
    const flash = openFileFlash(this.path);
    try {
      const { records } = openVault(flash);
      const found = new Map<number, Uint8Array>();
      for (let at = 0; ; ) {
        const record = records.read(kind, at);
        if (!record) return found;
        found.set(record.id, record.bytes);
        at = record.id + 1;
      }
    } finally {
      flash.close();
    }
  }

  /** The gateway's unused ids. */
  onGateway(kind: "A" | "B"): number[] {
    return this.gateway
      .records(this.info.deviceId)
      .unused(kind)
      .flatMap(({ firstId, count }) => Array.from({ length: count }, (_, i) => firstId + i));
  }

  /** Uses all records up, in pairs: each signs under the shared key, in both directions. */
  expectAllToSign(): void {
    const { fundingKey } = this.info.keys;
    const store = this.gateway.records(this.info.deviceId);
    const message = (kind: string, id: number) => sha256(new TextEncoder().encode(`${kind} ${id}`));
    for (const [id, record] of this.inFlash("A")) {
      const z = message("A", id);
      const s2 = answerA(record, z);
      const { answer: signature } = store.use("A", id, z, half => complete(half, s2));
      expect(nobleCurve.verify(signature, z, fundingKey)).toBe(true);
    }
    for (const [id, record] of this.inFlash("B")) {
      const z = message("B", id);
      const { id: named, answer } = store.take("B", z, half => answerWithMac(half, z));
      expect(named).toBe(id);
      const [s2, mac] = [answer.slice(0, 32), answer.slice(32)];
      const keys = concat([record.slice(96, 128), macKeys(record.slice(128), id)]);
      expect(isAuthentic(keys, z, s2, mac)).toBe(true);
      expect(isAuthentic(keys, message("B", id + 1), s2, mac)).toBe(false);
      expect(nobleCurve.verify(complete(record.slice(0, 96), s2), z, fundingKey)).toBe(true);
    }
    expect([store.remaining("A"), store.remaining("B")]).toEqual([0, 0]);
  }
}
