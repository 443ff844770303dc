/**
 * A device with its flash in memory: the real runtime, whose power can fail too, inside of a flash operation or
 * around a message.
 */

import type { Device } from "../../device/api.ts";
import type { Board, MqttConnection, MqttOptions } from "../../device/board.ts";
import { contextOf } from "../../device/board-context.ts";
import { type Exit, exitOf } from "../../device/channel/exiting.ts";
import { transition } from "../../device/channel/machine.ts";
import { type ChannelState, readState } from "../../device/channel/state.ts";
import { openDevice } from "../../device/device.ts";
import { DEFAULT_POLICY, type DeviceIdentity } from "../../device/identity.ts";
import { openVaultToCharge } from "../../device/vault/charging.ts";
import type { Flash } from "../../device/vault/flash.ts";
import { type MemoryFlash, memoryFlash } from "../../device/vault/memory-flash.ts";
import { formatVault, openVault } from "../../device/vault/vault.ts";
import { concat } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { type DealtRecord, dealNonce, dealRecord, dealtMac, derived, withMacs } from "../device/dealer.ts";
import { identityWith } from "../device/parties.ts";

const PAGE_BYTES = 4096;
const PAGES = 96;
/** Of each of the journal's two areas: room for some hundred payments to remember. */
const AREA_PAGES = 16;

/** The car's clock runs so much faster than the world's, that nobody has to wait for its patience to end. */
const HASTE = 10;

/** When the device's power fails: inside a flash operation, or around a message that it sends. */
export type DeviceCut =
  | { readonly at: "flash"; readonly operation: number }
  | { readonly at: "before" | "after"; readonly message: number };

/** What the device speaks through: told of its connection, given what it publishes. */
export interface Air {
  join(options: MqttOptions): MqttConnection;
}

export class Car {
  readonly identity: DeviceIdentity;
  private readonly name: string;
  private readonly fundingSecret: Uint8Array;
  private readonly dealt = new Map<string, DealtRecord>();
  private readonly charged = { A: 0, B: 0, H: 0 };
  private readonly air: Air;
  private readonly random: () => number;
  private image: Uint8Array;
  private flash!: MemoryFlash;
  private life = { on: false };
  device!: Device;
  private cut: DeviceCut | undefined;
  private messages = 0;
  private died: () => void = () => {};
  /** Resolves when the power has failed. */
  death!: Promise<void>;
  boots = 0;

  constructor(name: string, birth: { height: number; time: number }, air: Air, random: () => number) {
    this.name = name;
    this.fundingSecret = derived(`${name} funding`);
    this.identity = {
      ...identityWith(),
      deviceId: "cutcut22",
      linkKey: derived(`${name} link`),
      drbgSeed: derived(`${name} drbg`),
      commitmentMaster: derived(`${name} commitments`),
      fundingKey: nobleCurve.publicKey(this.fundingSecret),
      birthHeight: birth.height,
      birthTime: birth.time,
      policy: { ...DEFAULT_POLICY, perHourMsat: 1e12, perDayMsat: 1e12 },
    };
    this.air = air;
    this.random = random;
    const flash = memoryFlash(PAGE_BYTES, PAGES);
    formatVault(flash, this.identity, AREA_PAGES);
    this.image = flash.image();
  }

  // ── records ───────────────────────────────────────────────────────────────────────────────────────────

  /** Both halves of a record of this car's key. */
  record(kind: "A" | "B", id: number): DealtRecord {
    const key = `${kind}${id}`;
    let record = this.dealt.get(key);
    if (!record) {
      record = dealRecord(this.fundingSecret, `${this.name} ${key}`);
      if (kind === "B")
        record = { ...record, answering: withMacs(record.answering, dealtMac(this.name), id) };
      this.dealt.set(key, record);
    }
    return record;
  }

  /** Adds records to the flash of a device that is off; the gateway's half of them. */
  charge(counts: Readonly<Record<"A" | "B" | "H", number>>): Batch[] {
    const flash = memoryFlash(PAGE_BYTES, PAGES, this.image);
    const { records } = openVaultToCharge(flash);
    const halves: Batch[] = [];
    for (const kind of ["A", "B", "H"] as const) {
      const firstId = this.charged[kind];
      const ids = Array.from({ length: counts[kind] }, (_, i) => firstId + i);
      this.charged[kind] += counts[kind];
      const batch = (of: (id: number) => Uint8Array) => ({
        kind,
        epoch: 0,
        firstId,
        count: ids.length,
        records: concat(ids.map(of)),
      });
      const mac = kind === "B" ? { mac: dealtMac(this.name) } : {};
      if (kind === "H") records.append(batch(id => dealNonce(`${this.name} H${id}`)));
      else {
        const [ours, theirs] =
          kind === "A" ? (["answering", "completing"] as const) : (["completing", "answering"] as const);
        records.append({ ...batch(id => this.record(kind, id)[ours]), ...mac });
        halves.push(batch(id => this.record(kind, id)[theirs]));
      }
    }
    this.image = flash.image();
    return halves;
  }

  // ── power ─────────────────────────────────────────────────────────────────────────────────────────────

  get isOn(): boolean {
    return this.life.on;
  }

  /** Starts it with what is in its flash, and lets it connect. */
  start(): void {
    this.boots++;
    this.flash = memoryFlash(PAGE_BYTES, PAGES, this.image);
    this.life = { on: true };
    this.cut = undefined;
    this.death = new Promise(resolve => {
      this.died = resolve;
    });
    this.device = openDevice(this.board());
    this.powered(() => void this.device.connect().catch(() => {}));
  }

  /** Counting begins again. */
  plan(cut: DeviceCut | undefined): void {
    this.cut = cut;
    this.messages = 0;
    if (cut?.at === "flash") this.flash.cutDuring(this.flash.operations() + cut.operation, this.random);
  }

  off(): void {
    if (!this.life.on) return;
    this.life.on = false;
    this.image = this.flash.image();
    const { device } = this;
    // Lets go of timers; what it says does not get out any more. It may be in the middle of something.
    setImmediate(() => {
      void device.disconnect();
      void device.disconnect();
    });
    this.died();
  }

  private powered(work: () => void): void {
    const { life } = this;
    if (!life.on) return;
    try {
      work();
    } catch (error) {
      if (codeOf(error) !== "power-cut") throw error;
      if (life === this.life) this.off();
    }
  }

  private board(): Board {
    const { life, flash } = this;
    const alive =
      <A extends unknown[]>(work: (...args: A) => void) =>
      (...args: A) => {
        if (life.on) this.powered(() => work(...args));
      };
    // Whoever asked for it may catch the error: without power nothing gets out all the same.
    const withPower = (work: () => void) => {
      if (!life.on) throw lngateError("power-cut", "the device is off");
      try {
        work();
      } catch (error) {
        if (codeOf(error) === "power-cut") this.off();
        throw error;
      }
    };
    const watched: Flash = {
      ...flash,
      program: (offset, bytes) => withPower(() => flash.program(offset, bytes)),
      erase: page => withPower(() => flash.erase(page)),
    };
    return {
      vault: openVault(watched, nodeLinkCrypto.random(32)),
      curve: nobleCurve,
      aes256Ctr: nodeLinkCrypto.aes256Ctr,
      now: () => Date.now(),
      ticks: () => performance.now() * HASTE,
      after: (ms, callback) => {
        const timer = setTimeout(alive(callback), ms / HASTE);
        timer.unref();
        return () => clearTimeout(timer);
      },
      mqtt: options => {
        const connection = this.air.join({
          ...options,
          onOpen: alive(() => options.onOpen()),
          onMessage: alive(payload => options.onMessage(payload)),
          onClose: alive(reason => options.onClose(reason)),
        });
        return {
          publish: payload => {
            if (!life.on) return;
            const { cut } = this;
            const isMeant = cut && cut.at !== "flash" && cut.message === this.messages;
            this.messages++;
            if (isMeant && cut.at === "before") return this.off();
            connection.publish(payload);
            if (isMeant) this.off();
          },
          close: () => connection.close(),
        };
      },
    };
  }

  // ── what is in the flash at this instant ──────────────────────────────────────────────────────────────

  chip(): Uint8Array {
    return this.life.on ? this.flash.image() : this.image;
  }

  /** The state that somebody finds in the flash who reads it out, and the exit that the owner would take. */
  readOut(): { readonly state: ChannelState; exit(): Exit } {
    const vault = openVault(memoryFlash(PAGE_BYTES, PAGES, this.chip()));
    const state = readState(vault.journal);
    const context = contextOf({
      vault,
      curve: nobleCurve,
      now: () => Date.now(),
      ticks: () => performance.now(),
    });
    return {
      state,
      exit() {
        const { index } = state.books;
        return exitOf(transition(state, context, { type: "exit", index }).state, context, index);
      },
    };
  }
}
