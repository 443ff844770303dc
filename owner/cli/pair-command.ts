/** `lngate device pair`: the key that device and gateway share, and everything else that a device needs. */
import { DEFAULT_POLICY, type SpendingPolicy } from "../../device/identity.ts";
import { MAX_RATE_PPM, type ServiceFee, serviceFeeText } from "../../src/channel/service-fee.ts";
import { type Command, usage } from "../../src/node/command.ts";
import { boards } from "../board/boards.ts";
import { DEFAULT_DEPOSIT_DELAY, DEFAULT_MAX_SERVICE_FEE, pairDevice } from "../client/pair.ts";
import { deviceFolder, openOwner } from "../folder/folder.ts";
import { boardOf } from "./board-commands.ts";
import { CHAIN, heightOf } from "./chain-options.ts";
import { limitsOf } from "./limits-command.ts";
import { DATA, ownerFolder } from "./target.ts";

/** `lngate device pair`. */
export const pair: Command = {
  name: "device pair",
  summary: "pair a device with the gateway that gave you a code",
  help: `Makes the key that device and gateway share, so that each has half of it, and everything else that the device needs. It takes some seconds. If it is interrupted, give the same command again.

The device is written to a file, flash.bin in its folder below the owner's, which \`lngate device run\` runs on this computer. Copy backup.json of that folder to a safe place: with your 24 words it is enough to recover the money, and it is as secret as they are.

The limits are what the device will spend on its own, all fees included. They can't be changed from afar, only here with lngate device limits, and the gateway is told them too, so that they hold for a device that was stolen and changed; nor can what the gateway takes for its service, which is shown before anything is agreed on.

Name a bitcoind or an Esplora server of your own, if you have one: the device reckons from the chain's height how long a payment may be locked, and without one it is the gateway's word, checked against the clock.`,
  positionals: [{ name: "CODE", help: "the pairing code; spaces don't matter", rest: true }],
  options: {
    ...DATA,
    "max-payment": {
      value: "SAT",
      help: `most per payment (default: ${DEFAULT_POLICY.perPaymentMsat / 1000})`,
    },
    "max-hour": { value: "SAT", help: `most per hour (default: ${DEFAULT_POLICY.perHourMsat / 1000})` },
    "max-day": { value: "SAT", help: `most per day (default: ${DEFAULT_POLICY.perDayMsat / 1000})` },
    payee: { value: "IDS", help: "node ids that it may pay, separated by commas (default: anybody)" },
    ...CHAIN,
    "deposit-delay": {
      value: "BLOCKS",
      help: `after how many blocks you alone may take a deposit back (default: ${DEFAULT_DEPOSIT_DELAY}, a week)`,
    },
    "max-service-fee": {
      value: "PERCENT",
      help: `most that the gateway may take of each payment (default: ${DEFAULT_MAX_SERVICE_FEE.ratePpm / 10_000})`,
    },
    "max-service-fee-base": {
      value: "MSAT",
      help: `most that it may take for each payment besides (default: ${DEFAULT_MAX_SERVICE_FEE.baseMsat})`,
    },
    board: { value: "NAME", help: "the board that it is for: as large a flash.bin as there is room on it" },
    "flash-pages": { value: "N", help: "size of flash.bin in pages of 4 KiB (default: 256)" },
  },
  async run(given, terminal) {
    const folder = ownerFolder(given);
    const policy = limitsOf(given);
    const { network } = openOwner(folder);
    const depositDelay = given.number("deposit-delay", 1, 65535);
    const board = boardOf(given);
    const flashPages =
      given.number("flash-pages", 16, 65536) ?? (board === undefined ? undefined : boards[board].vaultPages);
    ensureCurveFor(policy, board !== undefined && !boards[board].hasCurve);
    const percent = given.text("max-service-fee");
    const ratePpm =
      percent === undefined ? undefined : Math.round(Number(percent.replace(/ ?%$/, "")) * 10_000);
    if (ratePpm !== undefined && !(ratePpm >= 0 && ratePpm <= MAX_RATE_PPM))
      throw usage(`--max-service-fee must be a percentage from 0 to ${MAX_RATE_PPM / 10_000}`);
    const baseMsat = given.number("max-service-fee-base", 0, 1e9);
    let serviceFee: ServiceFee | undefined;
    const steps = {
      connecting: "connecting to the gateway …",
      keys: "making the shared key …",
      transfers: "preparing for presignatures (some seconds) …",
      storing: "writing everything down …",
    };
    const height = await heightOf(given, network, terminal.note);
    const info = await pairDevice({
      folder,
      ...(height === undefined ? {} : { height }),
      code: given.text("CODE")!,
      policy,
      ...(depositDelay === undefined ? {} : { depositDelay }),
      ...(flashPages === undefined ? {} : { flashPages }),
      maxServiceFee: {
        ...(ratePpm === undefined ? {} : { ratePpm }),
        ...(baseMsat === undefined ? {} : { baseMsat }),
      },
      onServiceFee(terms) {
        serviceFee = terms;
        terminal.say(
          terms
            ? `The gateway takes ${serviceFeeText(terms)} of each payment that arrives. The device pays it whenever ${terms.settleFromMsat / 1000} sat are due; one that owes ${terms.creditMsat / 1000} sat and does not pay makes no further payments.`
            : "The gateway takes nothing for its service.",
        );
      },
      onStep: step => terminal.progress(steps[step]),
    });
    const path = deviceFolder(folder, info.deviceId);
    terminal.say(`"${info.name}" is paired: device ${info.deviceId}, in ${path}.`);
    terminal.say("Copy backup.json from there to a safe place.");
    terminal.say("Next: lngate device charge, then lngate device fund.");
    terminal.result({
      deviceId: info.deviceId,
      name: info.name,
      folder: path,
      network: info.network,
      serviceFee: serviceFee ?? null,
    });
  },
};

function ensureCurveFor({ payees }: Partial<SpendingPolicy>, isCurveless: boolean): void {
  if (isCurveless && payees !== undefined && payees.length > 0)
    throw usage(
      "a board without a curve can't check who has signed an invoice: with a list of payees it would pay nobody",
    );
}
