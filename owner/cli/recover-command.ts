/** `lngate owner recover`: the owner's money, without a gateway. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { addressScript, scriptAddress } from "../../src/bitcoin/address.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { shownHash, txidOf } from "../../src/bitcoin/transaction.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type Command, type Given, networkOf, type Terminal } from "../../src/node/command.ts";
import { type OwnerChain, perVbyte } from "../chain/chain.ts";
import { type HeldChannel, readHeldChannels } from "../folder/device-files.ts";
import { BACKUP_FILE, CHANNEL_FILE, deviceFolder, pairedDevices, readJson } from "../folder/folder.ts";
import { checkWords } from "../folder/seed.ts";
import { type ExitFile, strandedSatOf, writeExit } from "../recovery/exit-file.ts";
import { feeCoin } from "../recovery/fee-coin.ts";
import { endedExits } from "../recovery/held-exits.ts";
import { type RecoveryKeys, readWif, recoveryKeys } from "../recovery/keys.ts";
import type { KnownDeposit } from "../recovery/options.ts";
import { carryOut, isUnfinished, planRecovery, type RecoveryPlan } from "../recovery/recover.ts";
import { CHAIN, chainOf, feerateOf } from "./chain-options.ts";
import { files, isAgreed, lineReader, readExitOf, readText, sats } from "./input.ts";
import { DATA, ownerFolder } from "./target.ts";

const DEFAULT_GAP = 20;

const recover: Command = {
  name: "owner recover",
  summary: "take the money home from the 24 words, without any gateway",
  help: `Reads the 24 words from standard input, looks for everything that is yours on the chain, shows what it would do and what it costs, and asks. It needs a bitcoind (no wallet, no index, pruned or not) or an Esplora server, and nothing else of LNGate.

From the words alone it finds what the bridge paid when it closed a channel, and what mutual closes paid. What a channel paid that was closed with the device's own state it finds by the exit, which devices in --data keep, or by channel.json, which lngate owner freeze leaves there: if a thief has published it, by that alone. For a channel that nobody closed it needs the device's exit (lngate device exit). For a deposit that was never used it needs backup.json, or an exit, or --scan-from.

Some of the money is locked for some blocks: the command says until when. Give it again then; it finds out by itself how far everything is. It never publishes an exit that may be revoked. If the bridge has published a state that it had revoked, all of it is yours, and an exit or a copy of one (lngate owner watch --copy) takes it.

An exit pays the feerate that was usual when it was signed. If that is too low now, name any coin of yours with --coin: it pays for both.`,
  options: {
    ...DATA,
    network: { value: "NAME", help: "mainnet, testnet, signet or regtest (default: the chain's)" },
    ...CHAIN,
    exit: { value: "FILES", help: "exits of `lngate device exit`, separated by commas" },
    backup: {
      value: "FILES",
      help: "backup.json of devices, separated by commas (those in --data are found)",
    },
    "channel-file": {
      value: "FILES",
      help: "channel.json of devices, separated by commas (those in --data are found)",
    },
    feerate: { value: "SAT/VB", help: "feerate to pay (default: what gets into a block within an hour)" },
    to: { value: "ADDRESS", help: "where to (default: an ordinary address of the words)" },
    coin: { value: "TXID:N", help: "a coin of yours that hurries an exit or pays for timed-out payments" },
    "coin-key": {
      value: "FILE",
      help: "file with its private key (WIF), unless it is at an address of the words",
    },
    gap: { value: "N", help: `how many devices these words may have had (default: ${DEFAULT_GAP})` },
    "scan-from": { value: "HEIGHT", help: "read all blocks from here for deposits whose backup is lost" },
    yes: { help: "do it without asking" },
  },
  async run(given, terminal) {
    const named = networkOf(given);
    const input = lineReader();
    try {
      const chain = chainOf(given, sentence => terminal.note(sentence));
      try {
        if (process.stdin.isTTY) terminal.note("Type the 24 words, then Enter:");
        const words = await input.words();
        checkWords(words);
        const keys = recoveryKeys(words, named ?? (await chain.network()));
        await recoverWith(given, terminal, chain, keys, () => input.line());
      } finally {
        chain.close();
      }
    } finally {
      input.close();
    }
  },
};

async function recoverWith(
  given: Given,
  terminal: Terminal,
  chain: OwnerChain,
  keys: RecoveryKeys,
  ask: () => Promise<string>,
): Promise<void> {
  const { network } = keys;
  const gap = given.number("gap", 1, 10_000) ?? DEFAULT_GAP;
  const exits = files(given, "exit").map(file => readExitFile(file, readText(file), keys));
  const kept = keptExits(given, keys);
  const held = heldChannels(given);
  const furtherRemarks = [...kept.remarks, ...held.remarks];
  const feerate = feerateOf(given);
  const coinText = given.text("coin");
  const keyFile = given.text("coin-key");
  const coinKey = keyFile === undefined ? undefined : readWif(readText(keyFile), network);
  const to = given.text("to");
  const scanFromHeight = given.number("scan-from", 0, 10_000_000);
  const options = {
    keys,
    chain,
    exits,
    kept: kept.exits,
    deposits: knownDeposits(given),
    channels: held.channels,
    gap,
    ...(feerate === undefined ? {} : { feeratePerKw: feerate }),
    ...(to === undefined ? {} : { toScript: addressScript(to, network) }),
    ...(coinText === undefined ? {} : { coin: await feeCoin({ keys, chain, gap }, coinText, coinKey) }),
    ...(scanFromHeight === undefined ? {} : { scanFromHeight }),
    onProgress: (sentence: string) => terminal.progress(sentence),
  };
  const plan = await planRecovery(options);
  for (const line of described(plan, furtherRemarks, chain, network)) terminal.say(line);
  const doing = actions(plan) > 0;
  const agreed = doing && (given.flag("yes") || (await isAgreed(terminal, ask)));
  const published: Uint8Array[] = [];
  try {
    if (agreed) await carryOut(chain, plan, published);
  } finally {
    if (published.length > 0) terminal.say(`Published: ${published.map(shownHash).join(", ")}`);
  }
  if (doing && !agreed) terminal.say("Nothing was published.");
  const left = doing || isUnfinished(plan);
  if (left && (agreed || !doing))
    terminal.say("Give the same command again later: not everything is home yet.");
  terminal.result({
    ...asJson(plan, network),
    remarks: [...plan.remarks, ...furtherRemarks],
    published: published.map(shownHash),
    finished: !left,
  });
}

function actions({ exits, collections }: RecoveryPlan): number {
  return collections.length + exits.filter(({ action }) => action === "publish" || action === "bump").length;
}

/** The plan for a person. */
function described(
  plan: RecoveryPlan,
  furtherRemarks: readonly string[],
  chain: OwnerChain,
  network: Network,
): string[] {
  const lines = [
    `Block ${plan.height}, by the ${chain.name}; feerate ${perVbyte(plan.feeratePerKw)} sat/vB.`,
    "",
  ];
  for (const { exit, action, feeSat, feeratePerKw, childFeeSat = 0 } of plan.exits) {
    const { file, channel, transaction } = exit;
    const what = {
      publish: "will be published",
      bump: `will be hurried with your coin, which pays ${sats(childFeeSat)} more`,
      wait: "is published and waits for a block",
      done: "is in a block",
      replaced: "is not needed: the channel is closed already",
    }[action];
    lines.push(
      `Exit of device ${file.deviceId}, state ${file.number}: ${what}.`,
      `  transaction ${shownHash(txidOf(transaction))}, fee ${sats(feeSat)} (${perVbyte(feeratePerKw)} sat/vB); it is yours ${channel.holder.toLocalDelay} blocks later`,
    );
  }
  for (const { what, inSat, feeSat, outSat, toScript } of plan.collections) {
    lines.push(
      `Collect ${sats(inSat)}, fee ${sats(feeSat)}: ${sats(outSat)} to ${scriptAddress(toScript, network)}.`,
      ...what.map(each => `  ${each}`),
    );
  }
  for (const { what, valueSat, atHeight, delay } of plan.waiting) {
    const when =
      atHeight === null
        ? delay === undefined
          ? "for now"
          : `for ${delay} blocks after it is in a block`
        : `until block ${atHeight}, in ${atHeight - plan.height} block(s)`;
    lines.push(`Locked ${when}: ${sats(valueSat)}, ${what}.`);
  }
  for (const { output, address } of plan.home)
    lines.push(
      `Home already: ${sats(output.valueSat)} at ${address}; any wallet restored from the words finds it.`,
    );
  if (lines.length === 2) lines.push("Nothing was found with what was given.");
  return [...lines, ...[...plan.remarks, ...furtherRemarks].map(remark => `Note: ${remark}.`), ""];
}

function asJson(plan: RecoveryPlan, network: Network): object {
  return {
    height: plan.height,
    feeratePerKw: plan.feeratePerKw,
    exits: plan.exits.map(({ exit, action, feeSat, feeratePerKw, childFeeSat, penalty }) => ({
      deviceId: exit.file.deviceId,
      state: exit.file.number,
      txid: shownHash(txidOf(exit.transaction)),
      action,
      feeSat,
      feeratePerKw,
      ...(childFeeSat === undefined ? {} : { childFeeSat }),
      delayBlocks: exit.channel.holder.toLocalDelay,
      strandedSat: strandedSatOf(exit),
      ...(penalty ? { revoked: { state: penalty.number, blocksLeft: penalty.blocksLeft } } : {}),
    })),
    collections: plan.collections.map(({ what, transaction, inSat, feeSat, outSat, toScript }) => ({
      what,
      txid: shownHash(txidOf(transaction)),
      inSat,
      feeSat,
      outSat,
      address: scriptAddress(toScript, network),
    })),
    waiting: plan.waiting,
    home: plan.home.map(({ output, address }) => ({
      coin: `${shownHash(output.txid)}:${output.vout}`,
      sat: output.valueSat,
      address,
    })),
  };
}

function readExitFile(name: string, content: string, keys: RecoveryKeys): ExitFile {
  return readExitOf(keys.network, name, content, fundingKey => keys.device(fundingKey).commitmentMaster);
}

/** What the devices in the owner's folder keep of channels that have ended, and what can't be read of it. */
function keptExits(given: Given, keys: RecoveryKeys): { exits: ExitFile[]; remarks: string[] } {
  const folder = ownerFolder(given);
  const [exits, remarks]: [ExitFile[], string[]] = [[], []];
  for (const deviceId of pairedDevices(folder)) {
    try {
      for (const { source, exit } of endedExits(deviceFolder(folder, deviceId))) {
        const name = `the exit of channel ${exit.index} in the flash of device ${deviceId}`;
        exits.push(readExitFile(name, writeExit(source, exit, true), keys));
      }
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      remarks.push(`device ${deviceId} in ${folder} was left out: ${(error as Error).message}`);
    }
  }
  return { exits, remarks };
}

/** What gateways have said of channels, and what can't be used of it: a lie of theirs is no reason to stop. */
function heldChannels(given: Given): { channels: HeldChannel[]; remarks: string[] } {
  const [channels, remarks]: [HeldChannel[], string[]] = [[], []];
  for (const file of filesOf(given, "channel-file", CHANNEL_FILE)) {
    try {
      channels.push(...there(file, readHeldChannels(file)));
    } catch (error) {
      if (codeOf(error) !== "owner-corrupt") throw error;
      remarks.push(`${file} was left out: ${(error as Error).message}`);
    }
  }
  return { channels, remarks };
}

/** From the backups that are named, and from those in the owner's folder if there is one. */
function knownDeposits(given: Given): KnownDeposit[] {
  return filesOf(given, "backup", BACKUP_FILE).map(file => {
    const keys = there(file, readJson(file)).section("keys");
    return { fundingKey: keys.bytes("fundingKey", 33), depositDelay: keys.number("depositDelay") };
  });
}

/** The files of this option, and those of this name in the owner's folder if there is one. */
function filesOf(given: Given, option: string, name: string): string[] {
  const folder = ownerFolder(given);
  const own = pairedDevices(folder)
    .map(id => join(deviceFolder(folder, id), name))
    .filter(file => existsSync(file));
  return [...files(given, option), ...own];
}

function there<T>(file: string, content: T | undefined): T {
  if (content === undefined) throw lngateError("file-unreadable", `${file} is not there`);
  return content;
}

/** Taking the money home. */
export const recoverCommands: readonly Command[] = [recover];
