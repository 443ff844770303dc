/** What the device is only told keeps nothing waiting, and nothing of it is lost. */
import { beforeEach, expect, test } from "@jest/globals";
import { DeviceSigner } from "../../gateway/signer/device-signer.ts";
import type { SigningAnswer, SigningPart } from "../../gateway/signer/parts.ts";
import type { Step, ToDevice } from "../../src/messages/device.ts";
import { derived } from "../device/dealer.ts";
import { identityWith, proposalWith } from "../device/parties.ts";

const KEYS_ID = derived("keys id");
const revocation = (number: number): SigningPart => ({
  kind: "revocation",
  id: `revocation/${number}`,
  number,
  secret: derived(`secret ${number}`),
  nextPoint: null,
});
/** A question whose answer needs no record here: it is refused. */
const question = (id: string): SigningPart => ({
  kind: "closing",
  id,
  toHolderSat: 1000,
  toCounterpartySat: 1000,
  holderScript: new Uint8Array(22),
  counterpartyScript: new Uint8Array(22),
  sighash: derived(id),
});

let signer: DeviceSigner;
let sent: Step[];
let answers: SigningAnswer[];
let isThere: boolean;

beforeEach(() => {
  sent = [];
  answers = [];
  isThere = true;
  signer = new DeviceSigner({
    keys: identityWith(),
    records: undefined as never,
    channels: { proposal: () => proposalWith(), isPresent: () => true },
    link: {
      get isThere() {
        return isThere;
      },
      send: (message: ToDevice) => {
        if (message.type === "step") sent.push(message);
        return true;
      },
    },
    answer: (_keysId, given) => answers.push(...given),
    problem: () => {},
    wrongAnswer: () => {},
  });
});

const refuse = (step: Step, code: string) =>
  signer.stepped({ type: "stepped", id: step.id, refused: { code, sentence: "so it is" } });

test("a question goes out behind what is only told, without its answer", () => {
  signer.ask(KEYS_ID, [revocation(1)]);
  signer.ask(KEYS_ID, [question("first")]);
  signer.ask(KEYS_ID, [question("second")]);
  expect(sent.map(({ revoked, close }) => [revoked?.number, close !== undefined])).toEqual([
    [1, false],
    [undefined, true],
  ]);
  // Answered in this order, and in the other.
  signer.stepped({ type: "stepped", id: sent[0]!.id });
  expect(answers).toEqual([{ id: "revocation/1" }]);
  refuse(sent[1]!, "policy-close-state");
  expect(answers.slice(1)).toEqual([{ id: "first", refused: "policy-close-state" }]);
  expect(sent).toHaveLength(3);
  signer.ask(KEYS_ID, [revocation(2)]);
  // One question at a time, with all that came up meanwhile.
  expect(sent).toHaveLength(3);
  refuse(sent[2]!, "policy-close-state");
  expect(sent[3]).toMatchObject({ revoked: { number: 2 } });
});

test("an answer counts once, and none of a session before counts at all", () => {
  signer.ask(KEYS_ID, [revocation(1)]);
  const [told] = sent;
  signer.restart();
  signer.stepped({ type: "stepped", id: told!.id });
  expect(answers).toEqual([]);
  signer.ask(KEYS_ID, [revocation(1)]);
  for (let i = 0; i < 2; i++) signer.stepped({ type: "stepped", id: sent[1]!.id });
  expect(answers).toEqual([{ id: "revocation/1" }]);
});

test("what the device's flash has no room for stays to be told", () => {
  signer.ask(KEYS_ID, [revocation(1)]);
  refuse(sent[0]!, "vault-full");
  expect(answers).toEqual([]);
  signer.ask(KEYS_ID, [revocation(1)]);
  refuse(sent[1]!, "policy-phase");
  expect(answers).toEqual([{ id: "revocation/1" }]);
});

test("nothing is told to a device that is not there", () => {
  isThere = false;
  signer.ask(KEYS_ID, [revocation(1)]);
  expect(sent).toEqual([]);
});
