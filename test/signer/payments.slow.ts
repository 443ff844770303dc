import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { isQuestion } from "../../gateway/signer/parts.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { until, wait } from "./node.ts";
import { OWNER_SCRIPT, World } from "./world.ts";

let world: World;

beforeAll(async () => {
  world = await World.start("payments");
  await world.startNode();
});

afterAll(() => world?.stop());

beforeEach(() => {
  world.calls.length = 0;
  world.device.asked.length = 0;
});

/** What was asked during some work, message by message, numbers counted from the newest states before it. */
async function askedDuring(work: () => Promise<void>): Promise<string[][]> {
  const { holderNumber, counterpartyNumber } = world.book;
  world.device.asked.length = 0;
  await work();
  await world.rest();
  return world.device.asked.map(message =>
    message.map(id => {
      const [kind, number] = id.split("/");
      return `${kind} ${Number(number) - (kind === "holder" ? holderNumber : counterpartyNumber)}`;
    }),
  );
}

/** LDK's questions but those for points, which never wait. */
const calls = () => world.calls.filter(call => !call.startsWith("point"));

/** Each answer that comes from the device was "not now" when LDK asked for the first time. */
function expectErrFirst(): void {
  const asked = new Set<string>();
  for (const call of calls()) {
    const [what, answer] = call.split(" ") as [string, string];
    if (what.startsWith("validate") || asked.has(what)) continue;
    asked.add(what);
    expect(`${what} ${answer}`).toBe(`${what} err`);
  }
}

describe("a channel between a device that answers late and an LDK peer", () => {
  test("opens with exit 0 held before the funding transaction is signed", async () => {
    await world.openChannel();
    expect(world.device.asked).toEqual([["counterparty/0"], ["holder/0"], ["funding"]]);
    expect(calls()).toEqual(["sign_counterparty(0) err", "sign_counterparty(0) ok", "validate_holder(0) ok"]);
    expect(world.device.exits.has(0)).toBe(true);
  });

  test("pays in two round trips before the bridge forwards, and one after the preimage", async () => {
    const asked = await askedDuring(() => world.pay(50_000_000));
    expect(asked).toEqual([["counterparty 1"], ["holder 1"], ["revocation 0", "holder 2", "counterparty 2"]]);
    expect(calls()).toEqual([
      "sign_counterparty(1) err",
      "sign_counterparty(1) ok",
      "validate_revocation(0) ok",
      "validate_holder(1) ok",
      "release(0) err",
      "release(0) ok",
      "validate_holder(2) ok",
      "release(1) err",
      "sign_counterparty(2) err",
      "sign_counterparty(2) ok",
      "release(1) ok",
      "validate_revocation(1) ok",
    ]);
    expectErrFirst();
  });

  test("has the preimage before the last round trip", async () => {
    world.device.delayMs = 40;
    const hash = world.startPayment(20_000_000);
    await until("paid", () => world.node.has("sent", hash));
    expect(world.book.wants().filter(isQuestion).length).toBeGreaterThan(0);
    await world.rest();
    world.device.delayMs = 5;
  });

  test("asks the same for a payment too small for an output of its own", async () => {
    const before = world.book.toPlain().counterparty[0]!.content.content;
    const asked = await askedDuring(() => world.pay(100_000));
    expect(asked).toEqual([
      ["revocation -1", "counterparty 1"],
      ["holder 1"],
      ["revocation 0", "holder 2", "counterparty 2"],
    ]);
    const after = world.book.toPlain().counterparty[0]!.content.content;
    expect(after.htlcs).toEqual([]);
    expect(before.toCountersignatorySat - after.toCountersignatorySat).toBe(102);
  });

  test("receives in three round trips", async () => {
    const asked = await askedDuring(async () => {
      const hash = world.startInboundPayment(5_000_000);
      await until("received", () => world.node.has("claimed", hash));
    });
    expect(asked).toEqual([
      ["revocation -1", "holder 1", "counterparty 1"],
      ["revocation 0", "counterparty 2"],
      ["holder 2"],
    ]);
    expectErrFirst();
  });

  test("takes a failed payment back", async () => {
    world.shop.failIncoming = true;
    const before = world.book.toPlain().counterparty[0]!.content.content;
    const asked = await askedDuring(async () => {
      const hash = world.startPayment(30_000_000);
      await until("failed", () => world.node.has("failed", hash));
    });
    world.shop.failIncoming = false;
    expect(asked).toEqual([
      ["revocation -1", "counterparty 1"],
      ["holder 1"],
      ["revocation 0", "holder 2", "counterparty 2"],
    ]);
    expect(world.book.toPlain().counterparty[0]!.content.content).toEqual(before);
  });

  test("pays twice at a time in five round trips", async () => {
    const asked = await askedDuring(async () => {
      const hashes = [world.startPayment(10_000_000), world.startPayment(11_000_000)];
      await until("both paid", () => hashes.every(hash => world.node.has("sent", hash)));
    });
    // The second HTLC waits for the first one's commitment, and goes along with its revocation.
    expect(asked.slice(0, 3)).toEqual([
      ["revocation -1", "counterparty 1"],
      ["revocation 0", "holder 1", "counterparty 2"],
      ["holder 2"],
    ]);
    expect(asked.length).toBeLessThanOrEqual(5);
  });

  test("pays ten times at a time, in fewer round trips than ten payments take", async () => {
    const asked = await askedDuring(async () => {
      const hashes = [...Array(10)].map((_, i) => world.startPayment(1_000_000 + 50_000 * i));
      await until("all paid", () => hashes.every(hash => world.node.has("sent", hash)));
    });
    expect(asked.length).toBeLessThan(20);
  });

  test("follows a change of the feerate in two round trips", async () => {
    const asked = await askedDuring(async () => {
      world.node.feerate = 1500;
      world.node.tick();
      await until("asked", () => world.device.asked.length > 0);
      await world.rest();
    });
    expect(asked).toEqual([["revocation -1", "counterparty 1"], ["holder 1"]]);
    expect(world.book.toPlain().counterparty[0]!.content.content.feeratePerKw).toBe(1500);
  });

  test("tells the device the bridge's secret and next point soon after a payment, and not while somebody waits for one", async () => {
    const told = () => world.book.wants().flatMap(part => (part.kind === "revocation" ? [part] : []));
    await world.pay(3_000_000);
    const [revocation] = told();
    expect(revocation!.number).toBe(world.book.counterpartyNumber - 1);
    // Nothing waits for it …
    expect(world.book.wants().some(isQuestion)).toBe(false);
    world.device.asked.length = 0;
    world.isAwaited = false;
    await until("acknowledged", () => told().length === 0);
    world.isAwaited = true;
    expect(world.device.asked).toEqual([[revocation!.id]]);
    // … and it is the point of the bridge's next state, whose step does without them then.
    expect((await askedDuring(() => world.pay(3_000_000)))[0]).toEqual(["counterparty 1"]);
    expect(world.device.points.get(revocation!.number + 2)).toEqual(revocation!.nextPoint);
  });

  test("does not pass on a wrong signature or secret, and goes on when the device has come to its senses", async () => {
    const { device, signer, channel } = world;
    for (const [kind, code] of [
      ["counterparty", "bad-signature"],
      ["holder", "bad-secret"],
    ] as const) {
      device.lieAbout = kind;
      const hash = world.startPayment(4_000_000);
      await until("lied", () => world.problems.length > 0);
      await wait(30);
      expect(new Set(world.problems.map(problem => problem.code))).toEqual(new Set([code]));
      world.problems.length = 0;
      device.lieAbout = null;
      signer.askAgain(channel.keysId);
      await until("paid", () => world.node.has("sent", hash));
      await world.rest();
    }
    expect(world.node.closed).toEqual([]);
  });

  test("has had every commitment rebuilt by the device, and none was different from LDK's", () => {
    // The device signs what it rebuilt; the book takes a signature only for LDK's own transaction.
    expect(world.device.rebuilt).toBeGreaterThan(40);
    expect(world.problems).toEqual([]);
    expect(world.node.closed).toEqual([]);
  });
});

describe("a gateway that is killed", () => {
  /** A payment that was never stored is not known after the restart. */
  const isKnown = (hash: Uint8Array) =>
    world.node.manager
      .list_recent_payments()
      .some(each => "payment_hash" in each && toHex(each.payment_hash as Uint8Array) === toHex(hash));

  test.each([0, 1, 2])(
    "with round trip %d of a payment unanswered completes it after the restart",
    async which => {
      world.device.delayMs = 20;
      const hash = world.startPayment(15_000_000);
      await until("asked", () => world.device.asked.length > which);
      world.device.silent = true;
      await wait(30);
      const wanted = world.book.wants().map(part => part.id);
      await world.restartNode();
      await wait(30);
      expect(world.book.wants().map(part => part.id)).toEqual(wanted);
      world.device.silent = false;
      world.signer.askAgain(world.channel.keysId);
      await until("paid", () => world.shop.has("claimed", hash));
      await world.rest();
      world.device.delayMs = 5;
    },
  );

  test("at any moment of a payment completes it after the restart, or has never sent it", async () => {
    world.device.delayMs = 10;
    let completed = 0;
    for (let moment = 0; moment < 10; moment++) {
      const hash = world.startPayment(2_000_000 + 1000 * moment);
      await wait(3 + 8 * moment);
      await world.restartNode();
      await until("usable again", () => world.usable());
      await until("decided", () => world.shop.has("claimed", hash) || !isKnown(hash));
      await world.rest();
      if (world.shop.has("claimed", hash)) completed++;
    }
    expect(completed).toBeGreaterThan(5);
    expect(world.node.closed).toEqual([]);
    expect(world.problems).toEqual([]);
    world.device.delayMs = 5;
  });
});

describe("an answer of the device", () => {
  test.each(["before the bridge is back", "between its connection and its channel_reestablish"])(
    "%s waits for the channel_reestablish",
    async when => {
      for (let trip = 0; trip < 3; trip++) {
        await until("usable", () => world.usable());
        const { device, signer, node } = world;
        // The answers to this round trip are kept back; those to the ones before are given.
        const deliver = device.deliver;
        const kept: Parameters<typeof deliver>[] = [];
        device.asked.length = 0;
        device.deliver = (...answer) => {
          if (device.asked.length > trip) kept.push(answer);
          else deliver(...answer);
        };
        const hash = world.startPayment(6_000_000);
        await until("asked", () => device.asked.length > trip && kept.length > 0);
        await wait(20);
        node.disconnect();
        await until("the bridge is away", () => !world.bridge.isConnected(node.id));
        const release = () => {
          device.deliver = deliver;
          for (const answer of kept) deliver(...answer);
        };
        if (when.startsWith("before")) release();
        const { peerConnected } = signer;
        signer.peerConnected = nodeId => {
          peerConnected.call(signer, nodeId);
          signer.peerConnected = peerConnected;
          if (!when.startsWith("before")) release();
        };
        await world.connect();
        await until("paid", () => world.shop.has("claimed", hash));
        await world.rest();
        expect([...node.closed, ...world.bridge.closed]).toEqual([]);
      }
    },
  );
});

describe("a mutual close", () => {
  test("waits for a silent device, and pays the owner", async () => {
    await until("usable", () => world.usable());
    world.device.silent = true;
    const details = world.node.channelWith(world.bridge.id)!;
    expect(world.node.manager.close_channel(details.get_channel_id(), world.bridge.id).is_ok()).toBeTruthy();
    world.node.pump();
    await until("a closing signature is asked for", () => world.signer.closingPending);
    for (let i = 0; i < 5; i++) world.node.tick();
    await wait(20);
    expect(world.node.ticksHeld).toBe(5);
    expect(world.node.closed).toEqual([]);
    world.device.silent = false;
    world.signer.askAgain(world.channel.keysId);
    await until("closed", () => world.node.closed.length > 0 && world.bridge.closed.length > 0);
    expect(world.node.closed).toEqual(["ClosureReason_LocallyInitiatedCooperativeClosure"]);
    expectErrFirst();
    // Two different transactions: the first proposal, and the fee that both agree on.
    const { closings } = world.book.toPlain();
    expect(closings.length).toBe(2);
    await world.mine(1);
    const { total_amount } = await world.chain.rpc<{ total_amount: number }>("scantxoutset", [
      "start",
      [`raw(${toHex(OWNER_SCRIPT)})`],
    ]);
    expect(Math.round(total_amount * 1e8)).toBe(closings[1]!.content.toHolderSat);
  });
});
