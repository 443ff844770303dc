/** What a bridge says may be in any script, and of any length: it is cut to what is passed on, and keeps nothing from being told. */

import { beforeEach, describe, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import { BridgeWords } from "../../gateway/channel/bridge.ts";
import { DeviceChannel, type DeviceChannelOptions } from "../../gateway/channel/channel.ts";
import { ChannelOpening, type ChannelOpeningOptions } from "../../gateway/channel/opening.ts";
import { createOpenings, type Openings } from "../../gateway/channel/openings.ts";
import { createLog } from "../../gateway/log.ts";
import { OwnerService, type OwnerServiceOptions } from "../../gateway/owner/service.ts";
import { type ToDevice, toDevice } from "../../src/messages/device.ts";
import { Fragments, inFragments } from "../../src/messages/fragments.ts";
import { fromOwner, toOwner } from "../../src/messages/owner.ts";
import { storeTable } from "../store-table.ts";

/** "The channel is too small and can't be opened": three bytes a character. */
const CHINESE = "通道太小，无法打开。".repeat(8);
/** Four bytes a character, two units of UTF-16: a cut at an odd unit splits one. */
const EMOJI = `.${"⚡🔌".repeat(100)}`;

const channels = storeTable("channels");

describe("a channel that the bridge refuses", () => {
  let openings: Openings;
  let told: ToDevice[];

  beforeEach(() => {
    openings = createOpenings(1);
    openings.enter("toll2345", () => {});
    told = [];
  });

  /** A channel that is being opened, and what LDK tells of it: with these words the bridge refuses. */
  function refusedWith(words: string, send: (message: ToDevice) => boolean): DeviceChannel {
    const log = createLog("error", () => {});
    const channel = new DeviceChannel({
      deviceId: "toll2345",
      table: channels,
      openings,
      signer: { removeChannel() {} },
      send,
    } as unknown as DeviceChannelOptions);
    channel.put({
      stage: "opening",
      index: 1,
      keysId: new Uint8Array(32).fill(7),
      points: [],
      deposits: [],
      channelSat: 100_000,
      changeSat: 0,
    });
    told = [];
    const opening = new ChannelOpening({
      deviceId: "toll2345",
      channel,
      openings,
      words: new BridgeWords(() => {}),
      leastChannelSat: 20_000,
      log,
      refuse: (index: number, code: string, sentence: string) =>
        void send({ type: "failed", index, code, sentence }),
    } as unknown as ChannelOpeningOptions);
    const reason = Object.assign(Object.create(ldk.ClosureReason_ProcessingError.prototype), { err: words });
    try {
      opening.failed(channel.row!, reason, words);
    } finally {
      opening.stop();
    }
    return channel;
  }

  test.each([
    ["characters of three bytes", CHINESE],
    ["characters of two units", EMOJI],
  ])("in %s is over, and the device hears why before it hears that there is none", (_, words) => {
    const channel = refusedWith(words, message => told.push(toDevice.decode(toDevice.encode(message))) > 0);
    expect(channel.state).toBe("none");
    expect(told).toMatchObject([
      {
        type: "failed",
        index: 1,
        code: "channel-refused",
        sentence: expect.stringContaining(words.slice(0, 11)),
      },
      { type: "channel", state: "none" },
    ]);
    expect(openings.enter("another", () => {})).toBe(true);
  });

  test("is over also if nobody can be told", () => {
    expect(() =>
      refusedWith("too small", message => {
        if (message.type === "failed") throw new Error("the link is gone");
        return true;
      }),
    ).toThrow("the link is gone");
    expect(openings.enter("another", () => {})).toBe(true);
  });
});

test("the owner's status is answered, with as much of the words as there is room for", async () => {
  const sent: Uint8Array[] = [];
  const service = new OwnerService({
    registry: {
      device: () => ({ name: "car" }),
      abortStatus: () => ({ awaitingOwner: false, locked: false }),
    },
    records: () => ({ remaining: () => 10 }),
    api: {
      status: async () => ({
        online: true,
        rolledBack: false,
        stuck: false,
        time: 0,
        blockTime: 0,
        channel: "ready",
        depositSat: 0,
        depositUnconfirmedSat: 0,
        bridgeWords: CHINESE,
      }),
    },
    log: createLog("error", () => {}),
    send: (_: string, message: Uint8Array) => void sent.push(message),
  } as unknown as OwnerServiceOptions);
  for (const piece of inFragments(fromOwner.encode({ type: "status" })))
    service.onMessage("toll2345.owner", piece);
  await service.idle();
  const pieces = new Fragments();
  const [answer] = sent
    .map(piece => pieces.add(piece))
    .flatMap(whole => (whole ? [toOwner.decode(whole)] : []));
  expect(answer).toMatchObject({ type: "status-report", bridgeWords: CHINESE.slice(0, 66) });
});
