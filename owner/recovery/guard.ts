/**
 * Guards channels while their device works: one look says whether each is still open, and if the bridge has published a
 * state that it had revoked, what has to be published to take all of it. It takes no cold key.
 */
import { toHex } from "../../src/bytes/bytes.ts";
import type { OwnerChain } from "../chain/chain.ts";
import type { DeviceSecrets } from "../folder/seed.ts";
import { type Collection, collect } from "./collect.ts";
import {
  type CheckedExit,
  type ExitFile,
  examineExit,
  strandedSatOf,
  strandedSentences,
} from "./exit-file.ts";
import { whoClosed } from "./exits.ts";
import { type Closing, howClosed } from "./punish.ts";

/** A close that lies so deep is not looked at again, unless the chain takes it back. */
const DEEP = 6;

/** What a guard works with. */
export interface GuardOptions {
  readonly chain: OwnerChain;
  secretsOf(fundingKey: Uint8Array): Pick<DeviceSecrets, "commitmentMaster" | "revocationBasepointSecret">;
  /** Sat per 1000 weight. */
  readonly feeratePerKw: number;
  /** It is the chain's word, not the owner's. */
  readonly isEstimate?: boolean;
  /** Where penalties go; without it to the ordinary address of the words to which the device closes. */
  readonly toScript?: Uint8Array;
  onProgress?(sentence: string): void;
}

/** What a look found of one channel. */
export interface Sight {
  readonly file: ExitFile;
  /** Null while the channel is open. */
  readonly closing: Closing | null;
  /** What its exit can't bring home of the payments in flight, while the channel is open. */
  readonly strandedSat: number;
  /** For the owner. */
  readonly sentences: readonly string[];
  /** Penalties to publish. */
  readonly collections: readonly Collection[];
  /** Nothing more will come of this channel. */
  readonly isOver: boolean;
}

/** Looks again and again. */
export interface Guard {
  /** Looks at the channels of these exits, final or not. Throws what the chain throws. */
  look(files: readonly ExitFile[], feeratePerKw?: number): Promise<readonly Sight[]>;
}

/** Remembers from one look to the next what need not be looked for again. */
export function createGuard(options: GuardOptions): Guard {
  const { chain } = options;
  const over = new Map<string, Sight>();
  const searched = new Map<string, Uint8Array | null>();

  async function lookAt(exit: CheckedExit, height: number, feeratePerKw: number): Promise<Sight> {
    const { file } = exit;
    const name = toHex(exit.channel.funding.txid);
    if ((await chain.output(exit.channel.funding)) !== null) {
      over.delete(name);
      const sentences = [
        ...(exit.secrets === null ? [withoutSecrets(exit)] : []),
        ...(exit.fault === null ? [] : [exit.fault.message]),
        ...strandedSentences(exit),
      ];
      return {
        file,
        closing: null,
        strandedSat: strandedSatOf(exit),
        sentences,
        collections: [],
        isOver: false,
      };
    }
    const known = over.get(name);
    if (known) return known;
    const secrets = options.secretsOf(file.keys.fundingKey);
    const closing = await howClosed({ ...options, feeratePerKw, height, secrets, searched }, exit);
    const { penalty, confirmation, needsNewer } = closing;
    const remarks: string[] = [];
    const toScript = options.toScript ?? file.keys.shutdownScript;
    const collections = (penalty?.ready ?? []).flatMap(group =>
      collect(group, toScript, feeratePerKw, remarks, options.isEstimate),
    );
    // What was not found may come yet: a funding that was kept back, and an old state along with it.
    const settledAt =
      typeof confirmation === "number" ? Math.max(confirmation, penalty?.settledAt ?? 0) : null;
    const depth = needsNewer ? exit.channel.counterparty.toLocalDelay : DEEP;
    const isSettled = settledAt !== null && height - settledAt >= depth - 1;
    // What is not worth its fee now may be when feerates fall.
    const isWorthless =
      collections.length + (penalty?.waiting.length ?? 0) === 0 &&
      penalty?.isOpen === false &&
      penalty.blocksLeft === 0;
    const isDone = !penalty || penalty.isOver || isWorthless;
    const sight = {
      file,
      closing,
      strandedSat: 0,
      sentences: [
        closing.sentence ?? (await whoClosed(chain, exit)),
        ...(penalty?.remarks ?? []),
        ...remarks,
      ],
      collections,
      isOver: isSettled && isDone,
    };
    if (sight.isOver) over.set(name, sight);
    return sight;
  }

  return {
    async look(files, feeratePerKw = options.feeratePerKw) {
      const height = await chain.height();
      const sights: Sight[] = [];
      for (const file of files) {
        const exit = examined(file);
        sights.push(exit instanceof Error ? blind(file, exit) : await lookAt(exit, height, feeratePerKw));
      }
      return sights;
    },
  };
}

function examined(file: ExitFile): CheckedExit | Error {
  try {
    return examineExit(file);
  } catch (error) {
    return error as Error;
  }
}

/** An exit from which nothing can be rebuilt is no reason to leave the other channels unguarded. */
function blind(file: ExitFile, { message }: Error): Sight {
  const sentence = `channel ${file.index} of device ${file.deviceId} can't be guarded, its exit makes no sense (${message})`;
  return {
    file,
    closing: { sentence, confirmation: "unknown" },
    strandedSat: 0,
    sentences: [sentence],
    collections: [],
    isOver: false,
  };
}

function withoutSecrets({ file }: CheckedExit): string {
  return `the exit of device ${file.deviceId} holds no secrets of the bridge's that could be used: an old state of the bridge's can't be punished with it`;
}
