/**
 * The device in a box: its real vault on a chip in memory, its real state machine, and a power supply that can be
 * cut between any two effects and inside of any operation of the flash.
 */

import { contextOf } from "../../device/board-context.ts";
import type { Context, Effect } from "../../device/channel/context.ts";
import { type Exit, exitOf } from "../../device/channel/exiting.ts";
import { type Input, transition } from "../../device/channel/machine.ts";
import { type ChannelState, type Payment, readState } from "../../device/channel/state.ts";
import { type Flash, metered } from "../../device/vault/flash.ts";
import type { MemoryFlash } from "../../device/vault/memory-flash.ts";
import { RECORD_KINDS } from "../../device/vault/records.ts";
import { openVault, type Vault } from "../../device/vault/vault.ts";
import { type Curve, nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type ToDevice, type ToGateway, toDevice, toGateway } from "../../src/messages/device.ts";
import { chip, NOW_MS } from "./parties.ts";

/** When the power fails: inside of a flash operation, or right before or after an effect. Counted from the start. */
export type Cut =
  | { readonly at: "flash"; readonly operation: number }
  | { readonly at: "before" | "after"; readonly effect: number };

export interface BoxOptions {
  readonly image: Uint8Array;
  readonly curve?: Curve | null;
  /** In rising order of their numbers, flash operations and effects each. */
  readonly cuts?: readonly Cut[];
  readonly random?: () => number;
  /** Sees every message when it leaves. */
  onSend?(message: ToGateway, encoded: Uint8Array): void;
  /** Called after every operation of the flash. */
  onOperation?(flash: MemoryFlash): void;
  /** Sees every state that is in flash from now on. */
  onPersisted?(state: ChannelState, box: Box): void;
  /** May put something else in the place of what the machine is given. */
  readonly contextWith?: (context: Context, box: Box) => Context;
}

export class Box {
  readonly options: BoxOptions;
  flash: MemoryFlash;
  vault!: Vault;
  context!: Context;
  state!: ChannelState;
  nowMs = NOW_MS;
  /** By how much the board's clock is wrong; its ticks are right. */
  lieMs = 0;
  boots = 0;
  /** Flash operations and effects so far, in all boots. */
  operations = 0;
  effects = 0;
  /** What the flash had to do since the last boot. */
  meter!: ReturnType<typeof metered>;
  readonly decided: Payment[] = [];
  readonly exits: Exit[] = [];
  private outbox: ToGateway[] = [];

  constructor(options: BoxOptions) {
    this.options = options;
    this.flash = chip(options.image);
    this.whilePowered(() => this.boot());
  }

  private boot(): void {
    this.boots++;
    this.plan();
    this.meter = metered(this.watched());
    this.vault = openVault(this.meter.flash);
    this.state = readState(this.vault.journal);
    const { cursors } = this.state.books;
    for (const kind of RECORD_KINDS) this.vault.records.erase(kind, cursors[kind]);
    const { curve = nobleCurve, contextWith } = this.options;
    const context = contextOf({
      vault: this.vault,
      curve: nobleCurve,
      now: () => this.nowMs + this.lieMs,
      ticks: () => this.nowMs - NOW_MS,
    });
    // A board without a curve still needs points from somewhere: here they come from Node's.
    const own = curve === nobleCurve ? context : Object.defineProperty(context, "curve", { value: curve });
    this.context = contextWith ? contextWith(own, this) : own;
    this.options.onPersisted?.(this.state, this);
  }

  private watched(): Flash {
    const { flash } = this;
    const { onOperation } = this.options;
    if (!onOperation) return flash;
    return {
      ...flash,
      program: (offset, bytes) => {
        flash.program(offset, bytes);
        onOperation(flash);
      },
      erase: page => {
        flash.erase(page);
        onOperation(flash);
      },
    };
  }

  private plan(): void {
    const next = (this.options.cuts ?? []).find(
      cut => cut.at === "flash" && cut.operation >= this.operations,
    );
    if (next?.at === "flash") {
      const inThisBoot = this.flash.operations() + next.operation - this.operations;
      this.flash.cutDuring(inThisBoot, this.options.random ?? Math.random);
    }
  }

  /** Carries an input out as device.ts does. What it sent is in `takeSent`. False if the power failed. */
  run(input: Input): boolean {
    return this.whilePowered(() => {
      const { state, effects } = transition(this.state, this.context, input);
      for (const effect of effects) {
        this.powerCheck("before");
        this.carryOut(effect, state);
        this.powerCheck("after");
        this.effects++;
      }
      this.state = state;
      if (input.type === "exit") this.exits.push(exitOf(state, this.context, input.index));
    });
  }

  receive(encoded: Uint8Array): boolean {
    const message: ToDevice = toDevice.decode(encoded);
    return this.run({ type: "message", message });
  }

  takeSent(): ToGateway[] {
    const sent = this.outbox;
    this.outbox = [];
    return sent;
  }

  /** Off and on again. */
  restart(): void {
    this.operations += this.flash.operations();
    this.flash = chip(this.flash.image());
    // A cut while it starts: once more.
    if (!this.whilePowered(() => this.boot())) return;
  }

  private carryOut(effect: Effect, state: ChannelState): void {
    switch (effect.type) {
      case "persist":
        this.vault.journal.commit(effect.changes);
        this.state = state;
        this.options.onPersisted?.(state, this);
        return;
      case "erase":
        this.vault.records.erase(effect.kind, effect.below);
        return;
      case "send": {
        const encoded = toGateway.encode(effect.message);
        this.options.onSend?.(effect.message, encoded);
        this.outbox.push(toGateway.decode(encoded));
        return;
      }
      case "decided":
        this.decided.push(effect.payment);
        return;
    }
  }

  private powerCheck(at: "before" | "after"): void {
    for (const cut of this.options.cuts ?? []) {
      if (cut.at !== at || cut.effect !== this.effects) continue;
      this.effects++;
      throw lngateError("power-cut", "the power failed between two effects");
    }
  }

  private whilePowered(step: () => void): boolean {
    try {
      step();
      return true;
    } catch (error) {
      if (codeOf(error) !== "power-cut") throw error;
      this.restart();
      return false;
    }
  }
}
