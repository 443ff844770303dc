/** `lngate owner …`: the owner's keys on the owner's computer. */

import { createInterface } from "node:readline";
import { type Command, networkOf, usage } from "../../src/node/command.ts";
import { createOwner } from "../folder/folder.ts";
import { checkWords, newWords } from "../folder/seed.ts";
import { DATA, ownerFolder } from "./target.ts";

const init: Command = {
  name: "owner init",
  summary: "make the owner's keys: 24 words, shown once",
  help: `Makes a new folder for the owner of devices. The 24 words that it shows are kept nowhere: write them on paper. They are what your money is worth when this computer breaks.

A mutual close pays an ordinary address of these words (BIP 84), which any wallet finds that is restored from them. The folder keeps only what is needed to pair and charge devices: public keys, and the secrets that devices get.

With --restore the words are read from standard input instead of made.`,
  options: {
    ...DATA,
    network: { value: "NAME", help: "mainnet, testnet, signet or regtest: that of the gateway" },
    restore: { help: "read the words from standard input" },
  },
  async run(given, terminal) {
    const network = networkOf(given);
    if (network === undefined)
      throw usage("--network is missing: say which Bitcoin network the gateway is on");
    const folder = ownerFolder(given);
    const restore = given.flag("restore");
    if (restore && process.stdin.isTTY) terminal.note("Type the 24 words, then Enter:");
    const words = restore ? checkWords(await readLines()) : newWords();
    createOwner(folder, network, words);
    terminal.say(`Made ${folder} for ${network}.`);
    if (!restore) {
      terminal.say();
      terminal.say("Your 24 words. They are shown this once, and nobody can tell them again:");
      terminal.say();
      const list = words.split(" ");
      for (let row = 0; row < 6; row++)
        terminal.say(
          [0, 6, 12, 18]
            .map(column => `${String(column + row + 1).padStart(4)} ${list[column + row]!.padEnd(10)}`)
            .join("")
            .trimEnd(),
        );
      terminal.say();
    }
    terminal.say("Next: lngate device pair CODE, with the code that the gateway's operator gives you.");
    terminal.result({ folder, network, ...(restore ? {} : { words }) });
  },
};

/** Everything up to the end of input, or the first 24 words. */
async function readLines(): Promise<string> {
  let text = "";
  for await (const line of createInterface({ input: process.stdin })) {
    text += ` ${line}`;
    if (text.trim().split(/\s+/).length >= 24) break;
  }
  return text;
}

export const ownerCommands: readonly Command[] = [init];
