/**
 * The gateway as far as owners' computers see it, without Lightning: broker, links, registry, records and owner
 * service, all real, over TCP. What only the channel knows is given by the test, which may also stand between the
 * two: lose a question or an answer with its connection, or change it.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GatewayLinks } from "../../gateway/link/links.ts";
import { createLog } from "../../gateway/log.ts";
import type { DeviceStatus } from "../../gateway/owner/api.ts";
import { type Ceremonies, openCeremonies } from "../../gateway/owner/ceremonies.ts";
import { OwnerService } from "../../gateway/owner/service.ts";
import { type DiskRecordStore, openRecordStore } from "../../gateway/store/presignature-journal.ts";
import { openRegistry, openStore, type Registry } from "../../gateway/store/registry.ts";
import { createOwner } from "../../owner/folder/folder.ts";
import { reservePort } from "../../scripts/ports.ts";
import { scriptAddress } from "../../src/bitcoin/address.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { Fragments, inFragments } from "../../src/messages/fragments.ts";
import {
  type FromOwner,
  fromOwner,
  type ToldChannel,
  type ToOwner,
  toOwner,
} from "../../src/messages/owner.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { encodePairingCode } from "../../src/pairing/code.ts";

export const WORDS = `${"abandon ".repeat(23)}art`;

/** What happens to a message on its way: "cut" loses it together with the connection. */
type OnTheWay<M> = (message: M) => M | "cut";

export interface GatewayHalf {
  readonly folder: string;
  readonly port: number;
  readonly registry: Registry;
  readonly log: string[];
  /** What the channel's part of the gateway would say. */
  status: DeviceStatus;
  channels: readonly ToldChannel[];
  readonly closed: string[];
  readonly locked: string[];
  question: OnTheWay<FromOwner>;
  answer: OnTheWay<ToOwner>;
  /** Seconds that the gateway's clock is ahead. */
  ahead: number;
  /** What devices that are paired now pay for the service. */
  serviceFee: ServiceFee | undefined;
  /** Nothing stands between the two any more, and its clock is right. */
  behave(): void;
  records(deviceId: string): DiskRecordStore;
  /** A code for a new device, as text. */
  invite(name?: string, lifetimeSeconds?: number): string;
  /** Ends, and removes its folder unless it is to be kept. */
  stop(options?: { keep?: boolean }): Promise<void>;
  /** Ends and starts again on the same folder and port. */
  restart(): Promise<void>;
}

export async function startGatewayHalf(network: "regtest" | "mainnet" = "regtest"): Promise<GatewayHalf> {
  const folder = mkdtempSync(join(tmpdir(), "lngate-half-"));
  const now = () => Math.floor(Date.now() / 1000) + half.ahead;
  const recordStores = new Map<string, DiskRecordStore>();
  let ceremonies: Ceremonies;
  let links: GatewayLinks;
  let store: ReturnType<typeof openStore>;
  let registry: Registry;
  const port = await reservePort();

  const half: GatewayHalf = {
    folder,
    port,
    get registry() {
      return registry;
    },
    log: [],
    status: {
      online: false,
      rolledBack: false,
      stuck: false,
      channel: "none",
      depositSat: 0,
      depositUnconfirmedSat: 0,
      time: 1_700_000_000,
      blockTime: 1_700_000_000,
    },
    channels: [],
    closed: [],
    locked: [],
    question: question => question,
    answer: answer => answer,
    ahead: 0,
    serviceFee: undefined,
    behave() {
      half.question = question => question;
      half.answer = answer => answer;
      half.ahead = 0;
      half.serviceFee = undefined;
    },
    records(deviceId) {
      let records = recordStores.get(deviceId);
      if (!records) {
        const { share } = registry.device(deviceId).pairing!;
        records = openRecordStore(join(folder, "records", deviceId), share.sid, share.epoch);
        recordStores.set(deviceId, records);
      }
      return records;
    },
    invite(name = "car", lifetimeSeconds = 3600) {
      const { deviceId, secret } = registry.invite(name, lifetimeSeconds, nodeLinkCrypto.random);
      return encodePairingCode({ deviceId, secret, host: "127.0.0.1", port });
    },
    async stop({ keep = false } = {}) {
      await end();
      if (!keep) rmSync(folder, { recursive: true, force: true });
    },
    async restart() {
      await end();
      await start();
    },
  };

  async function end(): Promise<void> {
    await links.close();
    await ceremonies.close();
    for (const records of recordStores.values()) records.close();
    recordStores.clear();
    await store.close();
  }

  async function start(): Promise<void> {
    const questions = new Map<string, Fragments>();
    const answers = new Map<string, Fragments>();
    const piecesOf = (map: Map<string, Fragments>, identity: string) => {
      if (!map.has(identity)) map.set(identity, new Fragments());
      return map.get(identity)!;
    };
    store = openStore(folder);
    registry = openRegistry(store, now);
    ceremonies = openCeremonies();
    const service = new OwnerService({
      registry,
      ceremonies,
      network,
      get serviceFee() {
        return half.serviceFee;
      },
      now,
      log: createLog("debug", line => half.log.push(line)),
      blockHeight: async () => 101,
      records: id => half.records(id),
      send(identity, piece) {
        const whole = piecesOf(answers, identity).add(piece);
        if (!whole) return;
        const answer = half.answer(toOwner.decode(whole));
        if (answer === "cut") links.forget(identity);
        else for (const part of inFragments(toOwner.encode(answer))) links.send(identity, part);
      },
      locked: id => void half.locked.push(id),
      api: {
        status: async () => half.status,
        depositAddress: async id => ({
          address: scriptAddress(p2wsh(depositScriptOf(registry.device(id).pairing!.keys)), network),
          minimumSat: 20_000,
          confirmations: 1,
        }),
        close: async id => {
          half.closed.push(id);
          return { channel: "closing" };
        },
        freeze: async () => ({ channel: "closing" }),
        channels: async () => half.channels,
      },
    });
    links = await GatewayLinks.open({
      mqtt: { kind: "embedded", host: "127.0.0.1", port },
      account: identity => registry.account(identity),
      identities: () => registry.identities(),
      onMessage(identity, piece) {
        let question: FromOwner | "cut" | undefined;
        try {
          const whole = piecesOf(questions, identity).add(piece);
          question = whole && half.question(fromOwner.decode(whole));
        } catch {
          // Nonsense, for the service to refuse: given on as it came, with an empty beginning.
          service.onMessage(identity, piece);
          return;
        }
        if (question === "cut") links.forget(identity);
        else if (question)
          for (const part of inFragments(fromOwner.encode(question))) service.onMessage(identity, part);
      },
      onSession(identity, state) {
        piecesOf(questions, identity).clear();
        service.onSession(identity, state);
      },
      onRefused: (code, subject) => half.log.push(`refused ${code} ${subject}`),
    });
  }

  await start();
  return half;
}

/** An owner's folder, made of WORDS. */
export function newOwner(): string {
  const folder = mkdtempSync(join(tmpdir(), "lngate-owner-"));
  createOwner(folder, "regtest", WORDS);
  return folder;
}

/** Cuts the connection at the first message of this description, once. */
export function cutOnce<M extends { type: string }>(matches: (message: M) => boolean): OnTheWay<M> {
  let cut = false;
  return message => {
    if (cut || !matches(message)) return message;
    cut = true;
    return "cut";
  };
}
