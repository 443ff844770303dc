import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { askClose, askDeposit, askFreeze, askStatus, depositAddress } from "../../owner/client/channel.ts";
import { type ChargeProgress, recordsInFlash } from "../../owner/client/charge.ts";
import { paymentsFor, recordsFor } from "../../owner/client/records-needed.ts";
import { type DeviceInfo, readChargingState, readHeldChannels } from "../../owner/folder/device-files.ts";
import { CHANNEL_FILE, deviceFolder } from "../../owner/folder/folder.ts";
import { concat } from "../../src/bytes/bytes.ts";
import { Fragments, OWNER_MAX_MESSAGE_BYTES } from "../../src/messages/fragments.ts";
import { type FromOwner, fromOwner, type ToOwner, toOwner } from "../../src/messages/owner.ts";
import { openLink } from "../../src/node/link.ts";
import { FUNDING, proposalWith } from "../device/parties.ts";
import { Charged } from "./charged.ts";
import { cutOnce, type GatewayHalf } from "./gateway-half.ts";

let charged: Charged;
let gateway: GatewayHalf;
let folder: string;
let info: DeviceInfo;
let path: string;

beforeAll(async () => {
  charged = await Charged.start();
  ({ gateway, folder, info, path } = charged);
});
afterEach(() => gateway.behave());
afterAll(() => charged.stop());

const refusal = (code: string) => expect.objectContaining({ code });
/** Its last character is another one. */
const mistyped = (address: string) => address.slice(0, -1) + (address.endsWith("q") ? "p" : "q");

/** The id of the first record that an S0 names. */
function idIn(s0: Uint8Array): number {
  return new DataView(s0.buffer, s0.byteOffset).getUint32(36);
}

function withId(s0: Uint8Array, id: number): Uint8Array {
  const changed = s0.slice();
  new DataView(changed.buffer).setUint32(36, id);
  return changed;
}

describe("charging", () => {
  test("fills the flash with records of which the gateway has the other halves", async () => {
    const steps: ChargeProgress[] = [];
    const result = await charged.charge(2, { onProgress: step => steps.push(step) });
    expect(result).toMatchObject({ payments: 2, interrupted: false, records: { A: 24, B: 28, H: 8 } });
    expect(steps[0]).toMatchObject({ made: 0, total: 52, target: 2, payments: 0 });
    expect(steps[steps.length - 1]).toMatchObject({ made: 52, total: 52, payments: 2 });
    expect([...charged.inFlash("A").keys()]).toEqual(charged.onGateway("A"));
    expect([...charged.inFlash("B").keys()]).toEqual(charged.onGateway("B"));
    expect(charged.inFlash("H").size).toBe(8);
    // A device that is charged enough is left alone.
    expect(await charged.charge(2)).toMatchObject({ payments: 2, added: { A: 0, B: 0, H: 0 } });
  });

  test("counts what a payment needs, and keeps the reserve out of it", () => {
    for (const payments of [1, 7, 1000]) expect(paymentsFor(recordsFor(payments))).toBe(payments);
    expect(paymentsFor(recordsFor(0))).toBe(0);
    expect(paymentsFor({ ...recordsFor(9), B: 0 })).toBe(0);
  });

  test("every pair of records signs under the shared key, in both directions", () => {
    charged.expectAllToSign();
  });
});

describe("ids of records that were begun with", () => {
  test("never begin again, whatever the gateway calls the next id", async () => {
    // Broken off after S0 of kind B and after S1 of kind A: nothing of either is in the flash.
    const named: number[] = [];
    const note = (question: FromOwner) => {
      if (question.type === "presign" && question.firstId !== undefined) named.push(question.firstId);
      return question;
    };
    const target = charged.further();
    let s0: number | undefined;
    const cutS2 = cutOnce<FromOwner>(q => q.type === "presign-step" && q.step === "S2");
    gateway.question = question => cutS2(note(question));
    await expect(charged.charge(target)).rejects.toEqual(refusal("gateway-unreachable"));
    gateway.question = cutOnce(q => q.type === "presign-step" && q.step === "S3");
    gateway.answer = answer => {
      if (answer.type === "presigned" && answer.step === "S0") s0 = idIn(answer.body);
      return answer;
    };
    const more = target + 4;
    await expect(charged.charge(more)).rejects.toEqual(refusal("gateway-unreachable"));
    const { ends } = readChargingState(path);
    expect(ends.A).toBeGreaterThan(s0!);

    // The gateway takes them all back.
    gateway.question = note;
    gateway.answer = answer => {
      if (answer.type === "charging") return { ...answer, nextId: { A: 0, B: 0 } };
      if (answer.type !== "presigned" || answer.step !== "S0") return answer;
      return { ...answer, body: withId(answer.body, s0!) };
    };
    await expect(charged.charge(more)).rejects.toEqual(refusal("threshold-wrong-batch"));
    gateway.answer = answer =>
      answer.type === "charging" ? { ...answer, nextId: { ...answer.nextId, B: 0 } } : answer;
    const before = named.length;
    await charged.charge(more + 4);
    expect(named.length).toBeGreaterThan(before);
    for (let i = 1; i < named.length; i++) expect(named[i]!).toBeGreaterThan(named[i - 1]!);
    expect(readChargingState(path).ends.B).toBe(Math.max(...charged.inFlash("B").keys()) + 1);
  });
});

describe("charging is refused", () => {
  test("while the device is running", async () => {
    const board = openNodeBoard(path);
    try {
      await expect(charged.charge(50)).rejects.toEqual(refusal("device-in-use"));
    } finally {
      board.close();
    }
  });

  test("while another program of the owner talks to the gateway, which is not disturbed", async () => {
    const asked = new Promise<void>(resolve => {
      gateway.question = question => {
        if (question.type === "presign") resolve();
        return question;
      };
    });
    const first = charged.charge(charged.further());
    await asked;
    await expect(askStatus({ folder, deviceId: info.deviceId })).rejects.toEqual(refusal("owner-busy"));
    expect(await first).toMatchObject({ interrupted: false });
  });

  test("for more payments than the flash has room for, before anything is made", async () => {
    const before = recordsInFlash(path);
    await expect(charged.charge(100_000)).rejects.toEqual(refusal("records-full"));
    expect(recordsInFlash(path)).toEqual(before);
  });

  test("when the gateway has another epoch of the key", async () => {
    gateway.question = question => (question.type === "charge" ? { ...question, epoch: 7 } : question);
    await expect(charged.charge(40)).rejects.toEqual(refusal("threshold-old-epoch"));
  });
});

describe("the owner asks", () => {
  test("where deposits go, while the device runs, and both sides mean the same address", async () => {
    const board = openNodeBoard(path);
    const deposit = await askDeposit({ folder, deviceId: info.deviceId });
    board.close();
    expect(deposit).toEqual({
      address: depositAddress(info),
      minimumSat: 20_000,
      confirmations: 1,
      delay: 1008,
    });
    expect(deposit.address).toMatch(/^bcrt1q[a-z0-9]{58}$/);
  });

  test("and is warned of a gateway that names another address", async () => {
    gateway.answer = answer =>
      answer.type === "deposit" ? { ...answer, address: mistyped(answer.address) } : answer;
    await expect(askDeposit({ folder, deviceId: info.deviceId })).rejects.toEqual(
      refusal("deposit-address-mismatch"),
    );
  });

  test("how the channel stands, and to close it", async () => {
    const txid = Uint8Array.from({ length: 32 }, (_, i) => i);
    gateway.status = {
      online: true,
      rolledBack: false,
      stuck: false,
      time: 1_700_000_000,
      blockTime: 1_700_000_000,
      channel: "ready",
      depositSat: 1,
      depositUnconfirmedSat: 2,
      balanceSat: 3,
      fundingTxid: txid,
    };
    const status = await askStatus({ folder, deviceId: info.deviceId });
    expect(status).toMatchObject({ name: "car", online: true, channel: "ready", balanceSat: 3 });
    expect(status.fundingTxid).toBe(Buffer.from(txid).reverse().toString("hex"));
    expect(await askClose({ folder, deviceId: info.deviceId })).toEqual({ channel: "closing" });
    expect(gateway.closed).toEqual([info.deviceId]);
  });

  test("with what its channels' money is found, which is kept; a gateway that is too old says less", async () => {
    const { deviceId } = info;
    const file = join(deviceFolder(folder, deviceId), CHANNEL_FILE);
    const kept = () =>
      readHeldChannels(file)?.map(({ proposal, states }) => [proposal.index, states?.points]);
    const held = { proposal: proposalWith({ index: 2 }), number: 3 };
    const states = { points: [FUNDING.point], holder: [], counterparty: [] };
    const closing: ToOwner = { type: "closing", channel: "closing", held };
    gateway.channels = [
      { ...held, states },
      { proposal: proposalWith(), number: 7, states },
    ];
    gateway.answer = answer => {
      if (answer.type === "channels")
        return { type: "refused", code: "message-unknown", sentence: "there is no message 21" };
      return answer.type === "closing" ? closing : answer;
    };
    expect(await askFreeze({ folder, deviceId })).toEqual({ channel: "closing", gatewayOutdated: true });
    expect(kept()).toEqual([[2, undefined]]);
    gateway.answer = answer => (answer.type === "closing" ? closing : answer);
    expect(await askFreeze({ folder, deviceId })).toEqual({ channel: "closing" });
    expect(kept()).toEqual([
      [2, [FUNDING.point]],
      [1, [FUNDING.point]],
    ]);
    // What was said before the connection broke off is kept as well.
    rmSync(file);
    gateway.answer = answer =>
      answer.type === "channels" ? "cut" : answer.type === "closing" ? closing : answer;
    await expect(askFreeze({ folder, deviceId })).rejects.toEqual(refusal("gateway-unreachable"));
    expect(kept()).toEqual([[2, undefined]]);
  });
});

describe("nonsense on the owner's link", () => {
  /** Sends raw pieces in a session of the owner and returns the answers to them. */
  async function send(pieces: readonly Uint8Array[], answers: number): Promise<ToOwner[]> {
    const got: ToOwner[] = [];
    const whole = new Fragments();
    let enough = () => {};
    const done = new Promise<void>(resolve => {
      enough = resolve;
    });
    const link = openLink({
      url: info.brokerUrl,
      identity: `${info.deviceId}.owner`,
      password: info.ownerPassword,
      linkKey: info.ownerLinkKey,
      maxMessageBytes: OWNER_MAX_MESSAGE_BYTES,
      onMessage(piece) {
        const answer = whole.add(piece);
        if (answer) got.push(toOwner.decode(answer));
        if (got.length >= answers) enough();
      },
      onState: state => {
        if (state === "up") for (const piece of pieces) link.send(piece);
      },
    });
    await done;
    link.close();
    return got;
  }
  const piece = (...parts: number[]) => new Uint8Array(parts);

  test("is refused by name and disturbs no later question", async () => {
    const status = concat([piece(1), fromOwner.encode({ type: "status" })]);
    const answers = await send([piece(7), piece(1, 0xff), piece(1, 0xa1, 0, 0x18, 99), status], 4);
    expect(answers.map(answer => (answer.type === "refused" ? answer.code : answer.type))).toEqual([
      "message-malformed",
      "message-malformed",
      "message-unknown",
      "status-report",
    ]);
  });

  test("or the answer's end is not waited for by the gateway", async () => {
    const status = concat([piece(1), fromOwner.encode({ type: "status" })]);
    const answers = await send([status, status, status, status], 4);
    expect(answers.filter(({ type }) => type === "refused").length).toBeGreaterThan(0);
    expect(answers.filter(({ type }) => type === "status-report").length).toBeGreaterThan(1);
  });

  test("such as a question of pairing is refused", async () => {
    const pair = fromOwner.encode({ type: "pair", version: 2, ecdh: info.keys.fundingKey });
    expect(await send([concat([piece(1), pair])], 1)).toEqual([
      expect.objectContaining({ type: "refused", code: "message-unexpected" }),
    ]);
  });
});
