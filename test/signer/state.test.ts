import { createHash } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import * as cbor from "cbor-x";
import fc from "fast-check";
import {
  type Built,
  type CommitmentState,
  type CounterpartySigning,
  type HolderSigning,
  type HolderState,
  isQuestion,
  type SignatureCheck,
  type SigningAnswer,
  type SigningPart,
} from "../../gateway/signer/parts.ts";
import { SigningState } from "../../gateway/signer/state.ts";
import type { StoredSigningState } from "../../gateway/signer/stored-state.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { commitmentSecret } from "../../src/lightning/shachain.ts";
import { codeThrownBy } from "../thrown.ts";

const hash = (text: string) => new Uint8Array(createHash("sha256").update(text).digest());

const SEED = hash("seed");
const KEY = hash("key");
const PUBLIC_KEY = nobleCurve.publicKey(KEY);
const secret = (number: number) => commitmentSecret(SEED, number);
const point = (number: number) => nobleCurve.publicKey(secret(number));
const points = (count: number) => [...Array(count)].map((_, number) => point(number));

const check = (text: string): SignatureCheck => ({ publicKey: PUBLIC_KEY, hash: hash(text) });
const sign = (text: string) => nobleCurve.sign(hash(text), KEY);

function state(number: number, toBroadcasterSat = 1000): CommitmentState {
  return {
    number,
    point: point(number),
    content: { feeratePerKw: 253, toBroadcasterSat, toCountersignatorySat: 0, htlcs: [] },
  };
}

function holder(number: number): HolderState {
  return {
    ...state(number),
    counterpartySignature: sign(`bridge ${number}`),
    counterpartyHtlcSignatures: [],
  };
}

const builtHolder = (text: string): Built<HolderSigning> => ({
  checks: [check(text)],
  signing: { sighash: hash(text), anchorSighash: hash(`${text} anchor`) },
});
const builtCounterparty = (text: string): Built<CounterpartySigning> => {
  const keys = {
    revocation: PUBLIC_KEY,
    delayed: PUBLIC_KEY,
    broadcasterHtlc: PUBLIC_KEY,
    countersignatoryHtlc: PUBLIC_KEY,
  };
  return { checks: [check(text), check(`${text} htlc`)], signing: { sighash: hash(text), keys } };
};

const validate = (book: SigningState, number: number, text = `holder ${number}`) =>
  book.validateHolder(holder(number), hash(text), () => builtHolder(text));
const askCounterparty = (book: SigningState, number: number, text = `counterparty ${number}`) =>
  book.counterpartySignatures(state(number), hash(text), () => builtCounterparty(text));
const ids = (book: SigningState) => book.wants().map(part => part.id);

/** The device's answer to a part. */
function answerTo(part: SigningPart): SigningAnswer {
  switch (part.kind) {
    case "holder":
      return {
        id: part.id,
        ...(part.number > 0 ? { secret: secret(part.number - 1) } : {}),
        points: [{ number: part.number + 4, point: point(part.number + 4) }],
      };
    case "counterparty":
      return {
        id: part.id,
        signatures: [sign(`counterparty ${part.number}`), sign(`counterparty ${part.number} htlc`)],
      };
    case "exit":
      return { id: part.id, signatures: [sign(`holder ${part.number}`)] };
    default:
      return { id: part.id };
  }
}

const answerAll = (book: SigningState) => book.wants().map(part => book.answer(answerTo(part)));

/** A book at rest with our states 0 … number. */
function bookAt(number: number): SigningState {
  const book = SigningState.open(points(5));
  validate(book, 0);
  answerAll(book);
  for (let n = 1; n <= number; n++) {
    validate(book, n);
    book.secretAt(n - 1);
    answerAll(book);
  }
  return book;
}

describe("questions", () => {
  test("about our state 0 are asked at once, about later ones when LDK has stored them", () => {
    const book = SigningState.open(points(5));
    validate(book, 0);
    expect(ids(book)).toEqual(["holder/0"]);
    expect(book.exitHeld).toBe(false);
    answerAll(book);
    expect(book.exitHeld).toBe(true);
    validate(book, 1);
    expect(ids(book)).toEqual([]);
    expect(book.secretAt(0)).toBe(null);
    expect(ids(book)).toEqual(["holder/1"]);
  });

  test("come with the bridge's revocations, which alone are none", () => {
    const book = bookAt(0);
    book.counterpartyRevoked(0, secret(0));
    expect(ids(book)).toEqual(["revocation/0"]);
    expect(book.wants().some(isQuestion)).toBe(false);
    askCounterparty(book, 2);
    expect(ids(book)).toEqual(["revocation/0", "counterparty/2"]);
    book.answer({ id: "revocation/0" });
    expect(ids(book)).toEqual(["counterparty/2"]);
  });

  test("carry the bridge's next point if its message was seen", () => {
    const book = bookAt(0);
    book.announcedPoint(secret(7), point(9));
    book.counterpartyRevoked(0, secret(0));
    book.announcedPoint(secret(1), point(3));
    book.counterpartyRevoked(1, secret(1));
    const [first, second] = book.wants();
    expect(first).toMatchObject({ kind: "revocation", nextPoint: null });
    expect(second).toMatchObject({ kind: "revocation", nextPoint: point(3) });
  });

  test("are the same after a restart, and are answered as before", () => {
    const book = bookAt(3);
    askCounterparty(book, 4);
    validate(book, 4);
    book.secretAt(3);
    const stored = cbor.encode(book.toPlain());
    const restored = SigningState.fromPlain(cbor.decode(stored) as StoredSigningState);
    expect(ids(restored)).toEqual(["holder/4", "counterparty/4"]);
    answerAll(restored);
    expect(restored.secretAt(3)).toEqual(secret(3));
    expect(restored.secretAt(0)).toEqual(secret(0));
    expect(askCounterparty(restored, 4)?.length).toBe(2);
  });

  test("about a state whose answer got lost on its way to the disk are asked again when the next is signed", () => {
    const book = bookAt(3);
    validate(book, 4);
    // The power fails after the bridge has got the secret of state 3: LDK never asks for it again.
    const restored = SigningState.fromPlain(cbor.decode(cbor.encode(book.toPlain())) as StoredSigningState);
    expect(ids(restored)).toEqual([]);
    validate(restored, 5);
    restored.secretAt(4);
    expect(ids(restored)).toEqual(["holder/4", "holder/5"]);
    answerAll(restored);
    expect(ids(restored)).toEqual([]);
    expect([3, 4].map(number => restored.secretAt(number))).toEqual([3, 4].map(secret));
  });

  test("have a commitment built once, however often LDK shows it, and carry what is to be signed of it", () => {
    const book = bookAt(0);
    let builds = 0;
    const holderOf = (text: string) => () => {
      builds++;
      return builtHolder(text);
    };
    const show = (text: string) => book.validateHolder(holder(1), hash(text), holderOf(text));
    show("holder 1");
    show("holder 1");
    expect(builds).toBe(1);
    show("another holder 1");
    expect(builds).toBe(2);
    book.secretAt(0);
    const sign = () =>
      book.counterpartySignatures(state(1), hash("counterparty 1"), () => {
        builds++;
        return builtCounterparty("counterparty 1");
      });
    for (let i = 0; i < 3; i++) expect(sign()).toBe(null);
    expect(builds).toBe(3);
    const restored = SigningState.fromPlain(cbor.decode(cbor.encode(book.toPlain())) as StoredSigningState);
    for (const each of [book, restored]) {
      expect(each.wants()).toMatchObject([
        { id: "holder/1", signing: builtHolder("another holder 1").signing },
        { id: "counterparty/1", signing: builtCounterparty("counterparty 1").signing },
      ]);
    }
    book.exitSignature(holder(1), hash("another holder 1"), holderOf("another holder 1"));
    expect(builds).toBe(3);
    expect(book.wants()).toMatchObject([{ id: "exit/1", signing: builtHolder("another holder 1").signing }]);
  });

  test("about funding wait for exit 0", () => {
    const book = SigningState.open(points(5));
    book.askFunding({ transaction: new Uint8Array([1]), inputs: [] }, [check("funding")]);
    expect(ids(book)).toEqual([]);
    validate(book, 0);
    expect(ids(book)).toEqual(["holder/0"]);
    answerAll(book);
    expect(book.wants()).toMatchObject([{ id: "funding", sighashes: [hash("funding")] }]);
    book.answer({ id: "funding", signatures: [sign("funding")] });
    expect(book.fundingSignatures).toEqual([sign("funding")]);
    const another = () => book.askFunding({ transaction: new Uint8Array([2]), inputs: [] }, []);
    expect(codeThrownBy(another)).toBe("content-conflict");
  });

  test("about states end with the exit", () => {
    const book = bookAt(2);
    askCounterparty(book, 3);
    validate(book, 3);
    book.secretAt(2);
    const exit = () => book.exitSignature(holder(3), hash("holder 3"), () => builtHolder("holder 3"));
    expect(exit()).toBe(null);
    expect(ids(book)).toEqual(["exit/3"]);
    expect(book.exitAsked).toBe(true);
    expect(answerAll(book)).toEqual(["monitor"]);
    expect(exit()).toEqual(sign("holder 3"));
    expect(ids(book)).toEqual([]);
  });

  test("for the exit of a revoked state are not asked", () => {
    const book = bookAt(2);
    expect(book.exitSignature(holder(1), hash("holder 1"), () => builtHolder("holder 1"))).toBe(null);
    expect(ids(book)).toEqual([]);
  });
});

describe("answers", () => {
  test("with a signature that is not valid are not kept", () => {
    const book = bookAt(0);
    askCounterparty(book, 1);
    const wrong = { id: "counterparty/1", signatures: [sign("counterparty 1"), sign("counterparty 1")] };
    expect(codeThrownBy(() => book.answer(wrong))).toBe("bad-signature");
    expect(codeThrownBy(() => book.answer({ id: "counterparty/1" }))).toBe("bad-answer");
    expect(askCounterparty(book, 1)).toBe(null);
    expect(ids(book)).toEqual(["counterparty/1"]);
    expect(answerAll(book)).toEqual(["manager"]);
  });

  test("with a secret that is not the point's are not kept", () => {
    const book = bookAt(0);
    validate(book, 1);
    book.secretAt(0);
    const further = [{ number: 5, point: point(5) }];
    expect(codeThrownBy(() => book.answer({ id: "holder/1", points: further }))).toBe("bad-answer");
    for (const wrong of [secret(1), new Uint8Array(32), new Uint8Array(31)]) {
      const answer = { id: "holder/1", secret: wrong, points: further };
      expect(codeThrownBy(() => book.answer(answer))).toBe("bad-secret");
    }
    expect(book.secretAt(0)).toBe(null);
  });

  test("with a point that is none, or that leave too few points, are not kept", () => {
    const book = bookAt(0);
    for (let n = 1; n <= 2; n++) {
      validate(book, n);
      book.secretAt(n - 1);
      if (n === 1) expect(book.answer({ id: "holder/1", secret: secret(0) })).toBe("manager");
    }
    const noPoint = [{ number: 5, point: new Uint8Array(33) }];
    expect(codeThrownBy(() => book.answer({ id: "holder/2", secret: secret(1), points: noPoint }))).toBe(
      "bad-point",
    );
    expect(codeThrownBy(() => book.answer({ id: "holder/2", secret: secret(1) }))).toBe("bad-answer");
    expect(book.secretAt(1)).toBe(null);
  });

  test("that refuse a part are remembered, and the part is not asked again", () => {
    const book = bookAt(0);
    askCounterparty(book, 1);
    book.answer({ id: "counterparty/1", refused: "policy-balance" });
    expect(ids(book)).toEqual([]);
    expect(book.toPlain().refused).toEqual([{ id: "counterparty/1", code: "policy-balance" }]);
    expect(askCounterparty(book, 1)).toBe(null);
  });

  test("in any order, repeated and late, through any number of restarts, give LDK the same", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(9), fc.nat()), { maxLength: 60 }), moves => {
        let book = bookAt(0);
        let holderNumber = 0;
        let counterpartyNumber = 0;
        const old: SigningAnswer[] = [];
        const seen = new Map<string, unknown>();
        for (const [move, choice] of moves) {
          if (move < 2 && (holderNumber === 0 || book.secretAt(holderNumber - 1) !== null)) {
            validate(book, ++holderNumber);
            book.secretAt(holderNumber - 1);
          } else if (move < 4) {
            if (counterpartyNumber > 0)
              book.counterpartyRevoked(counterpartyNumber - 1, secret(counterpartyNumber - 1));
            askCounterparty(book, ++counterpartyNumber);
          } else if (move < 7) {
            const wanted = book.wants();
            const part = wanted[choice % Math.max(1, wanted.length)];
            if (part) {
              old.push(answerTo(part));
              book.answer(answerTo(part));
            }
          } else if (move < 9) {
            const repeated = old[choice % Math.max(1, old.length)];
            if (repeated) expect(book.answer(repeated)).toBe("nobody");
          } else {
            book = SigningState.fromPlain(cbor.decode(cbor.encode(book.toPlain())) as StoredSigningState);
          }
          // LDK asks again whatever it may ask again: what was once answered stays answered, and the same.
          const answers: [string, unknown][] = [
            [`release ${holderNumber - 1}`, holderNumber > 0 ? book.secretAt(holderNumber - 1) : null],
            [
              `sign ${counterpartyNumber}`,
              counterpartyNumber > 0 ? askCounterparty(book, counterpartyNumber) : null,
            ],
          ];
          for (const [question, answer] of answers) {
            if (seen.get(question)) expect(answer).toEqual(seen.get(question));
            else if (answer) seen.set(question, answer);
          }
          for (let n = 0; n <= holderNumber + 2; n++) expect(book.pointAt(n)).toEqual(point(n));
        }
        expect(book.refusal).toBe(null);
      }),
      { numRuns: 40 },
    );
  });
});

describe("contents", () => {
  test("of our state may change until the device was asked", () => {
    const book = bookAt(0);
    validate(book, 1, "first");
    validate(book, 1, "second");
    expect(book.refusal).toBe(null);
    book.secretAt(0);
    validate(book, 1, "second");
    expect(book.refusal).toBe(null);
    validate(book, 1, "third");
    expect(book.refusal).toBe("content-conflict");
    expect(ids(book)).toEqual([]);
  });

  test("of the bridge's state may not change at all", () => {
    const book = bookAt(0);
    askCounterparty(book, 1);
    answerAll(book);
    expect(askCounterparty(book, 1, "another")).toBe(null);
    expect(book.refusal).toBe("content-conflict");
    expect(askCounterparty(book, 1)).toBe(null);
  });
});

describe("commitment points", () => {
  test("are there for all old states and two states ahead", () => {
    const book = bookAt(20);
    for (let number = 0; number <= 22; number++) expect(book.pointAt(number)).toEqual(point(number));
  });

  test("of a number that a peer made up are points whose secret nobody was given", () => {
    const book = bookAt(6);
    const released = [...Array(6)].map((_, number) => point(number));
    for (const number of [50, 1000, 2 ** 48 - 1]) {
      const answer = book.pointAt(number)!;
      expect(nobleCurve.isPoint(answer)).toBe(true);
      for (const old of released) expect(answer).not.toEqual(old);
    }
  });

  test("must be enough at the start", () => {
    expect(codeThrownBy(() => SigningState.open(points(4)))).toBe("bad-point");
    expect(codeThrownBy(() => SigningState.open([...points(4), new Uint8Array(33)]))).toBe("bad-point");
  });
});

test("a refused channel gets nothing, and keeps its first reason", () => {
  const book = bookAt(0);
  askCounterparty(book, 1);
  book.refuse("policy-channel-parameters");
  book.refuse("later");
  expect(book.refusal).toBe("policy-channel-parameters");
  expect(ids(book)).toEqual([]);
  expect(askCounterparty(book, 1)).toBe(null);
  expect(book.exitSignature(holder(0), hash("holder 0"), () => builtHolder("holder 0"))).toBe(null);
  expect(book.pointAt(1)).toEqual(point(1));
});

test("a secret asked for while the book does not know the next state refuses the channel", () => {
  const book = bookAt(0);
  expect(book.secretAt(0)).toBe(null);
  expect(book.refusal).toBe("state-missing");
});

test("a book of another version is not read", () => {
  const plain = { ...bookAt(0).toPlain(), version: 2 } as unknown as StoredSigningState;
  expect(codeThrownBy(() => SigningState.fromPlain(plain))).toBe("bad-book");
});
