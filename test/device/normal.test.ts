import { describe, expect, test } from "@jest/globals";
import type { Cursors, Payment } from "../../device/channel/state.ts";
import { equal } from "../../src/bytes/bytes.ts";
import type { CommitmentSpec } from "../../src/channel/terms.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import type { Stepped } from "../../src/messages/device.ts";
import { derived } from "./dealer.ts";
import { NOW_MS, SERVICE_FEE } from "./parties.ts";
import { bridgePoint, bridgeSecret } from "./peer.ts";
import { Rig } from "./rig.ts";

function payment(rig: Rig, name: string): Payment {
  const hash = sha256(rig.preimage(name));
  return rig.state.payments.find(each => each && equal(each.paymentHash, hash))!;
}

const decided = (rig: Rig) => rig.box.decided.map(each => (each.preimage ? "paid" : "failed"));

describe("a payment", () => {
  test("is paid when its preimage comes, and the books are closed when its HTLC is gone", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1003)]));
    expect(decided(rig)).toEqual([]);
    rig.box.nowMs = NOW_MS + 321;
    rig.paid("toll");
    expect(decided(rig)).toEqual(["paid"]);
    expect(payment(rig, "toll")).toMatchObject({ feeMsat: 3000, ms: 321 });
    expect(payment(rig, "toll").settled).toBeUndefined();
    rig.move(rig.view(1003));
    expect(payment(rig, "toll").settled).toBe(true);
    expect(payment(rig, "toll").invoice).toBeUndefined();
    expect(rig.state.books).toMatchObject({ baseSat: 198_997, hour: { spentMsat: 1_003_000 } });
    expect(rig.refusals).toEqual([]);
  });

  test("has cost all that was allowed where a commitment need not have shown it", () => {
    const rig = new Rig().open();
    rig.pay("tiny", 100);
    rig.paid("tiny");
    expect(payment(rig, "tiny").feeMsat).toBe(5000);
    // An output on our side, none on the bridge's.
    rig.pay("small", 400);
    rig.move(rig.view(105, [rig.htlc("small", 400)]));
    rig.paid("small");
    expect(payment(rig, "small").feeMsat).toBe(5000);
    expect(rig.state.books.hour.spentMsat).toBe(105_000 + 405_000);
  });

  test("is over only when its HTLC is gone from both sides' commitments", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.paid("toll");
    rig.step({ counterparty: rig.counterparty(rig.view(1000)) });
    expect(payment(rig, "toll").settled).toBeUndefined();
    rig.step({ revoked: rig.revoked(), holder: rig.holder(rig.view(1000)) });
    expect(payment(rig, "toll").settled).toBe(true);
  });

  test("is not written again by commitments that show nothing new of it", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const view = rig.view(0, [rig.htlc("toll", 1000)]);
    rig.step({ counterparty: rig.counterparty(view) });
    const seen = payment(rig, "toll");
    expect(seen.htlcMsat).toBe(1_000_000);
    rig.step({ revoked: rig.revoked(), holder: rig.holder(view) });
    expect(payment(rig, "toll")).toBe(seen);
    rig.step({ counterparty: rig.counterparty(rig.view()) });
    expect(payment(rig, "toll")).toBe(seen);
  });

  test("that failed is known to have failed while another is in flight, tiny for one side or not", () => {
    for (const sat of [1000, 450]) {
      const rig = new Rig().open();
      rig.pay("toll", 1000);
      rig.pay("other", sat);
      const [toll, other] = [rig.htlc("toll", 1000), rig.htlc("other", sat)];
      // Of 450 sat there is an HTLC in our commitment and none in the bridge's.
      const ours = (htlcs: (typeof toll)[]) => rig.view(0, [...htlcs, other]);
      const theirs = (htlcs: (typeof toll)[]) => {
        if (sat === 1000) return ours(htlcs);
        const view = rig.view(0, htlcs);
        return { ...view, holderSat: view.holderSat - sat };
      };
      for (const htlcs of [[toll], []]) {
        rig.step({ counterparty: rig.counterparty(theirs(htlcs)) });
        rig.step({ revoked: rig.revoked(), holder: rig.holder(ours(htlcs)) });
      }
      rig.failed("toll");
      expect(rig.refusals).toEqual([]);
      expect(decided(rig)).toEqual(["failed"]);
    }
  });

  test("that is tiny is not believed to have failed for the room that another one leaves", () => {
    const rig = new Rig().open();
    rig.pay("tiny", 100);
    rig.move({ ...rig.view(), holderSat: rig.view().holderSat - 100 });
    // In the bridge's commitment this one would be dust; in ours it would not, and it is not there.
    rig.pay("other", 450);
    rig.failed("tiny");
    expect(decided(rig)).toEqual([]);
  });

  test("whose preimage comes in the step that takes its HTLC out is paid just so", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.step({
      paid: [rig.preimage("toll")],
      holder: rig.holder(rig.view(1000)),
      counterparty: rig.counterparty(rig.view(1000)),
    });
    expect(rig.refusals).toEqual([]);
    expect(decided(rig)).toEqual(["paid"]);
  });

  test("is not believed to have failed before no commitment can take it any more", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
    rig.failed("toll");
    expect(decided(rig)).toEqual([]);
    rig.step({ revoked: rig.revoked(), holder: rig.holder(rig.view(0, [rig.htlc("toll", 1000)])) });
    rig.step({ holder: rig.holder(rig.view()) });
    rig.step({ counterparty: rig.counterparty(rig.view()) });
    expect(decided(rig)).toEqual([]);
    rig.step({ revoked: rig.revoked() });
    expect(decided(rig)).toEqual(["failed"]);
    expect(rig.state.books.hour.spentMsat).toBe(0);
  });

  test("is not believed to have failed while our own commitment alone has its HTLC", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.step({ holder: rig.holder(rig.view(0, [rig.htlc("toll", 1000)])) });
    rig.failed("toll");
    expect(decided(rig)).toEqual([]);
    rig.step({ holder: rig.holder(rig.view()) });
    expect(decided(rig)).toEqual(["failed"]);
  });

  test("has room beside seven others and five HTLCs of the bridge's", () => {
    const rig = new Rig({ charge: { A: 150, B: 200, H: 200 } }).open();
    rig.pay("before", 4000);
    rig.move(rig.view(0, [rig.htlc("before", 4000)]));
    rig.paid("before");
    rig.move(rig.view(4000));
    const names = [1, 2, 3, 4, 5, 6, 7, 8].map(i => `toll ${i}`);
    for (const name of names) rig.pay(name, 600);
    const incoming = [1, 2, 3, 4, 5].map(i => rig.htlc(`unasked ${i}`, 600, { incoming: true }));
    rig.step({ revoked: rig.revoked() });
    rig.move(rig.view(1000, [...names.map(name => rig.htlc(name, 600)), ...incoming]));
    expect(rig.refusals).toEqual([]);
    expect(rig.state.holder!.view.htlcs).toHaveLength(13);
    expect(rig.harm()).toBeNull();
  });

  test("that is tiny is not believed to have failed before its money is back", () => {
    const rig = new Rig().open();
    rig.pay("tiny", 100);
    rig.move({ ...rig.view(), holderSat: rig.view().holderSat - 100 });
    rig.failed("tiny");
    expect(decided(rig)).toEqual([]);
    rig.step({ holder: rig.holder(rig.view()) });
    rig.step({ counterparty: rig.counterparty(rig.view()) });
    expect(decided(rig)).toEqual([]);
    rig.step({ revoked: rig.revoked() });
    expect(decided(rig)).toEqual(["failed"]);
  });

  test("of which the gateway said that it failed is paid all the same if the preimage comes", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.failed("toll");
    rig.paid("toll");
    rig.move(rig.view(1000));
    expect(decided(rig)).toEqual(["paid"]);
    expect(payment(rig, "toll").failure).toBeUndefined();
  });

  test("that failed may be tried again, one that is paid or under way may not", () => {
    const rig = new Rig().open();
    const pay = (sat: number) => {
      rig.refusals.length = 0;
      rig.pay("toll", sat);
      return rig.refusals[0] ?? "taken";
    };
    expect([pay(1000), pay(1000)]).toEqual(["taken", "already-paying"]);
    rig.failed("toll");
    expect([pay(2000), pay(2000)]).toEqual(["taken", "already-paying"]);
    rig.paid("toll");
    expect(pay(1000)).toBe("already-paying");
    rig.move(rig.view(2005));
    expect([payment(rig, "toll").settled, pay(1000)]).toEqual([true, "already-paying"]);
    expect(rig.state.payments).toHaveLength(1);
  });

  test("tells the gateway how often it was tried before", () => {
    const rig = new Rig().open();
    const attempts = [1, 2, 3].map(() => {
      rig.pay("toll", 1000);
      const [asked] = rig.box.takeSent();
      rig.failed("toll");
      return asked?.type === "pay" ? [asked.maxFeeMsat, asked.attempt] : asked;
    });
    expect(attempts).toEqual([
      [5000, undefined],
      [5000, 1],
      [5000, 2],
    ]);
  });

  test("may be retried with one HTLC after the other", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    for (const fee of [5, 3, 1]) {
      rig.move(rig.view(0, [rig.htlc("toll", 1000 + fee)]));
      rig.move(rig.view());
    }
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.paid("toll");
    rig.move(rig.view(1000));
    expect(rig.refusals).toEqual([]);
    expect(rig.harm()).toBeNull();
    expect(rig.state.books.baseSat).toBe(199_000);
  });

  test("that failed and whose preimage comes all the same is paid, by whomever: nothing is owed, and it is not paid again", () => {
    const rig = new Rig({ serviceFee: SERVICE_FEE }).open();
    rig.pay("toll", 1000);
    rig.failed("toll");
    rig.paid("toll");
    expect(payment(rig, "toll")).toMatchObject({ preimage: rig.preimage("toll"), feeMsat: 0, settled: true });
    expect(payment(rig, "toll").failure).toBeUndefined();
    expect(rig.state.books).toMatchObject({ owedMsat: 0, hour: { spentMsat: 0 } });
    expect(rig.tried("toll", 1000)).toEqual(["already-paying"]);
  });

  test("is only what the preimage of an unknown payment is not", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const before = rig.state;
    const operations = rig.box.flash.operations();
    rig.paid("never heard of");
    expect(rig.state).toEqual(before);
    expect(rig.box.flash.operations()).toBe(operations);
  });

  test("is asked for again when a session begins, until it is decided", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.pay("other", 500);
    rig.failed("other");
    rig.box.restart();
    rig.box.takeSent();
    rig.box.run({ type: "connected", generation: 7 });
    expect(rig.box.takeSent().map(each => each.type)).toEqual(["hello", "pay"]);
  });
});

describe("the books", () => {
  test("lose what was paid and no more while another payment is in flight", () => {
    const rig = new Rig().open();
    rig.pay("one", 1000);
    rig.pay("two", 3000);
    rig.move(rig.view(0, [rig.htlc("one", 1000), rig.htlc("two", 3000)]));
    rig.paid("one");
    rig.move(rig.view(1000, [rig.htlc("two", 3000)]));
    expect(rig.state.books.baseSat).toBe(199_000);
    rig.paid("two");
    rig.move(rig.view(4000));
    expect(rig.state.books.baseSat).toBe(196_000);
  });

  test("count what came in when both sides' commitments have it", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.paid("toll");
    rig.move(rig.view(1000));
    expect(rig.state.books.baseSat).toBe(199_000);
    rig.step({ revoked: rig.revoked(), counterparty: rig.counterparty(rig.view(600)) });
    expect(rig.state.books.baseSat).toBe(199_000);
    rig.step({ revoked: rig.revoked(), holder: rig.holder(rig.view(600)) });
    expect(rig.state.books.baseSat).toBe(199_400);
  });

  test("give the owner's limits back what a failed payment would have cost, the service included", () => {
    const rig = new Rig({ serviceFee: SERVICE_FEE }).open();
    rig.pay("toll", 1000);
    expect(rig.state.books.hour.spentMsat).toBe(1_055_000);
    rig.failed("toll");
    expect(rig.state.books).toMatchObject({ hour: { spentMsat: 0 }, day: { spentMsat: 0 } });
  });

  test("count a settlement of service fees against no limit: they counted when they accrued", () => {
    const rig = new Rig({ serviceFee: { ...SERVICE_FEE, settleFromMsat: 50_000 } }).open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.paid("toll");
    rig.move(rig.view(1000));
    const { hour, day } = rig.state.books;
    expect(hour.spentMsat).toBe(1_050_000);
    rig.settle("fee", 50_000);
    rig.failed("fee");
    rig.settle("fee", 49_000, 1000);
    rig.paid("fee");
    expect(payment(rig, "fee").settled).toBe(true);
    expect(rig.state.books).toMatchObject({ hour, day });
  });
});

describe("a step", () => {
  test("that is refused in part keeps what came before, and the records that were read stay used", () => {
    const rig = new Rig().open();
    const { cursors } = rig.state.books;
    const good = rig.holder(rig.view());
    const answer = rig.step({ holder: good, counterparty: rig.counterparty(rig.view(600)) });
    expect(answer.refused?.code).toBe("policy-balance");
    expect(answer.secret).toEqual(rig.box.context.secretOf(1, 0));
    expect(rig.state.holder?.number).toBe(1);
    expect(rig.state.counterparty?.number).toBe(0);
    expect(rig.state.books.cursors).toEqual({ ...cursors, B: cursors.B + 2 });

    const bad = rig.holder(rig.view());
    const scalar = derived("wrong");
    expect(
      rig.step({ holder: { ...bad, anchorPartial: { ...bad.anchorPartial!, scalar } } }).secret,
    ).toBeUndefined();
    expect(rig.state.holder?.number).toBe(1);
    expect(rig.state.books.cursors.B).toBe(cursors.B + 4);
  });

  test("that names no content means the newest of the other side", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const view = rig.view(0, [rig.htlc("toll", 1000)]);
    rig.step({ counterparty: rig.counterparty(view) });
    const { view: _, ...holder } = rig.holder(view);
    rig.step({ revoked: { ...rig.revoked(), nextPoint: bridgePoint(2) }, holder });
    expect(rig.state.holder?.view).toEqual(view);
    rig.paid("toll");
    rig.step({ holder: rig.holder(rig.view(1000)), counterparty: { number: 2 } });
    expect(rig.refusals).toEqual([]);
    expect(rig.state.counterparty).toMatchObject({ view: rig.view(1000), point: bridgePoint(2) });
  });

  test("without content or point that would be needed is refused", () => {
    const rig = new Rig();
    rig.app("open");
    const { point, ...noPoint } = rig.counterparty(rig.view());
    expect(rig.step({ proposal: rig.proposal, counterparty: noPoint }).refused?.code).toBe("step-incomplete");
    const noView = { number: 0, point };
    expect(rig.step({ proposal: rig.proposal, counterparty: noView }).refused?.code).toBe("step-incomplete");
  });

  test("revokes nothing with another number, or where there is nothing to revoke", () => {
    const none = new Rig().step({ revoked: { number: 0, secret: bridgeSecret(0) } });
    expect(none.refused).toBeUndefined();
    const rig = new Rig().open();
    rig.step({ counterparty: rig.counterparty(rig.view()) });
    rig.step({ revoked: { number: 1, secret: bridgeSecret(0) } });
    expect(rig.state.counterparty?.previous).toBeDefined();
    rig.step({ revoked: { number: 0, secret: bridgeSecret(0) } });
    expect(rig.state.counterparty?.previous).toBeUndefined();
  });

  test("asks for a signature again by its number alone", () => {
    const rig = new Rig().open();
    const { signed } = rig.step({ counterparty: rig.counterparty(rig.view()) });
    expect(signed).toBeDefined();
    expect(rig.step({ counterparty: { number: 1 } }).signed).toEqual(signed);
  });

  test("of an earlier boot gives the answer of then, or none", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const view = rig.view(0, [rig.htlc("toll", 1000)]);
    const first = { counterparty: rig.counterparty(view) };
    const answers = [rig.step(first)];
    const second = { revoked: rig.revoked(), holder: rig.holder(view) };
    answers.push(rig.step(second));
    const steps = [first, second];
    rig.box.restart();
    const { cursors } = rig.state.books;
    for (const [i, step] of steps.entries())
      expect(rig.step(step)).toEqual({ ...answers[i], id: rig.lastId });
    rig.paid("toll");
    rig.move(rig.view(1000));
    // Both are superseded now: a signature is not given again, and the secret was known before.
    expect(rig.step(steps[0]!).refused?.code).toBe("policy-commitment-number");
    expect(rig.step(steps[1]!).secret).toEqual(answers[1]!.secret);
    expect(rig.state.books.cursors.A).toBe(cursors.A + 1);
    expect(rig.harm()).toBeNull();
  });

  test("that names a record between those that are there is refused", () => {
    const rig = new Rig({
      contextWith: context => ({
        ...context,
        // As where the records from 10 to 19 were never charged.
        records: {
          ...context.records,
          read: (kind, id) => context.records.read(kind, kind === "B" && id >= 10 && id < 20 ? 20 : id),
          left: (kind, id) => context.records.left(kind, kind === "B" && id < 20 ? 20 : id),
        },
      }),
    }).open();
    rig.nextB = 10;
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("record-missing");
    rig.nextB = 20;
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused).toBeUndefined();
  });

  test("gives up as many records as an honest gateway may have lost, and not one more", () => {
    for (const [skipped, code] of [
      [16, undefined],
      [17, "policy-record-skip"],
    ] as const) {
      const rig = new Rig().open();
      rig.nextB += skipped;
      expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe(code);
    }
  });

  test("in which a record is missing leaves the channel as it was", () => {
    const rig = new Rig().open();
    const before = rig.state;
    const holder = rig.holder(rig.view());
    const answer = rig.step({ holder: { ...holder, partial: { ...holder.partial, id: 4_000_000 } } });
    expect(answer.refused?.code).toBe("policy-record-skip");
    expect(rig.state).toEqual(before);
  });
});

/** An open channel in which the bridge has 4,000 sat, and the word on how many records are left. */
function rigWithLeft() {
  const left = { A: 100, B: 100, H: 100 };
  const rig = new Rig({
    charge: { A: 100, B: 100, H: 100 },
    contextWith: context => ({
      ...context,
      records: { ...context.records, left: kind => left[kind] },
    }),
  }).open();
  rig.pay("paid", 4000);
  rig.move(rig.view(0, [rig.htlc("paid", 4000)]));
  rig.paid("paid");
  rig.move(rig.view(4000));
  rig.step({ revoked: rig.revoked() });
  expect(rig.refusals).toEqual([]);
  return { rig, left };
}

describe("the records that are left", () => {
  const toll = (rig: Rig) => rig.htlc("toll", 1000);
  const unasked = (rig: Rig, name = "unasked") => rig.htlc(name, 600, { incoming: true });
  /** What undoing, settling one payment less than that and a close need. */
  const needed = (payments: number) => ({
    A: 2 * payments + 3,
    B: 4 * payments,
    H: payments * (payments + 1),
  });

  /** This content takes so many records to be left, and not one less of any kind. */
  function needs(enough: Cursors, act: (rig: Rig) => Stepped, prepare: (rig: Rig) => void = () => {}) {
    for (const kind of ["A", "B", "H", undefined] as const) {
      const { rig, left } = rigWithLeft();
      prepare(rig);
      Object.assign(left, enough);
      if (kind) left[kind]--;
      const { cursors } = rig.state.books;
      expect(act(rig).refused?.code).toBe(kind && "records-used-up");
      if (kind) expect(rig.state.books.cursors).toEqual(cursors);
    }
  }

  const theirs = (view: (rig: Rig) => CommitmentSpec) => (rig: Rig) =>
    rig.step({ counterparty: rig.counterparty(view(rig)) });
  const ours = (view: (rig: Rig) => CommitmentSpec) => (rig: Rig) =>
    rig.step({ holder: rig.holder(view(rig)) });
  const withToll = (rig: Rig) => {
    rig.pay("toll", 1000);
    rig.move(rig.view(4000, [toll(rig)]));
    rig.step({ revoked: rig.revoked() });
  };

  /** As if another payment began. */
  const isUnasked = (act: (rig: Rig) => Stepped, payments = 1, prepare?: (rig: Rig) => void) =>
    needs(needed(payments), act, prepare);

  test("are not for another feerate", () => {
    isUnasked(theirs(rig => rig.view(4000, [], 1600)));
    isUnasked(ours(rig => rig.view(4000, [], 1600)));
    isUnasked(
      theirs(rig => rig.view(4000, [toll(rig)], 1600)),
      2,
      withToll,
    );
  });

  test("are not for HTLCs of the bridge's", () => {
    isUnasked(ours(rig => rig.view(3400, [unasked(rig)])));
    isUnasked(theirs(rig => rig.view(3400, [unasked(rig)])));
    isUnasked(
      ours(rig => rig.view(3400, [toll(rig), unasked(rig)])),
      2,
      withToll,
    );
    // Another one beside it, or one with the hash of a payment of ours, is another one.
    const first = (rig: Rig) => {
      rig.move(rig.view(3400, [unasked(rig)]));
      rig.step({ revoked: rig.revoked() });
    };
    isUnasked(
      ours(rig => rig.view(2800, [unasked(rig), unasked(rig, "second")])),
      1,
      first,
    );
    isUnasked(
      ours(rig => rig.view(3400, [toll(rig), unasked(rig, "toll")])),
      2,
      withToll,
    );
  });

  test("are not for a commitment that changes nothing", () => {
    isUnasked(ours(rig => rig.view(4000)));
    isUnasked(theirs(rig => rig.view(4000)));
    isUnasked(
      theirs(rig => rig.view(4000, [toll(rig)])),
      2,
      withToll,
    );
  });

  test("are not for an HTLC of ours that has been there before", () => {
    isUnasked(
      theirs(rig => rig.view(4000, [toll(rig)])),
      2,
      rig => {
        withToll(rig);
        rig.step({ counterparty: rig.counterparty(rig.view(4000)) });
        rig.step({ revoked: rig.revoked() });
      },
    );
    isUnasked(
      ours(rig => rig.view(4000, [toll(rig)])),
      2,
      rig => {
        withToll(rig);
        rig.step({ holder: rig.holder(rig.view(4000)) });
      },
    );
  });

  test("are for the other side's commitment of what has begun", () => {
    for (const view of [
      (rig: Rig) => rig.view(4000, [toll(rig)], 1600),
      (rig: Rig) => rig.view(3400, [toll(rig), unasked(rig)]),
    ]) {
      const { rig, left } = rigWithLeft();
      withToll(rig);
      Object.assign(left, needed(2));
      rig.step({ holder: rig.holder(view(rig)) });
      Object.assign(left, { A: 4, B: 0, H: 2 });
      rig.step({ counterparty: rig.counterparty(view(rig)) });
      expect(rig.refusals).toEqual([]);
    }
  });

  test("are enough for a commitment of the bridge's only with those for a close", () => {
    for (const [left, code] of [
      [{ A: 4, B: 0, H: 1 }, undefined],
      [{ A: 3, B: 0, H: 1 }, "records-used-up"],
      [{ A: 4, B: 0, H: 0 }, "records-used-up"],
    ] as const) {
      const { rig, left: now } = rigWithLeft();
      rig.pay("toll", 1000);
      Object.assign(now, left);
      const { cursors } = rig.state.books;
      expect(theirs(r => r.view(4000, [toll(r)]))(rig).refused?.code).toBe(code);
      if (code) expect(rig.state.books.cursors).toEqual(cursors);
    }
  });
});

describe("the records", () => {
  test("are not burnt one by one while there are too few of another kind", () => {
    const rig = new Rig({ charge: { A: 40, B: 40, H: 2 } }).open();
    rig.pay("toll", 1000);
    const view = rig.view(0, [rig.htlc("toll", 1000)]);
    rig.move(view);
    rig.move({ ...view, feeratePerKw: 1500 });
    const { cursors } = rig.state.books;
    for (let i = 0; i < 5; i++) rig.step({ revoked: rig.revoked(), counterparty: rig.counterparty(view) });
    expect(new Set(rig.refusals)).toEqual(new Set(["records-used-up"]));
    expect(rig.state.books.cursors).toEqual(cursors);
  });

  test("cannot be used up by what nobody asked for: enough are kept to settle and to close", () => {
    const rig = new Rig({ charge: { A: 40, B: 60, H: 40 } }).open();
    rig.pay("first", 4000);
    rig.move(rig.view(0, [rig.htlc("first", 4000)]));
    rig.paid("first");
    rig.move(rig.view(4000));
    rig.pay("toll", 1000);
    rig.move(rig.view(4000, [rig.htlc("toll", 1000)]));
    const toll = rig.htlc("toll", 1000);
    for (let i = 0; rig.refusals.length === 0; i++) {
      const incoming = rig.htlc(`unasked ${i}`, 600, { incoming: true });
      const feerate = 1500 + (i % 7);
      rig.move(rig.view(3400, [toll, incoming], feerate));
      if (rig.refusals.length === 0) rig.move(rig.view(4000, [toll], feerate));
    }
    expect(rig.refusals).toEqual(["records-used-up"]);
    // What is pending can be settled, and then the channel closed.
    rig.refusals.length = 0;
    const { feeratePerKw } = rig.state.holder!.view;
    rig.paid("toll");
    rig.move(rig.view(5000, [], feeratePerKw));
    rig.step({ revoked: rig.revoked() });
    rig.close(194_000, 5000);
    rig.close(193_900, 5000);
    rig.close(193_800, 5000);
    expect(rig.refusals).toEqual([]);
    expect(rig.closes).toHaveLength(3);
    expect(rig.harm()).toBeNull();
  });

  test("cannot be used up by commitments that change nothing", () => {
    const rig = new Rig({ charge: { A: 12, B: 60, H: 40 } }).open();
    for (let i = 0; i < 20 && rig.refusals.length === 0; i++) rig.move(rig.view());
    expect(rig.refusals).toEqual(["records-used-up"]);
    expect(rig.box.context.records.left("A", rig.state.books.cursors.A)).toBeGreaterThanOrEqual(3);
    rig.close(199_000, 0);
    expect(rig.closes).toHaveLength(1);
  });

  test("are enough for a payment too small for an output, which signs an anchor twice, or it does not begin", () => {
    for (const [B, code] of [
      [10, undefined],
      [9, "records-used-up"],
    ] as const) {
      const rig = new Rig({ charge: { A: 20, B, H: 40 } }).open();
      rig.pay("tiny", 20);
      expect(rig.refusals).toEqual(code ? [code] : []);
      if (code) continue;
      const after = { ...rig.view(), holderSat: rig.view().holderSat - 20 };
      rig.move(after);
      rig.paid("tiny");
      // The bridge's output is still too small to be one: nothing has changed.
      rig.move(after);
      expect(rig.refusals).toEqual([]);
      expect(rig.box.context.records.left("B", rig.state.books.cursors.B)).toBe(4);
    }
  });

  test("that are used up end payments, and nothing else", () => {
    const rig = new Rig({ charge: { A: 9, B: 60, H: 40 } }).open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.paid("toll");
    rig.move(rig.view(1000));
    rig.step({ revoked: rig.revoked() });
    rig.pay("another", 1000);
    expect(rig.refusals).toEqual(["records-used-up"]);
    rig.close(198_000, 1000);
    expect(rig.refusals).toEqual(["records-used-up"]);
    expect(rig.closes).toHaveLength(1);
  });
});
