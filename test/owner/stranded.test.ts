/**
 * A payment in flight that can't be taken back from the device's exit, for the bridge's signature for it is not valid: whoever could
 * still do without that exit is told, by every command that shows one.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { exitCommands } from "../../owner/cli/exit-commands.ts";
import { recoverCommands } from "../../owner/cli/recover-command.ts";
import { watchCommands } from "../../owner/cli/watch-command.ts";
import { createOwner, deviceFolder } from "../../owner/folder/folder.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { type ExitFile, examineExit, readExit, writeExit } from "../../owner/recovery/exit-file.ts";
import { exitsOf, planExits } from "../../owner/recovery/exits.ts";
import { createGuard } from "../../owner/recovery/guard.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, holderBasepoints } from "../../src/channel/device-keys.ts";
import { channelOf, commitmentOf, fundingOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { commitmentFeeSat } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys, derivePrivateKey } from "../../src/lightning/keys.ts";
import { EMPTY_SECRET_STORE } from "../../src/lightning/shachain.ts";
import { runCommandLine } from "../../src/node/command.ts";
import { derived } from "../device/dealer.ts";
import { BRIDGE, FUNDING, HEIGHT, proposalWith } from "../device/parties.ts";
import { bridgePoint } from "../device/peer.ts";
import { Rig } from "../device/rig.ts";
import { pairedKeys } from "./paired-keys.ts";

const REGTEST = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
const home = mkdtempSync(join(tmpdir(), "lngate-stranded-"));
const data = join(home, "owner");
const words = newWords();
createOwner(data, "regtest", words);
const keys = recoveryKeys(words, "regtest");
const { commitmentMaster } = keys.device(FUNDING.point);
const ours = pairedKeys(words, "regtest", FUNDING.point);
const proposal = proposalWith();
const funding = fundingOf(ours, proposal);

/** What the commands say of an exit with 4000 sat that don't come home from it. */
const STRANDED =
  /4000 sat of payments in flight are stranded in the exit of device toll2345: .*not valid.* have the channel closed by the gateway or the bridge instead/;

/** A channel's exit with these payments of ours, sat, and the bridge's; for those in `badlySigned` the bridge's signature is not valid. */
function exitText(
  sent: readonly number[],
  received: readonly number[],
  badlySigned: readonly number[],
  final = true,
) {
  const point = keys.commitmentPoint(FUNDING.point, proposal.index, 3);
  const at = deriveCommitmentKeys(
    nobleCurve,
    point,
    holderBasepoints(ours),
    counterpartyBasepoints(proposal),
  );
  const htlc = (sat: number, incoming: boolean) => ({
    paymentHash: derived(`payment of ${sat}`),
    amountMsat: sat * 1000,
    cltvExpiry: HEIGHT + 80,
    ...(incoming ? { incoming } : {}),
  });
  const htlcs = [...sent.map(sat => htlc(sat, false)), ...received.map(sat => htlc(sat, true))];
  const inFlightSat = [...sent, ...received].reduce((sum, sat) => sum + sat, 0);
  const view = {
    feeratePerKw: 1000,
    counterpartySat: 20_000,
    holderSat: proposal.channelSat - 20_000 - inFlightSat - commitmentFeeSat(1000, htlcs.length) - 660,
    htlcs,
  };
  const commitment = commitmentOf(channelOf(ours, proposal), true, 3, at, view);
  const htlcKey = derivePrivateKey(BRIDGE.htlc.secret, BRIDGE.htlc.point, point);
  const exit = {
    index: proposal.index,
    number: 3,
    point,
    proposal,
    view,
    commitment: new Uint8Array(0),
    ownSignature: nobleCurve.sign(commitment.sighash, FUNDING.secret),
    bridgeSignature: nobleCurve.sign(commitment.sighash, BRIDGE.funding.secret),
    anchor: null,
    anchorSignature: null,
    htlcSignatures: commitment.htlcs.map(({ sighash, valueSat }) =>
      nobleCurve.sign(badlySigned.includes(valueSat) ? derived("something else") : sighash, htlcKey),
    ),
    counterparty: [{ number: 0, point: bridgePoint(0), view }],
    secrets: EMPTY_SECRET_STORE,
    paymentHashes: [],
  };
  const source = { network: "regtest", deviceId: "toll2345", keys: ours, commitmentMaster } as const;
  return writeExit(source, exit, final);
}
const exitOf = (...of: Parameters<typeof exitText>): ExitFile =>
  readExit("exit.json", exitText(...of), () => commitmentMaster);

const file = join(home, "exit.json");
writeFileSync(file, exitText([4000, 3000], [2000], [4000, 2000]));

/** An Esplora server that knows the channel, open; and what was published there. */
const published: string[] = [];
const server = createServer((request, response) => {
  const path = request.url!;
  const json = (value: unknown) => void response.end(JSON.stringify(value));
  const id = shownHash(funding.txid);
  if (request.method === "POST") {
    published.push(path);
    response.end(id);
  } else if (path === "/block-height/0") response.end(REGTEST);
  else if (path === "/blocks/tip/height") response.end(String(HEIGHT));
  else if (path === "/fee-estimates") json({ "6": 2 });
  else if (path.startsWith("/scripthash/")) json([]);
  else if (path === `/tx/${id}`)
    json({
      vout: funding.transaction.outputs.map(({ script, valueSat }) => ({
        scriptpubkey: toHex(script),
        value: valueSat,
      })),
      status: { confirmed: true, block_height: HEIGHT - 10 },
    });
  else if (path === `/tx/${id}/outspend/0`) json({ spent: false });
  else response.writeHead(404).end("not found");
});
let url = "";
beforeAll(async () => {
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(home, { recursive: true });
});

/** What these commands say, and ask, of one who types this. */
async function spoken(argv: readonly string[], typed = "") {
  const [out, err]: [string[], string[]] = [[], []];
  const io = {
    out: (text: string) => out.push(text),
    err: (text: string) => err.push(text),
    interactive: false,
  };
  const commands = [...watchCommands, ...exitCommands, ...recoverCommands];
  const stdin = Object.getOwnPropertyDescriptor(process, "stdin")!;
  Object.defineProperty(process, "stdin", { value: Readable.from([typed]), configurable: true });
  try {
    const code = await runCommandLine(commands, { intro: "", version: "0" }, [...argv], io);
    return { code, out: out.join(""), err: err.join("") };
  } finally {
    Object.defineProperty(process, "stdin", stdin);
  }
}
async function said(...argv: string[]): Promise<string> {
  const { code, out } = await spoken(argv);
  expect(code).toBe(0);
  return out;
}
const jsonSaid = async (...argv: string[]) =>
  (await said(...argv, "--json"))
    .trim()
    .split("\n")
    .map(line => JSON.parse(line) as Record<string, unknown>);

test("what the bridge had offered is its own, whatever it has signed: only payments of ours are stranded", () => {
  const strandedIn = (...of: Parameters<typeof exitText>) =>
    [...examineExit(exitOf(...of)).stranded].map(({ valueSat }) => valueSat);
  expect(strandedIn([4000, 3000], [2000], [])).toEqual([]);
  expect(strandedIn([4000, 3000], [2000], [2000])).toEqual([]);
  expect(strandedIn([4000, 3000], [2000], [4000, 2000])).toEqual([4000]);
});

test("`owner watch` names it when it starts and when it looks, and has the sum in its JSON", async () => {
  const watching = ["owner", "watch", "--data", data, "--exit", file];
  const text = await said(...watching, "--esplora", url, "--once");
  expect(text).toMatch(new RegExp(`is valid: state 3\\.\n.*\n${STRANDED.source}`));
  expect(text).toMatch(new RegExp(`it is open\\.\n${STRANDED.source}`));
  expect(await jsonSaid(...watching, "--esplora", url, "--once")).toEqual([
    expect.objectContaining({ valid: true, inFlightSat: 9000, strandedSat: 4000 }),
    expect.objectContaining({ open: true, strandedSat: 4000, sentences: [expect.stringMatching(STRANDED)] }),
    expect.objectContaining({ ended: true }),
  ]);
});

test("a watcher that runs already names it at the look after it was signed", async () => {
  const chain = { height: async () => HEIGHT, output: async () => ({}) };
  const guard = createGuard({
    chain: chain as never,
    secretsOf: fundingKey => keys.device(fundingKey),
    feeratePerKw: 253,
  });
  const look = async (badlySigned: readonly number[]) => {
    const [sight] = await guard.look([exitOf([4000], [2000], badlySigned, false)]);
    return [sight!.closing, sight!.strandedSat, sight!.sentences];
  };
  expect(await look([2000])).toEqual([null, 0, []]);
  expect(await look([4000])).toEqual([null, 4000, [expect.stringMatching(STRANDED)]]);
});

test("`device exit` names it beside the file, before anything is published", async () => {
  // A board without a curve takes the bridge's signatures at the gateway's word.
  const rig = new Rig({ curve: null }).open();
  rig.pay("toll", 4000);
  const view = rig.view(0, [rig.htlc("toll", 4000)]);
  rig.step({ counterparty: rig.counterparty(view) });
  const holder = rig.holder(view);
  expect(rig.step({ holder: { ...holder, htlcSignatures: [holder.signature] } }).refused).toBeUndefined();
  const folder = deviceFolder(data, "toll2345");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(join(folder, "device.json"), "{}");
  writeFileSync(join(folder, "flash.bin"), rig.box.flash.image());
  const leaving = [
    "device",
    "exit",
    "--data",
    data,
    "--device",
    "toll2345",
    "--out",
    join(home, "left.json"),
  ];
  expect(await said(...leaving)).toMatch(new RegExp(`${STRANDED.source}.*\nNext: `));
  expect(await jsonSaid(...leaving)).toEqual([expect.objectContaining({ state: 1, strandedSat: 4000 })]);
  rmSync(folder, { recursive: true });
});

test("`owner recover` names it before it publishes that exit, and asks", async () => {
  const recovering = [
    "owner",
    "recover",
    "--data",
    data,
    "--network",
    "regtest",
    "--esplora",
    url,
    "--gap",
    "1",
  ];
  const text = await spoken([...recovering, "--exit", file], `${words}\nno\n`);
  expect(text.out).toMatch(
    new RegExp(`will be published\\.[^]*Note: ${STRANDED.source}[^]*Nothing was published\\.`),
  );
  expect(text.err).toContain("Do it? Type yes");
  expect(published).toEqual([]);
  const json = await spoken([...recovering, "--exit", file, "--json"], `${words}\nno\n`);
  expect(JSON.parse(json.out)).toMatchObject({
    exits: [{ action: "publish", strandedSat: 4000 }],
    remarks: [expect.stringMatching(STRANDED)],
    published: [],
  });
  expect(published).toEqual([]);
  await spoken([...recovering, "--exit", file, "--yes"], `${words}\n`);
  expect(published).toEqual(["/tx"]);
});

test("`owner recover` names it of an exit that a device keeps; once published, without what is too late", async () => {
  const remarksOn = async (confirmation: "unknown" | "waiting", isGiven: boolean) => {
    const remarks: string[] = [];
    const chain = { confirmation: async () => confirmation, output: async () => ({}) };
    const exits = [exitOf([4000], [], [4000])];
    const options = { chain, keys, ...(isGiven ? { exits } : { exits: [], kept: exits }) };
    const { given, kept } = exitsOf(options as never, remarks);
    const run = { options, height: HEIGHT, feeratePerKw: 253, isEstimate: true, remarks };
    await planExits(run as never, given, kept);
    return remarks;
  };
  expect(await remarksOn("unknown", true)).toEqual([expect.stringMatching(STRANDED)]);
  expect(await remarksOn("unknown", false)).toEqual([
    expect.stringContaining("is open on the chain"),
    expect.stringMatching(STRANDED),
  ]);
  for (const isGiven of [true, false])
    expect(await remarksOn("waiting", isGiven)).toEqual([
      expect.stringMatching(/^4000 sat .* stranded .* can't be taken back from it$/),
    ]);
});
