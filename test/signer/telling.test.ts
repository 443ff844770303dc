/** What the device is only told keeps nothing waiting, and nothing of it is lost. */
import { beforeEach, expect, test } from "@jest/globals";
import { DeviceSigner } from "../../gateway/signer/device-signer.ts";
import type { SigningAnswer, SigningPart } from "../../gateway/signer/parts.ts";
import { composeStep, type StepScene } from "../../gateway/signer/steps.ts";
import { emptyBook } from "../../gateway/signer/stored-state.ts";
import { wantedParts } from "../../gateway/signer/wanted.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { viewCodec } from "../../src/channel/terms.ts";
import { viewOf } from "../../src/channel/transactions.ts";
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

test("a step says what the device has once it has processed the parts before, in whatever order they came up", () => {
  const content = (toBroadcasterSat: number, toCountersignatorySat: number) => ({
    feeratePerKw: 1500,
    toBroadcasterSat,
    toCountersignatorySat,
    htlcs: [],
  });
  const signing = { sighash: derived("hash"), keys: undefined as never };
  const point = new Uint8Array(33).fill(2);
  // The bridge's next is as the state of ours that the device has, and not as the one in the step.
  const counterparty = {
    kind: "counterparty",
    number: 3,
    point,
    content: content(1000, 90_000),
    signing,
  } as const;
  const holder = {
    kind: "holder",
    number: 3,
    point,
    content: content(80_000, 1000),
    counterpartySignature: new Uint8Array(64),
    counterpartyHtlcSignatures: [],
    signing: { sighash: derived("ours"), anchorSighash: null },
  } as const;
  const known = { holder: toHex(encodeValue(viewCodec, viewOf(counterparty.content, false))) };
  const scene: StepScene = {
    keys: identityWith(),
    proposal: proposalWith(),
    known,
    curveless: false,
    ourHalf: () => ({ id: 1, scalar: new Uint8Array(32), mac: new Uint8Array(16) }),
  };
  const parts: SigningPart[] = [
    { ...counterparty, id: "counterparty/3" },
    { ...holder, id: "holder/3" },
    revocation(1),
  ];
  const { step } = composeStep(1, parts, scene);
  expect(step.counterparty!.view).toBeDefined();
  expect(composeStep(1, [parts[2]!, parts[1]!, parts[0]!], scene).step).toEqual(step);
  // Alone it need not be said.
  expect(composeStep(1, [parts[0]!], scene).step.counterparty!.view).toBeUndefined();
});

test("nothing is told to a device that is not there", () => {
  isThere = false;
  signer.ask(KEYS_ID, [revocation(1)]);
  expect(sent).toEqual([]);
});

test("a state of the bridge's without an HTLC brings its preimage with it, also before ours that has it out as well", () => {
  const point = new Uint8Array(33).fill(2);
  const content = { feeratePerKw: 1500, toBroadcasterSat: 1000, toCountersignatorySat: 90_000, htlcs: [] };
  const keys = { revocation: point, delayed: point, broadcasterHtlc: point, countersignatoryHtlc: point };
  const signing = { sighash: derived("hash"), keys };
  const entry = { txid: derived("txid"), checks: [], exitAsked: false, exitSignature: null };
  const ours = { point, content, counterpartySignature: new Uint8Array(64), counterpartyHtlcSignatures: [] };
  const book = emptyBook([]);
  const [old, preimage] = [derived("old preimage"), derived("preimage")];
  book.holder = [
    { ...entry, ...ours, number: 1, asked: true, answered: true, preimages: [old] },
    // LDK has not asked for the secret that it costs: it is not wanted yet.
    { ...entry, ...ours, number: 2, asked: false, answered: false, preimages: [preimage] },
  ];
  const id = "counterparty/2";
  book.counterparty = [
    {
      id,
      content: { number: 2, point, content },
      txid: derived("theirs"),
      checks: [],
      signing,
      signatures: null,
    },
  ];
  const wanted = wantedParts(book);
  expect(wanted).toMatchObject([{ kind: "counterparty", preimages: [preimage] }]);
  signer.ask(KEYS_ID, wanted);
  expect(sent[0]).toMatchObject({ paid: [preimage], counterparty: { number: 2 } });
  // Once in a session.
  signer.ask(KEYS_ID, [{ ...wanted[0]!, id: "counterparty/3" } as SigningPart]);
  refuse(sent[0]!, "policy-balance");
  expect(sent[1]!.paid).toBeUndefined();
});
