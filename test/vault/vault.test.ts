import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { openVaultToCharge, writeOwnersWord } from "../../device/vault/charging.ts";
import { hmacDrbg } from "../../device/vault/drbg.ts";
import { metered } from "../../device/vault/flash.ts";
import { encodeIdentity } from "../../device/vault/identity.ts";
import { openJournal } from "../../device/vault/journal.ts";
import { type MemoryFlash, memoryFlash } from "../../device/vault/memory-flash.ts";
import {
  formatVault,
  OWNERS_KEY,
  openVault,
  pairedIdentity,
  RESERVED_KEYS,
  recordArea,
  wipeVault,
} from "../../device/vault/vault.ts";
import { ascii, concat, toHex } from "../../src/bytes/bytes.ts";
import { hmacSha256, sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { codeFrom, contains, powerFails, powerOn, randomBytes, seeded, someIdentity } from "./tools.ts";

const identity = someIdentity();

function freshVault(pageCount = 64): MemoryFlash {
  const flash = memoryFlash(4096, pageCount);
  formatVault(flash, identity);
  return flash;
}

/** Records that are nothing but random, `count` of A and H and half as many again of B. */
function charge(flash: MemoryFlash, count: number, random = seeded(1)): void {
  const vault = openVaultToCharge(flash);
  vault.records.append({ kind: "A", epoch: 1, firstId: 0, count, records: randomBytes(random, 64 * count) });
  const more = (count * 3) / 2;
  vault.records.append({
    kind: "B",
    epoch: 1,
    firstId: 0,
    count: more,
    records: randomBytes(random, 96 * more),
    mac: randomBytes(random, 64),
  });
  vault.records.append({ kind: "H", epoch: 1, firstId: 0, count, records: randomBytes(random, 64 * count) });
}

describe("A vault", () => {
  test("gives back the identity it was made with", () => {
    expect(openVault(freshVault()).identity).toEqual(identity);
  });

  test("takes the owner's word on limits and height in the place of what it was paired with, whole or not at all", () => {
    const policy = { ...identity.policy, perPaymentMsat: 7000, payees: [identity.fundingKey] };
    const word = { policy, height: 900_000, time: 1_800_000_000 };
    const told = { ...identity, policy, birthHeight: word.height, birthTime: word.time };
    const random = seeded(5);
    let changed = 0;
    for (let operation = 0; operation < 8; operation++) {
      const flash = freshVault();
      const { capacity } = openVault(flash).journal;
      flash.cutDuring(flash.operations() + operation, random);
      const failed = powerFails(() => writeOwnersWord(flash, word));
      const after = openVault(powerOn(flash));
      if (failed && after.identity.birthHeight === identity.birthHeight) {
        expect(after.identity).toEqual(identity);
        continue;
      }
      changed++;
      expect(after.identity).toEqual(told);
      // The channel has so much less room.
      expect(after.journal.capacity).toBeLessThan(capacity);
      expect(after.journal.keys()).toEqual([]);
    }
    expect(changed).toBeGreaterThan(1);
  });

  test("of an earlier version is named as such, and not touched", () => {
    const image = freshVault().image();
    image.set([0x4c, 0x47, 0x56, 0x31]);
    const flash = memoryFlash(4096, 64, image);
    expect(codeFrom(() => openVault(flash))).toBe("vault-outdated");
    expect(flash.image()).toEqual(image);
  });

  test("is not found where a head that is whole says what cannot be", () => {
    const image = freshVault().image();
    /** A head with the hash that belongs to it. */
    const code = (change: (head: DataView) => void) => {
      const changed = image.slice();
      const head = new DataView(changed.buffer, 0, 24);
      change(head);
      const identityBytes = changed.subarray(24, 24 + head.getUint16(6));
      changed.set(sha256(concat([changed.subarray(0, 16), identityBytes])).subarray(0, 8), 16);
      return codeFrom(() => openVault(memoryFlash(4096, 64, changed)));
    };
    expect(code(head => head.setUint32(0, 0x4c475699))).toBe("vault-corrupt");
    expect(code(head => head.setUint16(6, 3521))).toBe("vault-corrupt");
    expect(code(head => head.setUint32(8, 2048))).toBe("vault-corrupt");
    expect(code(head => head.setUint32(12, 65))).toBe("vault-corrupt");
    // One page of identity and the journal's two areas leave none for records.
    expect(code(head => head.setUint32(12, 1 + 2 * head.getUint16(4)))).toBe("vault-corrupt");
    expect(code(head => head.setUint16(4, 32))).toBe("vault-corrupt");
  });

  test("has room in one page of identity, the journal's six and three for records, and not in less", () => {
    expect(openVault(freshVault(10)).identity).toEqual(identity);
    expect(codeFrom(() => freshVault(9))).toBe("vault-too-small");
  });

  test("draws and checks its records with keys of their own, of the identity's seed", () => {
    const flash = freshVault();
    const entropy = Uint8Array.of(7, 7);
    const label = concat([ascii("lngate/vault/1"), entropy]);
    const first = hmacDrbg(identity.drbgSeed, Uint8Array.of(0, 0, 0, 1), label);
    expect(openVault(flash, entropy).drbg.generate(32)).toEqual(first.generate(32));
    expect(recordArea(flash).key).toEqual(hmacSha256(identity.drbgSeed, ascii("lngate/vault/records")));
  });

  test("tells how much room the owner's word has left, and what fits into it", () => {
    const flash = freshVault();
    const { capacity } = openVault(flash).journal;
    writeOwnersWord(flash, { policy: identity.policy, height: 900_000, time: 1_800_000_000 });
    const { journal } = openVault(flash);
    const word = openJournal(flash, pairedIdentity(flash).place).get(OWNERS_KEY)!;
    expect(capacity - journal.capacity).toBe(word.length + 16);
    const change = (length: number) => [{ key: 1, value: new Uint8Array(length) }];
    expect([journal.fits(change(100), 0), journal.fits(change(100), capacity)]).toEqual([true, false]);
  });

  test("tidies its journal in idle time", () => {
    const flash = freshVault();
    const { journal } = openVault(flash);
    for (let i = 0; i < 12; i++) journal.commit([{ key: 1, value: new Uint8Array(1000).fill(i) }]);
    const before = flash.image();
    journal.tidy();
    expect(flash.image()).not.toEqual(before);
    expect(openVault(powerOn(flash)).journal.get(1)).toEqual(new Uint8Array(1000).fill(11));
  });

  test("takes no word that is none", () => {
    const flash = freshVault();
    const { policy } = identity;
    for (const wrong of [
      { minFeeratePerKw: 9000 },
      { perPaymentMsat: -1 },
      { payees: [new Uint8Array(33)] },
    ]) {
      const word = { policy: { ...policy, ...wrong }, height: 1, time: 1 };
      expect(codeFrom(() => writeOwnersWord(flash, word))).toBe("identity-malformed");
    }
    expect(openVault(flash).identity).toEqual(identity);
  });

  test("counts its boots and draws something else in each", () => {
    const flash = freshVault();
    const drawn = new Set<string>();
    for (let boot = 1; boot <= 20; boot++) {
      const vault = openVault(boot % 2 ? flash : powerOn(flash));
      if (boot % 2) expect(vault.boots).toBe((boot + 1) / 2);
      if (boot % 2) for (let i = 0; i < 3; i++) drawn.add(toHex(vault.drbg.generate(16)));
    }
    expect(drawn.size).toBe(30);
    expect(openVault(flash).journal.generation).toBe(11);
  });

  test("draws nothing twice even if every boot is cut short somewhere", () => {
    let flash = freshVault();
    const drawn: string[] = [];
    const random = seeded(8);
    for (let boot = 0; boot < 60; boot++) {
      flash.cutDuring(flash.operations() + Math.floor(random() * 30), random);
      powerFails(() => {
        const vault = openVault(flash);
        drawn.push(toHex(vault.drbg.generate(32)));
        for (let i = 0; i < 3; i++) vault.journal.commit([{ key: 1, value: vault.drbg.generate(32) }]);
      });
      flash = powerOn(flash);
    }
    expect(drawn.length).toBeGreaterThan(10);
    expect(new Set(drawn).size).toBe(drawn.length);
  });

  test("lets a board add randomness of its own", () => {
    const flash = freshVault();
    const draw = (entropy?: Uint8Array) => toHex(openVault(powerOn(flash), entropy).drbg.generate(16));
    expect(draw()).toBe(draw());
    expect(draw(Uint8Array.of(1))).not.toBe(draw());
  });

  test("keeps its own keys to itself", () => {
    const vault = openVault(freshVault());
    vault.journal.commit([{ key: 5, value: Uint8Array.of(1) }]);
    expect(vault.journal.keys()).toEqual([5]);
    expect(vault.journal.get(RESERVED_KEYS)).toBeNull();
    const intrusion = () => vault.journal.commit([{ key: RESERVED_KEYS, value: new Uint8Array(4) }]);
    expect(codeFrom(intrusion)).toBe("vault-bad-key");
  });

  test("is not made over another, and not found where there is none", () => {
    const flash = freshVault();
    expect(codeFrom(() => formatVault(flash, someIdentity(2)))).toBe("vault-exists");
    expect(openVault(flash).identity).toEqual(identity);
    wipeVault(flash);
    expect(codeFrom(() => openVault(flash))).toBe("vault-empty");
    for (const secret of [identity.linkKey, identity.drbgSeed, identity.commitmentMaster]) {
      expect(contains(flash, secret)).toBe(false);
    }
    formatVault(flash, someIdentity(2));
    expect(openVault(flash).identity).toEqual(someIdentity(2));
    expect(codeFrom(() => formatVault(memoryFlash(4096, 6), identity))).toBe("vault-too-small");
  });

  test("opens from an image that is smaller than the chip", () => {
    const image = freshVault(32).image();
    const chip = concat([image, new Uint8Array(32 * 4096).fill(255)]);
    expect(openVault(memoryFlash(4096, 64, chip)).identity).toEqual(identity);
    const cut = memoryFlash(4096, 16, image.slice(0, 16 * 4096));
    expect(codeFrom(() => openVault(cut))).toBe("vault-corrupt");
  });

  test("of 256 kB holds the records of 360 payments and a state of 8 kB; of 1 MiB those of 1,580", () => {
    const small = freshVault(64);
    charge(small, 720);
    openVault(small).journal.commit([{ key: 1, value: new Uint8Array(7900) }]);
    charge(freshVault(256), 3160);
  });

  test("with any bit of its identity flipped, or of random content, is no vault and stays untouched", () => {
    const flash = freshVault(32);
    const image = flash.image();
    fc.assert(
      fc.property(fc.nat(8 * (24 + encodeIdentity(identity).length) - 1), bit => {
        const damaged = image.slice();
        damaged[bit >> 3]! ^= 1 << (bit & 7);
        const opened = memoryFlash(4096, 32, damaged);
        expect(codeFrom(() => openVault(opened))).toBe("vault-corrupt");
        expect(opened.operations()).toBe(0);
      }),
      { numRuns: 200 },
    );
    const noise = memoryFlash(4096, 32, randomBytes(seeded(1), 32 * 4096));
    expect(codeFrom(() => openVault(noise))).toBe("vault-corrupt");
  });
});

describe("A payment's writes", () => {
  test("use no more programs than two per commit, one per secret superseded and one per record", () => {
    const flash = freshVault();
    charge(flash, 100);
    const meter = metered(flash);
    const vault = openVault(meter.flash);
    const before = meter.use();
    const cursors = { A: 0, B: 0, H: 0 };
    // The three commits of a payment: an answer; an exit and a secret; exit, anchor and answer.
    for (const used of ["AH", "B", "BBA"]) {
      for (const kind of used.split("") as ("A" | "B" | "H")[]) {
        cursors[kind] = vault.records.read(kind, cursors[kind])!.id + 1;
      }
      vault.journal.commit([
        { key: 1, value: new Uint8Array(100) },
        { key: 2, value: new Uint8Array(300).fill(7), secret: true },
      ]);
      for (const kind of ["A", "B", "H"] as const) vault.records.erase(kind, cursors[kind]);
    }
    const after = meter.use();
    expect(after.programs - before.programs).toBe(3 * 2 + 2 + 6);
    expect(after.programmedBytes - before.programmedBytes).toBeLessThan(3000);
    expect(after.erases).toBe(before.erases);
  });
});

describe("A device whose power is cut", () => {
  test("has for every record either its answer or the untouched record, never another chance", () => {
    fc.assert(
      fc.property(fc.integer(), seed => {
        const random = seeded(seed);
        const prepared = freshVault(16);
        charge(prepared, 20, seeded(7));
        const records = openVault(powerOn(prepared)).records;
        const genuine: string[] = [];
        for (let id = 0; id < 20; id++) genuine.push(toHex(records.read("A", id)!.bytes));

        let flash = powerOn(prepared);
        const answered = new Map<number, string>();
        for (let life = 0; life < 6; life++) {
          flash.cutDuring(flash.operations() + Math.floor(random() * 25), random);
          powerFails(() => {
            const vault = openVault(flash);
            const state = vault.journal.get(1);
            let cursor = state === null ? 0 : state[0]!;
            vault.records.erase("A", cursor);
            for (;;) {
              const record = vault.records.read("A", cursor);
              if (record === null) return;
              // A record that is still given out never answered anything.
              expect(answered.has(record.id)).toBe(false);
              expect(toHex(record.bytes)).toBe(genuine[record.id]);
              cursor = record.id + 1;
              const answer = vault.drbg.generate(40);
              vault.journal.commit([
                { key: 1, value: Uint8Array.of(cursor) },
                {
                  key: 100 + (record.id % 5),
                  value: concat([Uint8Array.of(record.id), answer]),
                  secret: true,
                },
              ]);
              answered.set(record.id, toHex(answer));
              vault.records.erase("A", cursor);
            }
          });
          flash = powerOn(flash);
        }
        // What is in the chip at the end: the last answers whole, and no record that was used.
        const vault = openVault(flash);
        const cursor = vault.journal.get(1)?.[0] ?? 0;
        vault.records.erase("A", cursor);
        for (let id = 0; id < cursor; id++) {
          expect(contains(flash, Buffer.from(genuine[id]!.slice(0, 40), "hex"))).toBe(false);
          const kept = vault.journal.get(100 + (id % 5))!;
          if (kept[0] === id && answered.has(id)) expect(toHex(kept.slice(1))).toBe(answered.get(id));
        }
        for (const id of answered.keys()) expect(id).toBeLessThan(cursor);
      }),
      { numRuns: 40 },
    );
  });

  test("in the middle of being made is no vault yet, or a whole one", () => {
    const whole = freshVault(16);
    for (let cut = 0; cut < whole.operations(); cut++) {
      const flash = memoryFlash(4096, 16);
      flash.cutDuring(cut, seeded(cut));
      expect(powerFails(() => formatVault(flash, identity))).toBe(true);
      try {
        expect(openVault(powerOn(flash)).identity).toEqual(identity);
      } catch (error) {
        expect(["vault-empty", "vault-corrupt"]).toContain(codeOf(error));
      }
    }
  });
});
