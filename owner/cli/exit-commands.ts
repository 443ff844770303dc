/** `lngate owner freeze`, `device exit` and `device forget`: leaving a channel without the gateway's help, or without the device. */
import { join } from "node:path";
import { type Command, usage } from "../../src/node/command.ts";
import { writeFileAtomic } from "../../src/node/files.ts";
import { askFreeze, OUTDATED } from "../client/channel.ts";
import { chooseDevice, deviceFolder, openOwner } from "../folder/folder.ts";
import { ensurePublishable, strandedSatOf, strandedSentences, writeExit } from "../recovery/exit-file.ts";
import { forgetExits, takeExitFromImage, takeExitFromText, takeExitOut } from "../recovery/held-exits.ts";
import { readText } from "./input.ts";
import { DEVICE, ownerFolder, target } from "./target.ts";

const freeze: Command = {
  name: "owner freeze",
  summary: "a device is lost or stolen: stop its gateway from signing, and have the channel closed",
  help: `Tells the gateway to co-sign nothing for this device any more, from this moment on and for ever, and to make the bridge close the channel. What the bridge pays goes to a key of your 24 words; \`lngate owner recover\` takes it from there, without any exit.

A thief can take nothing with the device alone: its share of the key is worth nothing without the gateway. What he can do is destroy the channel, with an exit that he has copied before a payment: freeze before he makes one (docs/recovery.md).

It also asks the gateway for all that finds the money of the device's channels if the device is gone, and keeps that in channel.json.`,
  options: DEVICE,
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const { channel, gatewayOutdated } = await askFreeze({ folder, deviceId });
    terminal.say(`The gateway signs nothing for ${deviceId} any more (channel: ${channel}).`);
    terminal.say(
      "The bridge is told to close it, and called again every minute until it has: `lngate device status` says how far it is.",
    );
    terminal.say("When the bridge's close is in a block: lngate owner recover");
    if (gatewayOutdated) terminal.note(OUTDATED);
    terminal.result({ deviceId, channel, ...(gatewayOutdated ? { gatewayOutdated } : {}) });
  },
};

const exit: Command = {
  name: "device exit",
  summary: "read the last state out of a device, to leave its channel without the gateway",
  help: `Writes the device's exit, its last completely signed state, into a file, and ends the channel's life on the device: nothing is signed or revoked afterwards, so that this exit stays the last. lngate owner recover publishes it.

Do this when the gateway is gone, or refuses to close. If it works, lngate device close is cheaper and at once. Where the exit can't bring every payment in flight home, this command says so: have the bridge close then (lngate owner freeze). Stop the device first. The same command gives the same file again.

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
    const checked = ensurePublishable(source, taken);
    terminal.say(
      `State ${taken.number} of channel ${taken.index} of device ${deviceId} is in ${file}; the device signs nothing more of that channel.`,
    );
    for (const sentence of strandedSentences(checked)) terminal.say(`${sentence}.`);
    terminal.say(`Next: lngate owner recover --exit ${file}`);
    terminal.result({
      deviceId,
      file,
      channel: taken.index,
      state: taken.number,
      strandedSat: strandedSatOf(checked),
    });
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
    const { folder, deviceId } = target(given);
    forgetExits(deviceFolder(folder, deviceId), channel);
    terminal.say(`The exits up to channel ${channel} of device ${deviceId} are forgotten.`);
    terminal.result({ deviceId, channel });
  },
};

/** Ways out of a channel, in the order in which they are listed. */
export const exitCommands: readonly Command[] = [freeze, exit, forget];
