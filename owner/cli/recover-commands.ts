/** `lngate owner recover` and `device exit`: the owner's money, without a gateway. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { addressScript, scriptAddress } from "../../src/bitcoin/address.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { txidOf } from "../../src/bitcoin/transaction.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type Command, type Given, networkOf, type Terminal, usage } from "../../src/node/command.ts";
import { writeFileAtomic } from "../../src/node/files.ts";
import { askFreeze } from "../client/channel.ts";
import { type HeldChannel, readHeldChannels } from "../folder/device-files.ts";
import {
  BACKUP_FILE,
  CHANNEL_FILE,
  chooseDevice,
  deviceFolder,
  openOwner,
  pairedDevices,
  readJson,
} from "../folder/folder.ts";
import { checkWords } from "../folder/seed.ts";
import { type OwnerChain, shownTxid } from "../recovery/chain.ts";
import { bitcoindChain } from "../recovery/chain-bitcoind.ts";
import { esploraChain } from "../recovery/chain-esplora.ts";
import { type ExitFile, readExit, writeExit } from "../recovery/exit-file.ts";
import {
  endedExits,
  forgetExits,
  takeExitFromImage,
  takeExitFromText,
  takeExitOut,
} from "../recovery/held-exits.ts";
import { type RecoveryKeys, readWif, recoveryKeys } from "../recovery/keys.ts";
import {
  carryOut,
  feeCoin,
  isUnfinished,
  type KnownDeposit,
  perVbyte,
  planRecovery,
  type RecoveryPlan,
} from "../recovery/recover.ts";
import { DATA, ownerFolder } from "./owner-commands.ts";

const DEFAULT_GAP = 20;
export const sats = (sat: number) => `${sat.toLocaleString("en-US")} sat`;

/** Where a command finds the chain. */
export const CHAIN = {
  bitcoind: { value: "URL", help: "a bitcoind, e.g. http://127.0.0.1:8332" },
  cookie: { value: "FILE", help: "its cookie file" },
  user: { value: "NAME", help: "or a user of its rpcauth; the password is in $LNGATE_RPC_PASSWORD" },
  esplora: { value: "URL", help: "or an Esplora server, e.g. https://blockstream.info/api" },
};

const recover: Command = {
  name: "owner recover",
  summary: "take the money home from the 24 words, without any gateway",
  help: `Reads the 24 words from standard input, looks for everything that is yours on the chain, shows what it would do and what it costs, and asks. It needs a bitcoind (no wallet, no index, pruned or not) or an Esplora server, and nothing else of LNGate.

From the words alone it finds what the bridge paid when it closed a channel, and what mutual closes paid. What a channel paid that was closed with the device's own state it finds by the exit, which devices in --data keep. For a channel that nobody closed it needs the device's exit (lngate device exit). For a deposit that was never used it needs backup.json, or an exit, or --scan-from.

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
    if (published.length > 0) terminal.say(`Published: ${published.map(shownTxid).join(", ")}`);
  }
  if (doing && !agreed) terminal.say("Nothing was published.");
  const left = doing || isUnfinished(plan);
  if (left && (agreed || !doing))
    terminal.say("Give the same command again later: not everything is home yet.");
  terminal.result({
    ...asJson(plan, network),
    remarks: [...plan.remarks, ...furtherRemarks],
    published: published.map(shownTxid),
    finished: !left,
  });
}

function actions({ exits, collections }: RecoveryPlan): number {
  return collections.length + exits.filter(({ action }) => action === "publish" || action === "bump").length;
}

export async function isAgreed(terminal: Terminal, ask: () => Promise<string>): Promise<boolean> {
  terminal.note("Do it? Type yes, then Enter:");
  return /^y(es)?$/i.test((await ask()).trim());
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
      `  transaction ${shownTxid(txidOf(transaction))}, fee ${sats(feeSat)} (${perVbyte(feeratePerKw)} sat/vB); it is yours ${channel.ours.toLocalDelay} blocks later`,
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
      txid: shownTxid(txidOf(exit.transaction)),
      action,
      feeSat,
      feeratePerKw,
      ...(childFeeSat === undefined ? {} : { childFeeSat }),
      delayBlocks: exit.channel.ours.toLocalDelay,
      ...(penalty ? { revoked: { state: penalty.number, blocksLeft: penalty.blocksLeft } } : {}),
    })),
    collections: plan.collections.map(({ what, transaction, inSat, feeSat, outSat, toScript }) => ({
      what,
      txid: shownTxid(txidOf(transaction)),
      inSat,
      feeSat,
      outSat,
      address: scriptAddress(toScript, network),
    })),
    waiting: plan.waiting,
    home: plan.home.map(({ output, address }) => ({
      coin: `${shownTxid(output.txid)}:${output.vout}`,
      sat: output.valueSat,
      address,
    })),
  };
}

// ── arguments ─────────────────────────────────────────────────────────────────────────────────────────────

export function files(given: Given, option: string): string[] {
  return (given.text(option) ?? "").split(",").filter(file => file !== "");
}

export function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw lngateError("file-unreadable", `${file} can't be read: ${(error as Error).message}`);
  }
}

/** Throws `wrong-network`: the keys of another network would find such an exit damaged. */
export function needSameNetwork(name: string, of: Network, network: Network): void {
  if (of !== network) throw lngateError("wrong-network", `${name} is of ${of}, and this is ${network}`);
}

function readExitFile(name: string, content: string, keys: RecoveryKeys): ExitFile {
  return readExit(name, content, (fundingKey, network) => {
    needSameNetwork(name, network, keys.network);
    return keys.device(fundingKey).commitmentMaster;
  });
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

export function feerateOf(given: Given): number | undefined {
  const text = given.text("feerate");
  if (text === undefined) return undefined;
  const perVb = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || !(perVb >= 0.1 && perVb <= 5000))
    throw usage("--feerate must be a number of sat per virtual byte, from 0.1 to 5000");
  return Math.ceil(perVb * 250);
}

/** The height by the chain that was named, if one was. Throws `wrong-network`, and what the chain throws. */
export async function heightOf(
  given: Given,
  network: Network,
  onWait: (sentence: string) => void,
): Promise<number | undefined> {
  if (given.text("bitcoind") === undefined && given.text("esplora") === undefined) return undefined;
  const chain = chainOf(given, onWait);
  try {
    await chain.check(network);
    return await chain.height();
  } finally {
    chain.close();
  }
}

/** The chain that was named; `onWait` hears why it takes longer. */
export function chainOf(given: Given, onWait: (sentence: string) => void): OwnerChain {
  const patience = { onWait };
  const [bitcoind, esplora] = [given.text("bitcoind"), given.text("esplora")];
  if ((bitcoind === undefined) === (esplora === undefined))
    throw usage("say where the chain is: either --bitcoind URL or --esplora URL");
  for (const url of [bitcoind, esplora])
    if (url !== undefined && !URL.canParse(url)) throw usage(`"${url}" is no URL`);
  if (esplora !== undefined) return esploraChain(esplora, patience);
  const [cookieFile, user] = [given.text("cookie"), given.text("user")];
  if (cookieFile !== undefined) return bitcoindChain({ url: bitcoind!, cookieFile }, patience);
  if (user === undefined) throw usage("bitcoind needs --cookie FILE or --user NAME");
  const password = process.env["LNGATE_RPC_PASSWORD"] ?? "";
  return bitcoindChain({ url: bitcoind!, user, password }, patience);
}

/** Standard input by lines: first the words, on one line or more, then answers. */
export function lineReader() {
  const reader = createInterface({ input: process.stdin });
  const lines = reader[Symbol.asyncIterator]();
  const line = async () => ((await lines.next()).value as string | undefined) ?? "";
  return {
    line,
    close: () => reader.close(),
    async words(): Promise<string> {
      let text = "";
      for (;;) {
        const { value, done } = await lines.next();
        text += ` ${value ?? ""}`;
        if (done || text.trim().split(/\s+/).length >= 24) return text;
      }
    },
  };
}

// ── the device's exit ─────────────────────────────────────────────────────────────────────────────────────

export const DEVICE = {
  ...DATA,
  device: { value: "ID", help: "which device, if several are paired" },
};

const exit: Command = {
  name: "device exit",
  summary: "read the last state out of a device, to leave its channel without the gateway",
  help: `Writes the device's exit, its last completely signed state, into a file, and ends the channel's life on the device: nothing is signed or revoked afterwards, so that this exit stays the last. lngate owner recover publishes it.

Do this when the gateway is gone, or refuses to close. If it works, lngate device close is cheaper and at once. Stop the device first. The same command gives the same file again.

A board has no files: have it print its exit (device.exit() in its script), save what the console shows, and give that with --from. From a board that does not run any more, read its flash out, erase it before it can run again, and give the image with --image and --erased. Never without erasing: a board that goes on makes the exit poison, which gives the whole channel to the bridge.`,
  options: {
    ...DEVICE,
    out: { value: "FILE", help: "where to write it (default: exit.json beside the device's files)" },
    channel: { value: "N", help: "an earlier channel of this device (default: the latest)" },
    from: { value: "FILE", help: "what a board has printed" },
    image: { value: "FILE", help: "an image of a board's flash" },
    erased: { help: "the board was erased right after the image was read out, and has not run in between" },
  },
  async run(given, terminal) {
    const owner = openOwner(ownerFolder(given));
    const channel = given.number("channel", 1, 0xffffffff);
    const [printed, image] = [given.text("from"), given.text("image")];
    if (printed !== undefined && image !== undefined) throw usage("say either --from or --image");
    const path = () => deviceFolder(owner.folder, chooseDevice(owner.folder, given.text("device")));
    const { source, exit: taken } =
      printed !== undefined
        ? takeExitFromText(owner, readText(printed), channel)
        : image !== undefined
          ? takeExitFromImage(path(), image, given.flag("erased"), channel)
          : takeExitOut(path(), channel);
    const { deviceId } = source;
    const file = given.text("out") ?? join(deviceFolder(owner.folder, deviceId), "exit.json");
    writeFileAtomic(file, writeExit(source, taken, true));
    terminal.say(
      `State ${taken.number} of channel ${taken.index} of device ${deviceId} is in ${file}; the device signs nothing more of that channel.`,
    );
    terminal.say(`Next: lngate owner recover --exit ${file}`);
    terminal.result({ deviceId, file, channel: taken.index, state: taken.number });
  },
};

const forget: Command = {
  name: "device forget",
  summary: "forget the exits of earlier channels that the chain shows to be closed",
  help: `That a channel is closed is only the gateway's word, so the device keeps its exit, and opens no further channel while it has three of them. Look at the chain first: lngate device exit --channel N, and lngate owner recover with that file, says whether the channel is closed, and takes what is yours. An exit that is forgotten while the channel is open leaves the money in it to gateway and bridge.

Stop the device first.`,
  options: { ...DEVICE, channel: { value: "N", help: "this channel's and those before it" } },
  async run(given, terminal) {
    const channel = given.number("channel", 1, 0xffffffff);
    if (channel === undefined) throw usage("say up to which channel, with --channel N");
    const { folder } = openOwner(ownerFolder(given));
    const deviceId = chooseDevice(folder, given.text("device"));
    forgetExits(deviceFolder(folder, deviceId), channel);
    terminal.say(`The exits up to channel ${channel} of device ${deviceId} are forgotten.`);
    terminal.result({ deviceId, channel });
  },
};

const freeze: Command = {
  name: "owner freeze",
  summary: "a device is lost or stolen: stop its gateway from signing, and have the channel closed",
  help: `Tells the gateway to co-sign nothing for this device any more, from this moment on and for ever, and to make the bridge close the channel. What the bridge pays goes to a key of your 24 words; \`lngate owner recover\` takes it from there, without any exit.

A thief can take nothing with the device alone: its share of the key is worth nothing without the gateway. What he can do is destroy the channel, with an exit that he has copied before a payment: freeze before he makes one (docs/recovery.md).`,
  options: DEVICE,
  async run(given, terminal) {
    const { folder } = openOwner(ownerFolder(given));
    const deviceId = chooseDevice(folder, given.text("device"));
    const { channel } = await askFreeze({ folder, deviceId });
    terminal.say(`The gateway signs nothing for ${deviceId} any more (channel: ${channel}).`);
    terminal.say(
      "The bridge is told to close it, and called again every minute until it has: `lngate device status` says how far it is.",
    );
    terminal.say("When the bridge's close is in a block: lngate owner recover");
    terminal.result({ deviceId, channel });
  },
};

export const recoverCommands: readonly Command[] = [recover, freeze, exit, forget];
