/** `lngate owner watch`: looks at a device's exit, and guards its channels from the owner's computer. */

import { addressScript, scriptAddress } from "../../src/bitcoin/address.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { shownHash, txidOf, weightOf } from "../../src/bitcoin/transaction.ts";
import { codeOf } from "../../src/errors.ts";
import { type Command, type Given, type Terminal, usage } from "../../src/node/command.ts";
import { writeFileAtomic } from "../../src/node/files.ts";
import { type OwnerChain, perVbyte } from "../chain/chain.ts";
import { estimateOf } from "../chain/fee-bound.ts";
import { chooseDevice, deviceFolder, openOwner } from "../folder/folder.ts";
import { deviceSecrets } from "../folder/seed.ts";
import {
  checkExit,
  type ExitFile,
  strandedSatOf,
  strandedSentences,
  writeExit,
} from "../recovery/exit-file.ts";
import { createGuard, type Sight } from "../recovery/guard.ts";
import { type HeldExit, lookAtExit, lookAtExits } from "../recovery/held-exits.ts";
import { CHAIN, chainOf, feerateOf } from "./chain-options.ts";
import { isAgreed, lineReader, readExitOf, readText, sats } from "./input.ts";
import { DEVICE, ownerFolder } from "./target.ts";

const DEFAULT_EVERY_SECONDS = 60;

const watch: Command = {
  name: "owner watch",
  summary: "verify a device's exit without ending its channel, and punish a bridge that cheats",
  help: `Looks into the device's flash, verifies every signature of the exit in it, and says what leaving would bring. For a board without curve arithmetic nothing else does that: gateway and bridge together could have left it without a valid exit. The device may be running. With --image it looks into an image read out of a board's flash, with --exit at a file. It remembers how far each channel was, so that an old image is noticed when somebody puts it back.

With --bitcoind or --esplora it goes on watching the chain. When the bridge publishes a state that it had revoked, all of it is yours if it is taken before the bridge's delay is over: the command says how many blocks that is, shows what it would publish, and asks; --yes answers beforehand. Neither gateway nor bridge have any part in that, and no seed words are needed: it takes what the owner's folder has. What the bridge's commitment pays you anyway is taken by lngate owner recover.

With the device's folder it guards all channels that the device keeps exits of, and every new state. --copy FILE writes a copy of the exit, for guarding on another computer: make a new one from time to time, since it can only punish states that were revoked before it was made. A copy can't be used to leave the channel.`,
  options: {
    ...DEVICE,
    image: { value: "FILE", help: "an image of the flash" },
    exit: { value: "FILE", help: "a file of lngate device exit, or a copy" },
    copy: { value: "FILE", help: "write a copy of the exit" },
    ...CHAIN,
    every: { value: "SECONDS", help: `time between two looks (default: ${DEFAULT_EVERY_SECONDS})` },
    once: { help: "look once, and end" },
    feerate: { value: "SAT/VB", help: "feerate to pay (default: what gets into a block within an hour)" },
    to: { value: "ADDRESS", help: "where to (default: an ordinary address of the words)" },
    yes: { help: "punish without asking" },
  },
  async run(given, terminal) {
    const { folder, network, keys } = openOwner(ownerFolder(given));
    const secretsOf = (fundingKey: Uint8Array) =>
      deviceSecrets(keys.hotSecret, fundingKey, new Uint8Array(32));
    const read = (name: string, text: string) =>
      readExitOf(network, name, text, fundingKey => secretsOf(fundingKey).commitmentMaster);
    const asCopy = ({ source, exit }: HeldExit) => read("the device's flash", writeExit(source, exit, false));
    const named = given.text("exit");
    const image = given.text("image");
    const path = () => deviceFolder(folder, chooseDevice(folder, given.text("device")));
    const isChainGiven = given.text("bitcoind") !== undefined || given.text("esplora") !== undefined;

    const show = (file: ExitFile) => {
      try {
        tell(file, terminal);
      } catch (error) {
        // It can't be published; an old state of the bridge's is punished with it all the same.
        if (!isChainGiven || codeOf(error) !== "exit-invalid") throw error;
        terminal.note(`exit-invalid: ${(error as Error).message}`);
      }
    };
    if (named !== undefined) {
      if (given.text("copy") !== undefined) throw usage("--copy is made from a device, not from a file");
      show(read(named, readText(named)));
    } else {
      const held = presentExit(path(), image, isChainGiven);
      if (held) show(asCopy(held));
      const copy = given.text("copy");
      if (copy !== undefined && held) writeFileAtomic(copy, writeExit(held.source, held.exit, false));
    }
    if (!isChainGiven) return;

    const chain = chainOf(given, sentence => terminal.note(sentence));
    try {
      await chain.check(network);
      const files = () =>
        named === undefined ? lookAtExits(path(), image).map(asCopy) : [read(named, readText(named))];
      await guard({ given, terminal, chain, network, secretsOf, files, endsWhenOver: named !== undefined });
    } finally {
      chain.close();
    }
  },
};

/** Null where there is none, for one who goes on watching. Throws `exit-none` otherwise. */
function presentExit(path: string, image: string | undefined, watches: boolean): HeldExit | null {
  try {
    return lookAtExit(path, image);
  } catch (error) {
    if (watches && codeOf(error) === "exit-none") return null;
    throw error;
  }
}

/** What the exit is worth. */
function tell(file: ExitFile, terminal: Terminal): void {
  const exit = checkExit(file);
  const { commitment, channel, transaction, secrets } = exit;
  const toLocal = commitment.outputs.find(({ kind }) => kind === "to-local")?.valueSat ?? 0;
  const inFlight = commitment.htlcs.reduce((sum, { valueSat }) => sum + valueSat, 0);
  const delayBlocks = channel.holder.toLocalDelay;
  terminal.say(`The exit of device ${file.deviceId} on ${file.network} is valid: state ${file.number}.`);
  terminal.say(
    `It would pay you ${sats(toLocal)} after ${delayBlocks} blocks; ${sats(inFlight)} are in flight.`,
  );
  for (const sentence of strandedSentences(exit)) terminal.say(`${sentence}.`);
  terminal.say(
    secrets === null
      ? "It holds no secrets of the bridge's that could be used: an old state of the bridge's can't be punished with it."
      : `It can punish ${secrets.count} revoked state(s) of the bridge's.`,
  );
  terminal.result({
    deviceId: file.deviceId,
    channel: file.index,
    state: file.number,
    final: file.final,
    valid: true,
    txid: shownHash(txidOf(transaction)),
    toLocalSat: toLocal,
    inFlightSat: inFlight,
    strandedSat: strandedSatOf(exit),
    delayBlocks,
    anchor: file.anchorSignature !== undefined,
    punishable: secrets?.count ?? null,
  });
}

interface Guarding {
  readonly given: Given;
  readonly terminal: Terminal;
  readonly chain: OwnerChain;
  readonly network: Network;
  readonly secretsOf: (fundingKey: Uint8Array) => ReturnType<typeof deviceSecrets>;
  /** Read again for every look: a device that works has new secrets. */
  readonly files: () => readonly ExitFile[];
  readonly endsWhenOver: boolean;
}

/** Looks, and looks again. What fails is told, and does not end it: a chain that is away may be back at the next look. */
async function guard({
  given,
  terminal,
  chain,
  network,
  secretsOf,
  files,
  endsWhenOver,
}: Guarding): Promise<void> {
  const seconds = given.number("every", 1, 3600) ?? DEFAULT_EVERY_SECONDS;
  const wanted = feerateOf(given);
  const to = given.text("to");
  let feeratePerKw = wanted ?? (await estimateOf(chain)).perKw;
  const watching = createGuard({
    chain,
    secretsOf,
    feeratePerKw,
    isEstimate: wanted === undefined,
    ...(to === undefined ? {} : { toScript: addressScript(to, network) }),
    onProgress: sentence => terminal.progress(sentence),
  });
  const input = given.flag("yes") ? undefined : lineReader();
  const told = new Map<string, string>();
  const sayOnce = (about: string, sentence: string, more: object) => {
    if (told.get(about) === sentence) return;
    told.set(about, sentence);
    terminal.say(sentence);
    terminal.result(more);
  };
  const noteOnce = (about: string, sentence: string) => {
    if (told.get(about) !== sentence) terminal.note(sentence);
    told.set(about, sentence);
  };
  const sentenceOf = (error: unknown) => `${codeOf(error) ?? "internal-error"}: ${(error as Error).message}`;
  /** Where there is none, the one before is good enough to punish with. */
  const estimate = async (before: number) => {
    try {
      const { perKw, remark } = await estimateOf(chain);
      if (remark !== undefined) noteOnce("feerate", remark);
      return perKw;
    } catch (error) {
      noteOnce("feerate", sentenceOf(error));
      return before;
    }
  };
  try {
    for (;;) {
      try {
        feeratePerKw = wanted ?? (await estimate(feeratePerKw));
        const sights = await watching.look(files(), feeratePerKw);
        for (const sight of sights) {
          tellSight(sight, sayOnce);
          if (sight.collections.length === 0) continue;
          for (const { inSat, feeSat, outSat, toScript, what, transaction } of sight.collections) {
            terminal.say(
              `Collect ${sats(inSat)}, fee ${sats(feeSat)} (${perVbyte((feeSat * 1000) / weightOf(transaction))} sat/vB): ${sats(outSat)} to ${scriptAddress(toScript, network)}.`,
            );
            for (const each of what) terminal.say(`  ${each}`);
          }
          if (input && !(await isAgreed(terminal, input.line))) {
            terminal.say("Nothing was published.");
            terminal.result({ ended: true, published: [] });
            return;
          }
          await publish(sight, chain, terminal);
        }
        const over = sights.every(({ isOver }) => isOver);
        if (given.flag("once") || (endsWhenOver && over)) {
          if (over) terminal.say("Nothing is left to watch here.");
          terminal.result({ ended: true, over });
          return;
        }
      } catch (error) {
        if (given.flag("once")) throw error;
        noteOnce("look", sentenceOf(error));
      }
      await new Promise(resolve => setTimeout(resolve, seconds * 1000));
    }
  } finally {
    input?.close();
  }
}

function tellSight(
  { file, closing, strandedSat, sentences, isOver }: Sight,
  sayOnce: (about: string, sentence: string, more: object) => void,
): void {
  const about = { deviceId: file.deviceId, channel: file.index };
  const sentence = [
    ...(closing === null ? [`Watching channel ${file.index} of device ${file.deviceId}: it is open`] : []),
    ...sentences,
  ]
    .map(each => `${each}.`)
    .join("\n");
  const { penalty } = closing ?? {};
  sayOnce(`${file.deviceId}/${file.index}`, sentence, {
    ...about,
    open: closing === null,
    ...(closing === null ? { strandedSat } : {}),
    over: isOver,
    sentences,
    ...(penalty ? { revoked: { state: penalty.number, blocksLeft: penalty.blocksLeft } } : {}),
  });
}

/** Each on its own: what the bridge has taken in the meantime is no reason to leave it the rest. */
async function publish({ file, collections }: Sight, chain: OwnerChain, terminal: Terminal): Promise<void> {
  const published: string[] = [];
  for (const { transaction } of collections) {
    try {
      await chain.publish([transaction]);
      published.push(shownHash(txidOf(transaction)));
    } catch (error) {
      if (codeOf(error) !== "chain-refused") throw error;
      terminal.note(`chain-refused: ${(error as Error).message}`);
    }
  }
  terminal.say(`Published: ${published.join(", ")}`);
  terminal.result({ deviceId: file.deviceId, channel: file.index, published });
}

export const watchCommands: readonly Command[] = [watch];
