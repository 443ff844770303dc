/**
 * How channels end: the world of test/e2e, an owner whose words are known, and books that are kept by the chain alone.
 * Whatever the programs say, what counts is which outputs the owner can spend at the end, and who got the rest.
 */
import { join } from "node:path";
import { open } from "lmdb";
import type { Receipt } from "../../device/api.ts";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import { createLog } from "../../gateway/log.ts";
import { bitcoindChain } from "../../owner/chain/bitcoind.ts";
import { type ExitFile, readExit, writeExit } from "../../owner/recovery/exit-file.ts";
import { type FeeCoin, feeCoin } from "../../owner/recovery/fee-coin.ts";
import type { HeldExit } from "../../owner/recovery/held-exits.ts";
import { takeExitOut } from "../../owner/recovery/held-exits.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import type { RecoveryOptions } from "../../owner/recovery/options.ts";
import { carryOut, isUnfinished, planRecovery, type RecoveryPlan } from "../../owner/recovery/recover.ts";
import { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { OWNER_WORDS } from "../e2e/made-devices.ts";
import { type AnyWorld, type Car, type DeviceOptions, World } from "../e2e/world.ts";

export const NETWORK = "regtest";
/** What the bridge takes for forwarding: LDK's default. */
const BRIDGE_FEE_MSAT = 1000;

export interface Scene<W extends AnyWorld = World> {
  readonly world: W;
  readonly words: string;
  readonly cars: Car[];
}

/** A world with a running gateway, and an owner whose words the test knows. */
export async function startScene(options: Parameters<typeof World.start>[0] = {}): Promise<Scene> {
  const world = await World.start(options);
  await world.startGateway();
  return { world, words: OWNER_WORDS, cars: [] };
}

/** Ends everything, also what a failed test has left running. */
export async function stopScene(scene: Scene<AnyWorld> | undefined): Promise<void> {
  for (const car of scene?.cars ?? []) car.stop();
  await scene?.world.stop().catch(() => {});
}

/** A car with an open channel. */
export async function carOf(
  scene: Scene<AnyWorld>,
  name: string,
  depositSat: number,
  options?: DeviceOptions,
): Promise<Car> {
  return tracked(scene, await scene.world.makeCar(name, depositSat, options));
}

/** The car is ended with the scene, if the test has not done it. */
export function tracked({ cars }: Scene<AnyWorld>, car: Car): Car {
  let running = true;
  const stop = () => {
    if (running) car.stop();
    running = false;
  };
  const kept = { ...car, stop };
  cars.push(kept);
  return kept;
}

/** The device's exit as the file that `lngate device exit` writes, read as `lngate owner recover` does. */
export function exitOf({ world, words }: Scene<AnyWorld>, deviceId: string): ExitFile {
  return sealed(words, takeExitOut(world.folderOf(deviceId)), true);
}

export function sealed(words: string, { source, exit }: HeldExit, final: boolean): ExitFile {
  const keys = recoveryKeys(words, NETWORK);
  const text = writeExit(source, exit, final);
  return readExit("exit.json", text, fundingKey => keys.device(fundingKey).commitmentMaster);
}

type Recovery = Partial<Omit<RecoveryOptions, "keys" | "chain">>;

/** What `lngate owner recover` would do now. */
export async function look({ world, words }: Scene<AnyWorld>, options: Recovery = {}): Promise<RecoveryPlan> {
  const chain = bitcoindChain(world.bitcoind.rpcOptions);
  try {
    return await planRecovery({
      keys: recoveryKeys(words, NETWORK),
      chain,
      exits: [],
      deposits: [],
      gap: 20,
      feeratePerKw: 500,
      ...options,
    });
  } finally {
    chain.close();
  }
}

/** `lngate owner recover`, given again and again as blocks go by, until nothing is left to do; the txids. */
export async function recoverAll(scene: Scene<AnyWorld>, options: Recovery = {}): Promise<string[]> {
  const { bitcoind } = scene.world;
  const chain = bitcoindChain(bitcoind.rpcOptions);
  const published: string[] = [];
  try {
    for (let round = 0; round < 20; round++) {
      const plan = await look(scene, options);
      for (const txid of await carryOut(chain, plan)) published.push(toHex(txid.slice().reverse()));
      if (!isUnfinished(plan)) return published;
      const { height } = plan;
      const next = plan.waiting.flatMap(({ atHeight }) => (atHeight === null ? [] : [atHeight]));
      await bitcoind.mine(next.length > 0 ? Math.max(1, Math.min(...next) - height - 1) : 1);
    }
  } finally {
    chain.close();
  }
  throw new Error("recovery comes to no end");
}

interface Decoded {
  readonly vin: readonly { readonly txid: string; readonly vout: number }[];
  readonly vout: readonly { readonly value: number; readonly scriptPubKey: { readonly hex: string } }[];
}

export class Ledger {
  private readonly world: AnyWorld;
  private readonly transactions = new Map<string, Decoded>();

  constructor(world: AnyWorld) {
    this.world = world;
  }

  /** A transaction of the chain or the mempool, found without an index. */
  async transaction(txid: string): Promise<Decoded> {
    let known = this.transactions.get(txid);
    if (!known) {
      known = await this.world.bitcoind
        .rpc<Decoded>("getrawtransaction", [txid, true])
        .catch(async () =>
          this.world.bitcoind.rpc<Decoded>("getrawtransaction", [txid, true, await this.blockOf(txid)]),
        );
      this.transactions.set(txid, known);
    }
    return known;
  }

  async blockOf(txid: string): Promise<string> {
    const { bitcoind } = this.world;
    let hash = await bitcoind.rpc<string>("getbestblockhash");
    for (let i = 0; i < 3000; i++) {
      const block = await bitcoind.rpc<{ tx: string[]; previousblockhash?: string }>("getblock", [hash]);
      if (block.tx.includes(txid)) return hash;
      if (!block.previousblockhash) break;
      hash = block.previousblockhash;
    }
    throw new Error(`the transaction ${txid} is in no block`);
  }

  /** What miners got for it. */
  async feeOf(txid: string): Promise<number> {
    const { vin, vout } = await this.transaction(txid);
    let sat = 0;
    for (const { txid: from, vout: index } of vin)
      sat += satOf((await this.transaction(from)).vout[index]!.value);
    for (const { value } of vout) sat -= satOf(value);
    return sat;
  }

  async valueOf(txid: string, vout: number): Promise<number> {
    return satOf((await this.transaction(txid)).vout[vout]!.value);
  }

  /** The transaction in a block that spends this output; undefined if there is none. */
  async spenderOf(txid: string, vout: number): Promise<string | undefined> {
    const { bitcoind } = this.world;
    let hash = await bitcoind.rpc<string>("getbestblockhash");
    for (let i = 0; i < 3000; i++) {
      const block = await bitcoind.rpc<{
        tx: (Decoded & { txid: string })[];
        previousblockhash?: string;
      }>("getblock", [hash, 2]);
      for (const each of block.tx) {
        if (each.vin.some(input => input.txid === txid && input.vout === vout)) return each.txid;
      }
      if (!block.previousblockhash) break;
      hash = block.previousblockhash;
    }
    return undefined;
  }

  /** Sum of the unspent, mined outputs of these scripts (hex). */
  async unspentSat(scripts: readonly string[]): Promise<number> {
    const { total_amount } = await this.world.bitcoind.rpc<{ total_amount: number }>("scantxoutset", [
      "start",
      scripts.map(script => `raw(${script})`),
    ]);
    return satOf(total_amount);
  }
}

function satOf(bitcoin: number): number {
  return Math.round(bitcoin * 1e8);
}

/** Where the owner's money of a device ends up: the ordinary address of the words. */
export function homeScript({ world }: Scene<AnyWorld>, deviceId: string): string {
  return world.closeScript(deviceId);
}

/**
 * The bridge cheats: an LDK from an old copy of its folder, which nobody is connected to, closes with what it knows. To be
 * stopped by the test.
 */
export async function cheatFrom({ world }: Scene, copy: string, funding: string): Promise<PlainPeer> {
  const environment = open({ path: join(copy, "store") });
  const rows = openNodeStore(environment.openDB({ name: "lightning", encoding: "binary" }), "node");
  await rows.write(new Map([...rows.keys("own/contact/"), "own/port"].map(key => [key, null])));
  await environment.close();
  const thief = await PlainPeer.start({
    dataDir: copy,
    network: NETWORK,
    rpc: world.bitcoind.rpcOptions,
    wallet: "regtest",
    port: 0,
    log: createLog("error", () => {}),
  });
  const channel = thief.channels().find(each => each.funding === `${funding}:0`)!;
  thief.close(channel.channelId, true);
  return thief;
}

/** Pays a number of tolls; what left the channel, msat. */
export async function payTolls({ world }: Scene, car: Car, amountsMsat: readonly number[]): Promise<number> {
  let paidMsat = 0;
  for (const amountMsat of amountsMsat) {
    paidMsat += spentMsat(await car.device.pay(world.toll.invoice(amountMsat), { maxFeeMsat: 5_000 }));
  }
  return paidMsat;
}

/** What a payment has taken. The receipt of one that no output shows says the most that it can have been. */
export function spentMsat({ amountMsat, feeMsat }: Receipt): number {
  return amountMsat + Math.min(feeMsat, BRIDGE_FEE_MSAT);
}

/** A payment too small for an output leaves no trace in the commitments: that nothing is said any more tells. */
export async function untilSilent({ board }: Car): Promise<void> {
  for (let quiet = 0, before = ""; quiet < 15; ) {
    const now = JSON.stringify(board.traffic);
    quiet = now === before ? quiet + 1 : 0;
    before = now;
    await new Promise(resolve => setTimeout(resolve, 30));
  }
}

export interface ChannelSummary {
  readonly closes: readonly string[];
  readonly homeSat: number;
  readonly bridgeSat: number;
  readonly anchorsSat: number;
  readonly feesSat: { readonly [what: string]: number };
}

/**
 * A device's money from the deposit to the end, read from the chain: what came home, what the bridge has, what miners
 * took. They always add up to the deposit; a test says what each has to be. `fundings`: of all the device's channels.
 */
export async function booksOf(
  scene: Scene<AnyWorld>,
  deviceId: string,
  ...fundings: string[]
): Promise<ChannelSummary> {
  const { bitcoind } = scene.world;
  const ledger = new Ledger(scene.world);
  const home = homeScript(scene, deviceId);
  const { unspents } = await bitcoind.rpc<{
    unspents: { txid: string; amount: number }[];
  }>("scantxoutset", ["start", [`raw(${home})`]]);
  const closes: string[] = [];
  const feesSat: { [what: string]: number } = {};
  const note = async (what: string, txid: string) => {
    const times = Object.keys(feesSat).filter(each => each.startsWith(what)).length;
    feesSat[what === "collecting" || times > 0 ? `${what} ${times + 1}` : what] = await ledger.feeOf(txid);
  };
  for (const funding of fundings) {
    const close = await ledger.spenderOf(funding, 0);
    if (!close) throw new Error("the channel is not closed");
    closes.push(close);
    await note("funding", funding);
    await note("close", close);
  }
  const collected = new Set<string>();
  for (const txid of new Set(unspents.map(each => each.txid))) {
    if (closes.includes(txid)) continue;
    await note("collecting", txid);
    for (const { txid: from, vout } of (await ledger.transaction(txid)).vin) collected.add(`${from}:${vout}`);
  }
  let anchorsSat = 0;
  let bridgeSat = 0;
  for (const close of closes) {
    for (const [vout, { value, scriptPubKey }] of (await ledger.transaction(close)).vout.entries()) {
      if (satOf(value) === 330) anchorsSat += 330;
      else if (scriptPubKey.hex !== home && !collected.has(`${close}:${vout}`)) bridgeSat += satOf(value);
    }
  }
  const homeSat = unspents.reduce((sum, { amount }) => sum + satOf(amount), 0);
  return { closes, homeSat, bridgeSat, anchorsSat, feesSat };
}

/** ChannelSummary as a line for whoever runs the tests, and what is left over: must be 0. */
export function told(what: string, depositSat: number, books: ChannelSummary): number {
  const { homeSat, bridgeSat, anchorsSat, feesSat } = books;
  const fees = Object.entries(feesSat)
    .map(([name, sat]) => `${sat} ${name} fee`)
    .join(" + ");
  process.stdout.write(
    `${what}: ${depositSat} sat = ${homeSat} home + ${bridgeSat} bridge + ${anchorsSat} anchors + ${fees}\n`,
  );
  const spent = Object.values(feesSat).reduce((sum, sat) => sum + sat, 0);
  return depositSat - homeSat - bridgeSat - anchorsSat - spent;
}

/** A coin of the owner's words (a change address), mined. */
export async function coinOf({ world, words }: Scene<AnyWorld>, sat: number): Promise<FeeCoin> {
  const keys = recoveryKeys(words, NETWORK);
  const script = toHex(keys.wallet(3, true).script);
  const txid = await world.bitcoind.fund(script, sat);
  await world.bitcoind.mine(1);
  const { vout } = await new Ledger(world).transaction(txid);
  const n = vout.findIndex(({ scriptPubKey }) => scriptPubKey.hex === script);
  const chain = bitcoindChain(world.bitcoind.rpcOptions);
  try {
    return await feeCoin({ keys, chain, gap: 20 }, `${txid}:${n}`);
  } finally {
    chain.close();
  }
}

/** Where the change of such a coin goes, hex. */
export function changeScript({ words }: Scene<AnyWorld>): string {
  return toHex(recoveryKeys(words, NETWORK).wallet(0, true).script);
}
