/**
 * What a board does while nobody waits for a receipt: what the next payment will need is made ready, and what was not
 * verified before the receipt is. All of it is only remembered: what is not there in time is made when it is needed.
 */
import { codeOf } from "../src/errors.ts";
import type { Board } from "./board.ts";
import type { Context } from "./channel/context.ts";
import type { Input } from "./channel/machine.ts";
import { POINTS_AHEAD } from "./channel/normal.ts";
import type { ChannelState } from "./channel/state.ts";

/** Between two slices the engine reads its sockets and runs the application's promises. */
const PAUSE_MS = 50;
/** A slice ends with the first piece of work that it takes so long for: on a chip, with the first or second. */
const SLICE_MS = 20;

/** What idle work is done with. */
export interface IdleScene {
  readonly board: Pick<Board, "after" | "ticks">;
  readonly context: Context;
  /** The channel as it is now. */
  channel(): ChannelState;
  /** Somebody waits, for a receipt or for what has come to be worked on. */
  isAwaited(): boolean;
  run(input: Input): void;
}

/** The idle work of a device. */
export interface IdleWork {
  /** Something has changed: begins again, as soon as nobody waits. */
  begin(): void;
  stop(): void;
}

/** Nothing is done before `begin`. */
export function idleWork({ board, context, channel, isAwaited, run }: IdleScene): IdleWork {
  let cancel: (() => void) | null = null;
  let done = 0;

  function begin(): void {
    done = 0;
    if (context.keyAt) later();
  }

  /** One that is due already is not put off: whoever says something all the time would keep it away for ever. */
  function later(): void {
    if (cancel === null) cancel = board.after(PAUSE_MS, slice);
  }

  function stop(): void {
    if (cancel !== null) cancel();
    cancel = null;
  }

  function slice(): void {
    cancel = null;
    const end = board.ticks() + SLICE_MS;
    do {
      // Who waits may give up without a word.
      if (isAwaited()) break;
      if (!piece(done++)) return;
    } while (board.ticks() < end);
    later();
  }

  /** One piece of work: at most a point or key, or what stands in one commitment. False where there are no more. */
  function piece(i: number): boolean {
    const { books, holder, counterparty, parameters } = channel();
    const { keyAt, pointOf } = context;
    if (!keyAt || holder === null || parameters === null || books.phase !== "open") return false;
    const checks = holder.htlcSignatures.length;
    if (i < checks) {
      run({ type: "check", most: 1 });
      return true;
    }
    const { proposal } = parameters;
    // A payment takes one new commitment of the bridge's and two of ours, and each of ours tells a point further on.
    const commitment = Math.floor((i - checks) / 5);
    const which = (i - checks) % 5;
    if (commitment > 2) return false;
    const number = holder.number + commitment;
    try {
      if (commitment === 0) {
        if (counterparty?.nextPoint && which < 4) keyAt(proposal, false, counterparty.nextPoint, which);
      } else if (which < 4) keyAt(proposal, true, pointOf(books.index, number), which);
      else pointOf(books.index, number + POINTS_AHEAD);
    } catch (error) {
      // A point of the bridge's that is none: the commitment that it is for will be refused.
      if (codeOf(error) === undefined) throw error;
    }
    return true;
  }

  return { begin, stop };
}
