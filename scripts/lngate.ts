#!/usr/bin/env node
/** The program `lngate`: for the operator of a gateway and for owners of devices. */
import { isatty } from "node:tty";
import { gatewayCommands } from "../gateway/cli/gateway-commands.ts";
import { deviceCommands } from "../owner/cli/device-commands.ts";
import { exitCommands } from "../owner/cli/exit-commands.ts";
import { ownerCommands } from "../owner/cli/owner-commands.ts";
import { recoverCommands } from "../owner/cli/recover-command.ts";
import { watchCommands } from "../owner/cli/watch-command.ts";
import { version } from "../package.json";
import { described, runCommandLine } from "../src/node/command.ts";
import { writeText } from "../src/node/streams.ts";

const ABOUT = {
  intro:
    "LNGate: Lightning payments for microcontrollers. The device holds half of its channel's key, the gateway runs the node; " +
    "a hacked gateway alone moves nothing, and a stolen device spends no more than its owner's limits.",
  version,
  groups: {
    gateway: "What the operator of a gateway does.",
    owner: "The owner's keys, and the way home for the money.",
    device: "What an owner does with a device.",
  },
};

// What fails outside of the command's own course ends it just the same.
process.on("uncaughtException", error => {
  writeText(2, `${described(error)}\n`);
  process.exit(1);
});

process.exitCode = await runCommandLine(
  [
    ...gatewayCommands,
    ...ownerCommands,
    ...deviceCommands,
    ...recoverCommands,
    ...exitCommands,
    ...watchCommands,
  ],
  ABOUT,
  process.argv.slice(2),
  {
    out: text => void writeText(1, text),
    err: text => void writeText(2, text),
    interactive: isatty(2),
  },
);
