/** A device of the experiment with its link: it plays its rows one after the other. */
import { deviceFolder } from "../../owner/folder/folder.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import type { Stage } from "../local-network.ts";
import { Program } from "../program.ts";
import { type CurveKind, chipSeconds, type Interval, noOperations, type Operations } from "./chip-time.ts";
import type { Measured } from "./device.ts";
import { LINKS, UNSHAPED } from "./links.ts";
import { average, median, partsOf, spread } from "./parts.ts";
import { nameOf, type Row, type RowResult } from "./rows.ts";
import { Shaper } from "./shaper.ts";

/** Above the dust limit: the HTLC has outputs and signatures of its own. */
export const AMOUNT_MSAT = 365_000;
/** Of each row, not counted. */
export const WARM_UP = 1;
const DEPOSIT_SAT = 200_000;

/** What all lanes share. */
export interface Ground {
  readonly stage: Stage;
  readonly runs: number;
  /** Payments that the destination has kept, by their hash. */
  readonly held: Map<string, Interval>;
  /** Waits until another payment may begin, so that the computer's work does not pile up. */
  turn(): Promise<void>;
  say(text: string): void;
  /** A payment is done. */
  done(): void;
}

interface Payment extends Measured {
  readonly seconds: number;
  readonly parts: ReturnType<typeof partsOf>;
}

export class Lane {
  readonly fees: { serviceFeeMsat: number; feeMsat: number }[] = [];
  private readonly ground: Ground;
  private readonly device: Program;
  private readonly shaper: Shaper;

  private constructor(ground: Ground, device: Program, shaper: Shaper) {
    this.ground = ground;
    this.device = device;
    this.shaper = shaper;
  }

  /** Pairs a device, charges it for so many payments and opens its channel. */
  static async open(ground: Ground, name: string, curve: CurveKind, payments: number): Promise<Lane> {
    const { stage } = ground;
    const deviceId = await stage.pair(name, "--max-hour", "1000000", "--max-day", "1000000");
    await stage.charge(deviceId, payments + 8);
    await stage.deposit(deviceId, DEPOSIT_SAT);
    const shaper = await Shaper.to(stage.mqttPort);
    const device = new Program(`device ${name}`, [
      "dist/experiment-device.mjs",
      "--folder",
      deviceFolder(stage.owner, deviceId),
      "--broker",
      `mqtt://127.0.0.1:${shaper.port}`,
      "--curve",
      curve,
    ]);
    await stage.mineUntil(device.ask("open"));
    await device.ask("leave");
    return new Lane(ground, device, shaper);
  }

  async play(row: Row): Promise<RowResult> {
    const { ground, device, shaper } = this;
    shaper.shape = LINKS[row.link];
    if (row.start === "warm") await device.ask("join");
    const payments: Payment[] = [];
    let failed = 0;
    for (let i = 0; i < WARM_UP + ground.runs; i++) {
      await ground.turn();
      try {
        const payment = await this.pay(row);
        if (i >= WARM_UP) payments.push(payment);
      } catch (error) {
        failed++;
        ground.say(`${nameOf(row)}: ${(error as Error).message}`);
      }
      ground.done();
    }
    if (row.start === "warm") await device.ask("leave");
    shaper.shape = UNSHAPED;
    return { ...row, ...resultOf(payments, row.curve), failed };
  }

  private async pay({ start, path }: Row): Promise<Payment> {
    const { ground, device, shaper } = this;
    const { invoice } = await ground.stage.toll.ask<{ invoice: string }>("invoice", {
      amountMsat: AMOUNT_MSAT,
      description: "toll",
      holdMs: Math.round(path * 1000),
    });
    shaper.travels = [];
    const measured = (await device.ask(`${start} ${invoice}`)) as unknown as Measured;
    const { from, to, busy } = measured;
    const hash = toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
    const held = ground.held.get(hash);
    ground.held.delete(hash);
    this.fees.push(measured);
    return {
      ...measured,
      seconds: (to - from) / 1000,
      parts: partsOf([from, to], busy, shaper.travels, held ? [held] : []),
    };
  }

  async stop(): Promise<void> {
    await this.device.stop();
    await this.shaper.stop();
  }
}

function resultOf(payments: readonly Payment[], curve: CurveKind) {
  const seconds = payments.map(each => each.seconds);
  const part = (name: keyof Payment["parts"]) => median(payments.map(({ parts }) => parts[name]));
  return {
    seconds: median(seconds),
    deviceSeconds: median(payments.map(each => chipSeconds(curve, each.untilReceipt))),
    deviceSecondsAfter: median(payments.map(each => chipSeconds(curve, each.afterReceipt))),
    spread: spread(seconds),
    parts: { chip: part("chip"), link: part("link"), path: part("path"), programs: part("programs") },
    untilReceipt: averageOperations(payments.map(each => each.untilReceipt)),
    afterReceipt: averageOperations(payments.map(each => each.afterReceipt)),
    runs: payments.length,
  };
}

function averageOperations(all: readonly Operations[]): Operations {
  const names = Object.keys(noOperations()) as (keyof Operations)[];
  return Object.fromEntries(names.map(name => [name, average(all.map(each => each[name]))])) as Operations;
}
