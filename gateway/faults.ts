/**
 * Faults of the gateway, and whose they are: one that came out of LDK at some node has broken LDK for all, since its locks are
 * held; only a new process or thread helps then.
 */
import { codeOf, lngateError } from "../src/errors.ts";
import type { Log } from "./log.ts";

/** The gateway's own node, where a device's id would stand. */
export const FEE_NODE = "own";

/** See the head of this file. */
export interface Faults {
  /** Nothing can go on. `culprit`: whose node it was (a device's id, or `FEE_NODE`). A store that can't be written is nobody's fault. */
  fatal(culprit: string, error: unknown): void;
  /** What has no code has come out of LDK, and may have left its locks held: it is fatal. Throws what has one. */
  guarded(culprit: string, work: () => void): void;
}

/** What `createFaults` depends on. */
export interface FaultsOptions {
  readonly log: Log;
  /** Whom it is about, for the log. */
  titleOf(culprit: string): string;
  /** Called once: the process or thread is to end. */
  broken(culprit: string | undefined, why: string): void;
}

/** What one gateway does about its faults. */
export function createFaults({ log, titleOf, broken }: FaultsOptions): Faults {
  let isBroken = false;

  function fatal(culprit: string, error: unknown): void {
    if (isBroken) return;
    isBroken = true;
    const why = (error as Error).message;
    // lmdb's own errors have numbers.
    if (codeOf(error) === "store-write-failed" || typeof (error as { code?: unknown }).code === "number") {
      log.error(`${why}; the gateway must be started again`);
      broken(undefined, why);
    } else {
      log.error(`LDK has failed at the node of ${titleOf(culprit)}: ${why}`);
      broken(culprit, why);
    }
  }

  return {
    fatal,
    guarded(culprit, work) {
      try {
        work();
      } catch (error) {
        if (codeOf(error) === undefined) fatal(culprit, error);
        else throw error;
      }
    },
  };
}

/** Why a node is left out at which LDK broke before (`why`): `store-damaged`. */
export function breaksLdk(why: string): Error {
  return lngateError("store-damaged", `LDK breaks at the state that is stored of it (${why})`);
}
