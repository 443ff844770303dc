/** What the gateway tells a device in idle time: nobody has called it, and nobody may suffer from it. */
import { createHash } from "node:crypto";
import { afterEach, beforeAll, beforeEach, expect, jest, test } from "@jest/globals";
import { DeviceSigner } from "../../gateway/signer/device-signer.ts";
import type { SigningPart } from "../../gateway/signer/parts.ts";
import { RemoteSigner } from "../../gateway/signer/remote-signer.ts";
import { emptyBook } from "../../gateway/signer/stored-state.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import type { Step, ToDevice } from "../../src/messages/device.ts";
import { derived } from "../device/dealer.ts";
import { identityWith, proposalWith } from "../device/parties.ts";
import { TestDevice } from "./device.ts";
import { startLdk } from "./node.ts";

const hash = (text: string) => new Uint8Array(createHash("sha256").update(text).digest());
const KEYS_ID = hash("keys id");

beforeAll(startLdk);
beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

/** The signer of a device whose bridge has just revoked its state 1; the device was not told yet. */
function signerWith(isPaying: () => boolean) {
  const asked: SigningPart[][] = [];
  const thrown: unknown[] = [];
  const device = new TestDevice("unit");
  const script = p2wpkh(nobleCurve.publicKey(hash("owner")));
  const signer = new RemoteSigner({
    nodeSeed: hash("node"),
    shutdownScript: script,
    peer: { ask: (_keysId, parts) => void asked.push([...parts]) },
    isPaying,
    guarded: work => {
      try {
        work();
      } catch (error) {
        thrown.push(error);
      }
    },
    problem: () => {},
  });
  const points = device.firstPoints().map((point, number) => ({ number, point }));
  const book = emptyBook(points);
  book.revocations = [{ number: 1, secret: hash("secret 1"), nextPoint: null }];
  signer.addChannel(
    {
      keysId: KEYS_ID,
      fundingSat: 100_000,
      bridge: nobleCurve.publicKey(hash("bridge")),
      publicKeys: device.publicKeys,
      destinationScript: script,
    },
    book,
  );
  const unblocked = { signer_unblocked: () => {}, list_pending_monitor_updates: () => [] } as never;
  signer.attach({ channelManager: unblocked, chainMonitor: unblocked, wake: () => {} });
  return { signer, asked, thrown };
}

test("an error that comes out of LDK in it is that node's alone", () => {
  const trap = new Error("RuntimeError: unreachable");
  const { thrown } = signerWith(() => {
    throw trap;
  });
  jest.advanceTimersByTime(200);
  expect(thrown).toEqual([trap]);
});

test("after the node's end LDK is asked for nothing, and the device is told nothing", () => {
  let isEnded = false;
  const late: string[] = [];
  const { signer, asked } = signerWith(() => {
    if (isEnded) late.push("list_recent_payments");
    return false;
  });
  jest.advanceTimersByTime(50);
  expect(asked).toEqual([]);
  isEnded = true;
  signer.stop();
  jest.advanceTimersByTime(10_000);
  expect([late, asked]).toEqual([[], []]);
});

test("a device that answers questions, and never what it is only told, leaves few steps behind at the gateway", () => {
  const sent: Step[] = [];
  const signer = new DeviceSigner({
    keys: identityWith(),
    records: undefined as never,
    channels: { proposal: () => proposalWith(), isPresent: () => true },
    link: {
      isThere: true,
      send: (message: ToDevice) => {
        if (message.type === "step") sent.push(message);
        return true;
      },
    },
    answer: () => {},
    problem: () => {},
    wrongAnswer: () => {},
  });
  const PAYMENTS = 5000;
  for (let number = 1; number <= PAYMENTS; number++) {
    const told: SigningPart = {
      kind: "revocation",
      id: `revocation/${number}`,
      number,
      secret: derived("secret"),
      nextPoint: null,
    };
    const question: SigningPart = {
      kind: "closing",
      id: `question ${number}`,
      toHolderSat: 1000,
      toCounterpartySat: 1000,
      holderScript: new Uint8Array(22),
      counterpartyScript: new Uint8Array(22),
      sighash: derived("sighash"),
    };
    // In idle time; and again with the question of the next payment, as freshParts gives it, which is answered.
    signer.ask(KEYS_ID, [told]);
    signer.ask(KEYS_ID, [told, question]);
    const { id } = sent.at(-1)!;
    signer.stepped({ type: "stepped", id, refused: { code: "policy-close-state", sentence: "" } });
  }
  const { telling } = signer as unknown as { telling: Map<number, unknown> };
  expect(telling.size).toBeLessThan(10);
});
