/** A part of a step is done whole or not at all: what it changed, what it would have told, what is in flash. */
import { describe, expect, test } from "@jest/globals";
import { holderCodec } from "../../device/channel/state.ts";
import { KEY_ENTRY, KEY_TABLE_HEAD, preparedKeys } from "../../device/keys/prepared.ts";
import { makeKeyTable } from "../../owner/board/key-table.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { codeThrownBy } from "../thrown.ts";
import { spendOf } from "./attacks.ts";
import { chip, keyPair, proposalWith, recordOf } from "./parties.ts";
import { Rig } from "./rig.ts";

const keysIn = (table: Uint8Array) =>
  preparedKeys((offset, length) =>
    offset + length > table.length ? null : table.slice(offset, offset + length),
  );

/** The rig's device takes its keys from a table, as a board without a curve does. */
function withTable(
  rig: Rig,
  change: (table: Uint8Array) => void = () => {},
  table = makeKeyTable(rig.box.vault),
): Rig {
  change(table);
  const keys = keysIn(table);
  Object.defineProperties(rig.box.context, {
    pointOf: { value: keys.pointOf },
    keysFor: { value: keys.keysFor },
  });
  return rig;
}

describe("a part that is refused", () => {
  test.each([
    [
      "one damaged entry six states ahead",
      (table: Uint8Array) =>
        table.fill(0, KEY_TABLE_HEAD + 7 * KEY_ENTRY, KEY_TABLE_HEAD + 7 * KEY_ENTRY + 5),
    ],
    ["a table that ends early", (table: Uint8Array) => new DataView(table.buffer).setUint32(12, 5)],
  ])("tells no secret: %s", (_, change) => {
    const rig = withTable(new Rig().open(), change);
    const held = rig.state.holder;
    const stepped = rig.step({ holder: rig.holder(rig.view()) });
    expect(stepped.refused?.code).toBe("keys-used-up");
    expect(stepped.secret).toBeUndefined();
    expect(rig.state.holder).toBe(held);
    expect(rig.harm()).toBeNull();
    rig.box.restart();
    expect(rig.state.holder).toEqual(held);
    expect(rig.harm()).toBeNull();
  });

  test("leaves what the parts before it have done and told", () => {
    const rig = new Rig().open();
    const wrong = { ...rig.counterparty(rig.view(50_000)) };
    const stepped = rig.step({ holder: rig.holder(rig.view()), counterparty: wrong, forceClose: 1 });
    expect(stepped.refused?.code).toBe("policy-balance");
    expect(stepped.secret).toEqual(rig.box.context.secretOf(1, 0));
    expect(stepped.completeSignature).toBeUndefined();
    expect(rig.state.holder!.number).toBe(1);
    expect(rig.state.books.phase).toBe("open");
  });
});

describe("a table of another channel", () => {
  const ownersOf = (changed: Parameters<typeof proposalWith>[0]) => {
    const rig = new Rig();
    rig.proposal = proposalWith(changed);
    return makeKeyTable(rig.open().box.vault);
  };

  test("under the same number is not taken: its to_local is under another revocation key", () => {
    const other = ownersOf({ revocationBasepoint: keyPair("another bridge").point });
    const rig = withTable(new Rig().open(), undefined, other);
    const held = rig.state.holder;
    const stepped = rig.step({ holder: rig.holder(rig.view()) });
    expect([stepped.refused?.code, stepped.secret]).toEqual(["keys-used-up", undefined]);
    expect(rig.state.holder).toBe(held);
    // The same question with the table of the channel itself.
    expect(withTable(rig).step({ holder: rig.holder(rig.view()) }).refused).toBeUndefined();
  });

  test("under another number has none of our points", () => {
    const table = ownersOf({});
    const { pointOf } = keysIn(table);
    expect(pointOf(1, 0)).toEqual(new Rig().holderPoint(0));
    for (const index of [0, 2]) expect(codeThrownBy(() => pointOf(index, 0))).toBe("keys-used-up");
  });
});

describe("a state that the flash has no room for", () => {
  const nine = (rig: Rig) => Array.from({ length: 9 }, () => rig.htlc("toll", 546));
  const four = (rig: Rig) => [1, 2, 3, 4].map(i => rig.htlc(`unasked ${i}`, 600, { incoming: true }));

  test("is refused before anything of it is told, and what is there stays good", () => {
    // The journal of the smallest flash.
    const rig = new Rig({
      charge: { A: 250, B: 300, H: 250 },
      contextWith: (context, box) =>
        Object.defineProperty(context, "fits", {
          value: (changes: Parameters<typeof context.fits>[0], spareBytes: number) => {
            const bytes = changes.reduce((sum, change) => sum + (change.value?.length ?? 0), 0);
            return bytes <= room && box.vault.journal.fits(changes, spareBytes);
          },
        }),
    });
    let room = 1e6;
    rig.open();
    rig.pay("paid", 4000);
    rig.move(rig.view(0, [rig.htlc("paid", 4000)]));
    rig.paid("paid");
    rig.move(rig.view(4000));
    rig.step({ revoked: rig.revoked() });
    rig.pay("toll", 9 * 546);
    rig.refusals.length = 0;
    room = 1800;
    const before = rig.state;
    const view = rig.view(1600, [...nine(rig), ...four(rig)]);
    const stepped = rig.step({ counterparty: rig.counterparty(view), holder: rig.holder(view) });
    expect(stepped).toMatchObject({ refused: { code: "vault-full" } });
    expect([stepped.signed, stepped.secret]).toEqual([undefined, undefined]);
    expect(rig.state.holder).toBe(before.holder);
    expect(rig.state.counterparty).toBe(before.counterparty);
    // The records that were read are used up all the same.
    expect(rig.state.books.cursors.B).toBeGreaterThan(before.books.cursors.B);
    expect(rig.harm()).toBeNull();
    room = 1e6;
    expect(rig.step({ holder: rig.holder(rig.view(4000)) }).refused).toBeUndefined();
  });
});

test("a state is taken only with room for the end of its channel, and for the receipts of payments in flight", () => {
  const asked: number[] = [];
  const rig = new Rig({
    contextWith: (context, box) =>
      Object.defineProperty(context, "fits", {
        value: (changes: Parameters<typeof context.fits>[0], spareBytes: number) => {
          asked.push(spareBytes);
          return box.vault.journal.fits(changes, spareBytes);
        },
      }),
  }).open();
  rig.pay("toll", 1000);
  rig.pay("another", 1000);
  asked.length = 0;
  rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
  expect(asked).toEqual([64 + 2 * 64]);
});

test("a receipt that finds no room is no news, and does not end the device: it is told again", () => {
  let hasRoom = true;
  const rig = new Rig({
    contextWith: (context, box) =>
      Object.defineProperty(context, "fits", {
        value: (changes: Parameters<typeof context.fits>[0], spareBytes: number) =>
          hasRoom && box.vault.journal.fits(changes, spareBytes),
      }),
  }).open();
  rig.pay("toll", 1000);
  rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  hasRoom = false;
  const before = rig.state;
  rig.paid("toll");
  rig.failed("toll");
  expect(rig.state).toBe(before);
  hasRoom = true;
  rig.paid("toll");
  expect(rig.box.decided).toMatchObject([{ preimage: rig.preimage("toll") }]);
});

describe("a record", () => {
  test("that was read is overwritten in memory when it has served, or was only looked for", () => {
    const seen: Uint8Array[] = [];
    const rig = new Rig({
      contextWith: context => {
        const { records } = context;
        const read: typeof records.read = (kind, cursor) => {
          const record = records.read(kind, cursor);
          if (record !== null) seen.push(record.bytes);
          return record;
        };
        return Object.defineProperty(context, "records", { value: { ...records, read } });
      },
    }).open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.step({ spend: spendOf(rig, {}) });
    const partial = rig.half(new Uint8Array(32));
    rig.step({ holder: { ...rig.holder(rig.view()), partial } });
    rig.step({ forceClose: 1 });
    expect(rig.refusals).toEqual(["policy-own-signature"]);
    expect(seen.length).toBeGreaterThan(10);
    expect(seen.filter(bytes => bytes.some(byte => byte !== 0))).toEqual([]);
  });

  test("that has rotted is none, and neither is the last of them", () => {
    const rig = new Rig({ charge: { A: 12, B: 20, H: 10 } }).open();
    const image = rig.box.flash.image();
    for (let id = 0; id < 12; id++) {
      const at = Buffer.from(image).indexOf(recordOf("A", id).answering);
      if (at >= 0) image[at] = image[at]! ^ 1;
    }
    rig.box.flash = chip(image);
    rig.box.restart();
    expect(rig.step({ counterparty: rig.counterparty(rig.view()) }).refused?.code).toBe("records-used-up");
    expect(rig.harm()).toBeNull();
  });

  test("may be the first of as few as one payment needs, if the gateway has lost those before", () => {
    const skipTo = (id: number) => {
      const rig = new Rig({ charge: { A: 60, B: 10, H: 10 } }).open();
      rig.nextB = id;
      return rig.step({ holder: rig.holder(rig.view()) }).refused?.code;
    };
    expect([skipTo(6), skipTo(7)]).toEqual([undefined, "policy-record-skip"]);
  });
});

describe("a revoked exit", () => {
  test("is nowhere in the flash, at any moment after its secret was told", () => {
    const rig = new Rig().open();
    const revoked: Uint8Array[] = [];
    for (let i = 0; i < 12; i++) {
      const { holder } = rig.state;
      revoked.push(holder!.ownSignature, holder!.anchorSignature!, encodeValue(holderCodec, holder!));
      expect(rig.step({ holder: rig.holder(rig.view()) }).secret).toBeDefined();
      rig.step({ counterparty: rig.counterparty(rig.view()) });
      rig.step({ revoked: rig.revoked() });
      const image = Buffer.from(rig.box.flash.image());
      expect(revoked.filter(bytes => image.includes(Buffer.from(bytes)))).toEqual([]);
      expect(image.includes(Buffer.from(rig.state.holder!.ownSignature))).toBe(true);
    }
  });
});
