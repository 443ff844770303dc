import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { shortHash } from "../../device/vault/flash.ts";
import { type Change, formatJournal, type Journal, openJournal } from "../../device/vault/journal.ts";
import { type MemoryFlash, memoryFlash } from "../../device/vault/memory-flash.ts";
import { concat, toHex, u32be } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { codeFrom, contains, powerFails, powerOn, randomBytes, seeded } from "./tools.ts";

const PLACE = { firstPage: 1, areaPages: 2 };
const PAGE = 512;

function freshFlash(): MemoryFlash {
  const flash = memoryFlash(PAGE, 6);
  formatJournal(flash, PLACE);
  return flash;
}

/** Values in hex: comparing text is fast. */
type State = Map<number, string>;

function stateOf(journal: Journal): State {
  return new Map(journal.keys().map(key => [key, toHex(journal.get(key)!)]));
}
function sameState(a: State, b: State): boolean {
  return JSON.stringify([...a]) === JSON.stringify([...b]);
}

function withChanges(state: State, changes: readonly Change[]): State {
  const next = new Map([...state].sort(([a], [b]) => a - b));
  for (const { key, value } of changes) {
    if (value === null) next.delete(key);
    else next.set(key, toHex(value));
  }
  return new Map([...next].sort(([a], [b]) => a - b));
}

/** Commits of one to three changes of up to 55 bytes under six keys; the keys from 3 on are secret. */
function someCommits(random: () => number, count: number): Change[][] {
  const commits: Change[][] = [];
  for (let i = 0; i < count; i++) {
    const changes = new Map<number, Change>();
    for (let k = 0; k <= random() * 3; k++) {
      const key = Math.floor(random() * 6);
      const value = random() < 0.2 ? null : randomBytes(random, 16 + Math.floor(random() * 40));
      changes.set(key, { key, value, secret: key >= 3 });
    }
    commits.push([...changes.values()]);
  }
  return commits;
}

describe("The journal", () => {
  test("returns what was committed, also after it is opened again", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    journal.commit([
      { key: 7, value: Uint8Array.of(1, 2, 3) },
      { key: 65535, value: new Uint8Array(0) },
    ]);
    journal.commit([
      { key: 7, value: null },
      { key: 1, value: Uint8Array.of(9) },
    ]);
    for (const opened of [journal, openJournal(flash, PLACE)]) {
      expect(opened.keys()).toEqual([1, 65535]);
      expect(opened.get(1)).toEqual(Uint8Array.of(9));
      expect(opened.get(65535)).toEqual(new Uint8Array(0));
      expect(opened.get(7)).toBeNull();
      expect(opened.generation).toBe(2);
    }
  });

  test("counts a commit that changes nothing as none, and writes nothing for it", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    const before = flash.operations();
    journal.commit([]);
    journal.commit([{ key: 3, value: null }]);
    expect(journal.generation).toBe(0);
    expect(flash.operations()).toBe(before);
  });

  test("needs two programs for a commit and one more for each secret it supersedes", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    const cost = (changes: Change[]) => {
      const before = flash.operations();
      journal.commit(changes);
      return flash.operations() - before;
    };
    const value = new Uint8Array(40);
    expect(
      cost([
        { key: 1, value, secret: true },
        { key: 2, value },
      ]),
    ).toBe(2);
    expect(
      cost([
        { key: 2, value },
        { key: 3, value },
      ]),
    ).toBe(2);
    expect(cost([{ key: 1, value: Uint8Array.of(1), secret: true }])).toBe(2);
    expect(cost([{ key: 1, value: null }])).toBe(3);
  });

  test("refuses what does not fit and stays as it was", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    journal.commit([{ key: 1, value: new Uint8Array(300).fill(1) }]);
    const image = flash.image();
    expect(codeFrom(() => journal.commit([{ key: 2, value: new Uint8Array(300) }]))).toBe("vault-full");
    expect(codeFrom(() => journal.commit([{ key: 1, value: new Uint8Array(600) }]))).toBe("vault-full");
    expect(codeFrom(() => journal.commit([{ key: 70000, value: new Uint8Array(1) }]))).toBe("vault-bad-key");
    expect(
      codeFrom(() =>
        journal.commit([
          { key: 1, value: null },
          { key: 1, value: null },
        ]),
      ),
    ).toBe("vault-bad-key");
    expect(flash.image()).toEqual(image);
    journal.commit([
      { key: 1, value: null },
      { key: 2, value: new Uint8Array(300) },
    ]);
    expect(openJournal(flash, PLACE).keys()).toEqual([2]);
  });

  test("stays within its pages and wears them evenly", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    const outside = () => Buffer.concat([flash.read(0, PAGE), flash.read(5 * PAGE, PAGE)]);
    const before = outside();
    let state: State = new Map();
    for (const changes of someCommits(seeded(3), 400)) {
      if (powerFails(() => journal.commit(changes))) throw new Error("no power was cut");
      state = withChanges(state, changes);
    }
    expect(stateOf(openJournal(flash, PLACE))).toEqual(state);
    expect(outside()).toEqual(before);
    const erases = [1, 2, 3, 4].map(page => flash.erasesOf(page));
    expect(Math.min(...erases)).toBeGreaterThan(20);
    expect(Math.max(...erases) - Math.min(...erases)).toBeLessThanOrEqual(1);
  });

  test("makes room in idle time, so that the next commits erase nothing", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    const value = new Uint8Array(60);
    for (let i = 0; i < 8; i++) journal.commit([{ key: 1, value }]);
    const erases = () => flash.erasesOf(1) + flash.erasesOf(3);
    const before = erases();
    journal.tidy();
    expect(erases()).toBeGreaterThan(before);
    const tidied = erases();
    for (let i = 0; i < 7; i++) journal.commit([{ key: 1, value }]);
    expect(erases()).toBe(tidied);
    expect(openJournal(flash, PLACE).generation).toBe(15);
  });
});

describe("After a power cut", () => {
  test("at any operation of any commits, torn at any bits, the journal is as before or as after the commit", () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(300), (seed, cut) => {
        const random = seeded(seed);
        const commits = someCommits(random, 60);
        let flash = freshFlash();
        let state: State = new Map();
        let journal = openJournal(flash, PLACE);
        let generation = 0;
        flash.cutDuring(flash.operations() + cut, random);
        for (const changes of commits) {
          const next = withChanges(state, changes);
          const failed = powerFails(() => journal.commit(changes));
          if (failed) {
            // The first boot may be cut short as well, and the next one too.
            for (let boot = 0; boot < 3; boot++) {
              flash = powerOn(flash);
              if (boot < 2) flash.cutDuring(Math.floor(random() * 6), random);
              if (!powerFails(() => (journal = openJournal(flash, PLACE)))) break;
            }
            flash = powerOn(flash);
            journal = openJournal(flash, PLACE);
            const found = stateOf(journal);
            const done = journal.generation > generation;
            expect(found).toEqual(done ? next : state);
            state = found;
            flash.cutDuring(flash.operations() + Math.floor(random() * 40), random);
          } else {
            state = next;
          }
          expect(sameState(stateOf(journal), state) && journal.generation - generation <= 1).toBe(true);
          generation = journal.generation;
        }
      }),
      { numRuns: 100 },
    );
  });

  test("at every single operation of a run with compactions, nothing but the interrupted commit is undone", () => {
    const commits = someCommits(seeded(11), 40);
    const whole = freshFlash();
    const start = whole.operations();
    const uncut = openJournal(whole, PLACE);
    for (const changes of commits) uncut.commit(changes);
    const operations = whole.operations() - start;
    expect(whole.erasesOf(1)).toBeGreaterThan(3);

    const outcomes = { before: 0, after: 0 };
    for (let cut = 0; cut < operations; cut++) {
      for (let seed = 0; seed < 4; seed++) {
        const flash = freshFlash();
        const journal = openJournal(flash, PLACE);
        const random = seeded(1000 * cut + seed);
        // Every fourth cut comes so early that only a bit here and there has changed, anywhere.
        const faint = [0, 0.002];
        flash.cutDuring(start + cut, () => (seed === 3 ? faint.shift() : undefined) ?? random());
        let state: State = new Map();
        for (const changes of commits) {
          if (powerFails(() => journal.commit(changes))) {
            const found = stateOf(openJournal(powerOn(flash), PLACE));
            const isAfter = sameState(found, withChanges(state, changes));
            outcomes[isAfter ? "after" : "before"]++;
            if (!isAfter) expect(found).toEqual(state);
            break;
          }
          state = withChanges(state, changes);
        }
      }
    }
    expect(outcomes.before).toBeGreaterThan(20);
    expect(outcomes.after).toBeGreaterThan(20);
  });

  test("a secret that was superseded is nowhere in the chip once a commit or the next boot is done", () => {
    fc.assert(
      fc.property(fc.integer(), seed => {
        const random = seeded(seed);
        let flash = freshFlash();
        let journal = openJournal(flash, PLACE);
        let secret = randomBytes(random, 64);
        journal.commit([{ key: 9, value: secret, secret: true }]);
        flash.cutDuring(flash.operations() + Math.floor(random() * 60), random);
        for (let i = 0; i < 15; i++) {
          const next = random() < 0.2 ? null : randomBytes(random, 64);
          const changes = [
            { key: 9, value: next, secret: true },
            { key: 1, value: randomBytes(random, 50) },
          ];
          if (powerFails(() => journal.commit(changes))) {
            flash = powerOn(flash);
            journal = openJournal(flash, PLACE);
          }
          const kept = journal.get(9);
          for (const value of [secret, next]) {
            if (value === null) continue;
            const alive = kept !== null && Buffer.from(kept).equals(value);
            // Half of it is as good as all of it: a shorter piece must not be found either.
            expect(contains(flash, value.subarray(16, 40))).toBe(alive);
          }
          if (kept !== null) secret = kept;
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe("A damaged flash", () => {
  function used(): { flash: MemoryFlash; state: State } {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    for (const changes of someCommits(seeded(5), 12)) journal.commit(changes);
    return { flash, state: stateOf(journal) };
  }

  test("is reported for any flipped bit that matters, and no other state is ever invented", () => {
    const { flash, state } = used();
    const image = flash.image();
    const outcomes = { corrupt: 0, same: 0 };
    for (let bit = 8 * PAGE; bit < 8 * 5 * PAGE; bit += 9) {
      const damaged = image.slice();
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      const opened = memoryFlash(PAGE, 6, damaged);
      try {
        expect(sameState(stateOf(openJournal(opened, PLACE)), state)).toBe(true);
        outcomes.same++;
      } catch (error) {
        expect(codeOf(error)).toBe("vault-corrupt");
        expect(Buffer.compare(opened.image(), damaged)).toBe(0);
        outcomes.corrupt++;
      }
    }
    expect(outcomes.corrupt).toBeGreaterThan(300);
    expect(outcomes.same).toBeGreaterThan(300);
  });

  test("in its newest commit is reported, and not taken for a commit that was cut short", () => {
    const flash = freshFlash();
    const journal = openJournal(flash, PLACE);
    journal.commit([{ key: 1, value: Uint8Array.of(1) }]);
    const value = new Uint8Array(64).fill(0xa5);
    journal.commit([{ key: 1, value }]);
    const image = flash.image();
    image[Buffer.from(image).indexOf(value) + 7]! ^= 4;
    expect(codeFrom(() => openJournal(memoryFlash(PAGE, 6, image), PLACE))).toBe("vault-corrupt");
  });

  test("of random content holds no journal", () => {
    fc.assert(
      fc.property(fc.integer(), seed => {
        const random = seeded(seed);
        const image = randomBytes(random, 6 * PAGE);
        // Half of the images get past the first check: the head of an area is genuine.
        if (random() < 0.5) image.set(freshFlash().read(PAGE, 20), PAGE);
        expect(codeFrom(() => openJournal(memoryFlash(PAGE, 6, image), PLACE))).toBe("vault-corrupt");
      }),
      { numRuns: 300 },
    );
  });

  test("whose hashes are right but whose lengths are not is refused", () => {
    for (const [valueBytes, claimed] of [
      [8, 9],
      [8, 2 ** 32 - 8],
      [2 ** 32 - 4, 2 ** 32 - 4],
      [PAGE * 6, PAGE * 6],
    ] as const) {
      const flash = freshFlash();
      const item = concat([Uint8Array.of(0, 1, 0, 0), u32be(claimed), shortHash(new Uint8Array(8))]);
      const covered = concat([Uint8Array.of(0, 1, 0, 0), u32be(valueBytes), u32be(1), item]);
      const at = PAGE + 20 + 24;
      flash.program(at, concat([u32be(0), covered, shortHash(covered), new Uint8Array(8)]));
      expect(codeFrom(() => openJournal(flash, PLACE))).toBe("vault-corrupt");
    }
  });

  test("that no longer takes what is written is reported before a commit counts", () => {
    const flash = freshFlash();
    let worn = false;
    const tired = {
      ...flash,
      program: (offset: number, bytes: Uint8Array) => {
        flash.program(offset, worn ? bytes.map(byte => byte | 1) : bytes);
      },
    };
    const journal = openJournal(tired, PLACE);
    journal.commit([{ key: 1, value: Uint8Array.of(1) }]);
    worn = true;
    const commit = () => journal.commit([{ key: 1, value: Uint8Array.of(2) }]);
    expect(codeFrom(commit)).toBe("vault-corrupt");
    worn = false;
    expect(codeFrom(commit)).toBe("vault-stopped");
    expect(openJournal(powerOn(flash), PLACE).get(1)).toEqual(Uint8Array.of(1));
  });
});
