/**
 * The gateway's half of key generation, oblivious transfer and presigning, in a thread of its own: a presignature
 * costs about 20 ms of arithmetic, and a thousand of them must not hold up the payments of other devices.
 *
 * A program of its own in dist/; gateway/owner/ceremonies.ts talks to it.
 */

import { randomBytes } from "node:crypto";
import { parentPort } from "node:worker_threads";
import { codeOf, lngateError } from "../../src/errors.ts";
import { keygenGateway } from "../../src/threshold/keygen.ts";
import { decodeKeyShare, encodeKeyShare, type KeyShare } from "../../src/threshold/keyshare.ts";
import { MacRun, macRunGateway } from "../../src/threshold/presigning/mac.ts";
import { presignP1 } from "../../src/threshold/presigning/p1.ts";
import { presignP2WithMacs } from "../../src/threshold/presigning/p2.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { type Kind, OtSetup, setupP1, setupP2 } from "../../src/threshold/transfer/setup.ts";
import type { Turn } from "../../src/threshold/turns.ts";

/** What a ceremony begins with. Shares and setups travel as their bytes. */
export type Beginning =
  | { readonly what: "keygen"; readonly gateway: Uint8Array; readonly device: Uint8Array }
  | { readonly what: "setup"; readonly kind: Kind; readonly share: Uint8Array }
  | {
      readonly what: "presign";
      readonly share: Uint8Array;
      readonly setup: Uint8Array;
      /** First id of the batch (P1), or least id that is taken (P2). */
      readonly firstId: number;
      readonly count: number;
      /** Of kind B, the run of its MACs. */
      readonly run?: Uint8Array;
    }
  | { readonly what: "mac-run"; readonly share: Uint8Array; readonly setup: Uint8Array };

export interface Request {
  readonly request: number;
  readonly ceremony: number;
  readonly do: { readonly begin: Beginning } | { readonly receive: Uint8Array } | { readonly forget: true };
}

/** What came of one step: a message to send, and what is finished by it. */
export interface StepResult {
  readonly send?: Uint8Array;
  readonly share?: Uint8Array;
  readonly setup?: Uint8Array;
  readonly run?: Uint8Array;
  readonly batch?: Batch;
}

export interface Reply {
  readonly request: number;
  readonly result?: StepResult;
  readonly error?: { readonly code: string | undefined; readonly message: string };
}

type AnyTurn = Turn<string, unknown>;

const ceremonies = new Map<number, AnyTurn>();
const random = (length: number) => new Uint8Array(randomBytes(length));

parentPort?.on("message", ({ request, ceremony, do: work }: Request) => {
  const reply = (outcome: Omit<Reply, "request">) => parentPort!.postMessage({ request, ...outcome });
  try {
    if ("forget" in work) {
      ceremonies.delete(ceremony);
      reply({ result: {} });
      return;
    }
    const turn = ceremonies.get(ceremony);
    ceremonies.delete(ceremony);
    if ("receive" in work && !turn) throw lngateError("threshold-step-spent", "this ceremony has ended");
    const outcome = "begin" in work ? begin(work.begin) : turn!.receive(work.receive);
    reply({ result: take(ceremony, outcome) });
  } catch (error) {
    reply({
      error: { code: codeOf(error), message: error instanceof Error ? error.message : String(error) },
    });
  }
});

/** The first turn, or where the gateway begins its message with the turn that follows. */
function begin(beginning: Beginning): unknown {
  if (beginning.what === "keygen") return keygenGateway(beginning, random);
  const share = decodeKeyShare(beginning.share);
  if (beginning.what === "setup") {
    const { kind } = beginning;
    return kind === "A" ? setupP1(share, kind, random) : setupP2(share, kind, random);
  }
  const setup = OtSetup.fromBytes(beginning.setup);
  const presigner = { share, setup, random };
  if (beginning.what === "mac-run") return macRunGateway(presigner);
  const { firstId, count, run } = beginning;
  if (run === undefined) return presignP1(presigner, firstId, count);
  return presignP2WithMacs({ ...presigner, run: MacRun.fromBytes(run) }, firstId);
}

function take(ceremony: number, outcome: unknown): StepResult {
  if (outcome instanceof OtSetup) return { setup: outcome.toBytes() };
  if (outcome instanceof MacRun) return { run: outcome.toBytes() };
  if (isTurn(outcome)) {
    ceremonies.set(ceremony, outcome);
    return {};
  }
  const { send, next, share, setup, batch } = outcome as {
    send?: Uint8Array;
    next?: AnyTurn;
    share?: KeyShare;
    setup?: OtSetup;
    batch?: Batch;
  };
  if (next) ceremonies.set(ceremony, next);
  return {
    ...(send ? { send } : {}),
    ...(share ? { share: encodeKeyShare(share) } : {}),
    ...(setup ? { setup: setup.toBytes() } : {}),
    ...(batch ? { batch } : {}),
  };
}

function isTurn(outcome: unknown): outcome is AnyTurn {
  return typeof (outcome as Partial<AnyTurn>).receive === "function";
}
