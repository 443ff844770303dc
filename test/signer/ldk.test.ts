import { createHash } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import type { SignerChannel } from "../../gateway/signer/channel.ts";
import type { SigningPart } from "../../gateway/signer/parts.ts";
import { RemoteSigner, userChannelIdOf } from "../../gateway/signer/remote-signer.ts";
import { OP_1, p2wpkh, script } from "../../src/bitcoin/script.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeThrownBy } from "../thrown.ts";
import { TestDevice } from "./device.ts";
import { startLdk, until, wait } from "./node.ts";

const hash = (text: string) => new Uint8Array(createHash("sha256").update(text).digest());

const OWNER_SCRIPT = p2wpkh(nobleCurve.publicKey(hash("owner")));
const BRIDGE = nobleCurve.publicKey(hash("bridge"));
const FIRST_INDEX = 2n ** 48n - 1n;

let device: TestDevice;
let channel: SignerChannel;
let signer: RemoteSigner;
let asked: SigningPart[][];
let problems: string[];

beforeAll(startLdk);

beforeEach(() => {
  device = new TestDevice("unit");
  channel = {
    keysId: hash("keys id"),
    fundingSat: 100_000,
    bridge: BRIDGE,
    publicKeys: device.publicKeys,
    destinationScript: OWNER_SCRIPT,
  };
  asked = [];
  problems = [];
  signer = new RemoteSigner({
    nodeSeed: hash("node"),
    shutdownScript: OWNER_SCRIPT,
    peer: { ask: (_keysId, parts) => asked.push([...parts]) },
    problem: (_keysId, code) => problems.push(code),
  });
});

const bridgeKeys = (label: string) => nobleCurve.publicKey(hash(`bridge ${label}`));

function ldkKeys(funding: Uint8Array, point: (label: string) => Uint8Array): ldk.ChannelPublicKeys {
  return ldk.ChannelPublicKeys.constructor_new(
    funding,
    ldk.RevocationBasepoint.constructor_new(point("revocation")),
    point("payment"),
    ldk.DelayedPaymentBasepoint.constructor_new(point("delayed")),
    ldk.HtlcBasepoint.constructor_new(point("htlc")),
  );
}

const FUNDING = { txid: hash("funding"), vout: 1 };

/** What LDK provides when the funding transaction is known. */
function parameters(change: { anchors?: boolean; weFund?: boolean; funding?: Uint8Array } = {}) {
  const { basepoints } = device.publicKeys;
  return ldk.ChannelTransactionParameters.constructor_new(
    ldkKeys(
      change.funding ?? device.publicKeys.funding,
      label => basepoints[label as "revocation" | "payment" | "delayed" | "htlc"],
    ),
    144,
    change.weFund ?? true,
    ldk.CounterpartyChannelTransactionParameters.constructor_new(
      ldkKeys(bridgeKeys("funding"), bridgeKeys),
      144,
    ),
    ldk.OutPoint.constructor_new(FUNDING.txid, FUNDING.vout),
    change.anchors === false
      ? ldk.ChannelTypeFeatures.constructor_only_static_remote_key()
      : ldk.ChannelTypeFeatures.constructor_anchors_zero_htlc_fee_and_dependencies(),
  );
}

/** What LDK is given for a channel. (LDK's binding hands out no way to call it but by LDK.) */
function derive(keysId = channel.keysId, sat = channel.fundingSat) {
  const { new_impl } = ldk.EcdsaChannelSigner;
  type Given = Parameters<typeof new_impl>;
  let given: { ecdsa: Given[0]; state: Given[1]; keys: ldk.ChannelPublicKeys } | undefined;
  ldk.EcdsaChannelSigner.new_impl = (ecdsa, state, keys) => {
    given = { ecdsa, state, keys };
    return new_impl.call(ldk.EcdsaChannelSigner, ecdsa, state, keys);
  };
  signer.signerProvider.derive_channel_signer(BigInt(sat), keysId);
  ldk.EcdsaChannelSigner.new_impl = new_impl;
  return given!;
}

describe("the keys of a channel", () => {
  test("are found by the id that create_channel carries, whichever way round its bytes are", () => {
    const keysId = hash("keys id");
    // The binding takes no u128 of 2^124 or more; this byte is the highest one of the turned number.
    keysId[14] = 1;
    signer.addChannel({ ...channel, keysId }, device.firstPoints());
    const id = userChannelIdOf(keysId);
    const turned = BigInt(`0x${id.toString(16).padStart(32, "0").match(/../g)!.reverse().join("")}`);
    for (const each of [id, turned]) {
      expect(signer.signerProvider.generate_channel_keys_id(false, 100_000n, each)).toEqual(keysId);
    }
    expect(signer.signerProvider.generate_channel_keys_id(true, 100_000n, id)).not.toEqual(keysId);
  });

  test("are given to one channel only", () => {
    const book = signer.addChannel(channel, device.firstPoints());
    const id = userChannelIdOf(channel.keysId);
    book.counterpartyRevoked(0, hash("secret"));
    expect(signer.signerProvider.generate_channel_keys_id(false, 100_000n, id)).not.toEqual(channel.keysId);
    expect(codeThrownBy(() => signer.addChannel(channel, device.firstPoints()))).toBe("keys-id-taken");
  });

  test("are the given public keys", () => {
    signer.addChannel(channel, device.firstPoints());
    expect(derive().keys.get_funding_pubkey()).toEqual(device.publicKeys.funding);
  });

  test("that nobody announced are worthless: nothing is signed with them", () => {
    const keysId = signer.signerProvider.generate_channel_keys_id(true, 100_000n, 5n);
    const unknown = derive(keysId).state;
    expect(unknown.release_commitment_secret(FIRST_INDEX).is_ok()).toBeFalsy();
    expect(unknown.get_per_commitment_point(FIRST_INDEX).is_ok()).toBeTruthy();
    expect(problems).toEqual(["unknown-channel"]);
  });

  test("must be points, and the owner's script a segwit script", () => {
    const { basepoints } = device.publicKeys;
    const publicKeys = { ...device.publicKeys, basepoints: { ...basepoints, htlc: new Uint8Array(33) } };
    const bad = { ...channel, publicKeys };
    expect(codeThrownBy(() => signer.addChannel(bad, device.firstPoints()))).toBe("bad-point");
    const options = { nodeSeed: hash("node"), peer: { ask: () => {} }, problem: () => {} };
    const taproot = script([OP_1, hash("key")]);
    expect(codeThrownBy(() => new RemoteSigner({ ...options, shutdownScript: taproot }))).toBe("bad-script");
  });
});

describe("a channel that is not what was announced is refused", () => {
  test.each([
    ["without anchors", { anchors: false }],
    ["funded by the bridge", { weFund: false }],
    ["with another funding key", { funding: bridgeKeys("other") }],
  ])("%s", (_name, change) => {
    const book = signer.addChannel(channel, device.firstPoints());
    derive().state.provide_channel_parameters(parameters(change));
    expect(book.refusal).toBe("policy-channel-parameters");
    expect(problems).toEqual(["policy-channel-parameters"]);
  });

  test("of another value", () => {
    const book = signer.addChannel(channel, device.firstPoints());
    derive(channel.keysId, 99_999);
    expect(book.refusal).toBe("policy-channel-parameters");
    expect(problems).toEqual(["policy-channel-parameters"]);
  });
});

test("a peer that makes up a commitment number gets a point, and no old one", () => {
  signer.addChannel(channel, device.firstPoints());
  const state = derive().state;
  for (const index of [0n, 1n, 12345n, FIRST_INDEX - 1000n]) {
    const answer = state.get_per_commitment_point(index);
    expect(answer).toBeInstanceOf(ldk.Result_PublicKeyNoneZ_OK);
    expect((answer as ldk.Result_PublicKeyNoneZ_OK).res).toEqual(device.point(4));
  }
});

let unblocked: number;
let pendingUpdates: bigint[];

/** A node that only counts how often it was told to ask its signer again. */
function attach(): void {
  unblocked = 0;
  pendingUpdates = [];
  const channelManager = { signer_unblocked: () => void unblocked++ };
  const pending = { get_b: () => pendingUpdates };
  const chainMonitor = { signer_unblocked: () => {}, list_pending_monitor_updates: () => [pending] };
  signer.attach({
    channelManager: channelManager as unknown as ldk.ChannelManager,
    chainMonitor: chainMonitor as unknown as ldk.ChainMonitor,
    wake: () => {},
  });
}

describe("LDK is told to ask again", () => {
  /** A signer with one question answered, over such a node. */
  function answered(): void {
    const book = signer.addChannel(channel, device.firstPoints());
    derive().state.provide_channel_parameters(parameters());
    attach();
    const further = [{ number: 5, point: device.point(5) }];
    expect(book.answer({ id: "none", points: further })).toBe("manager");
  }

  const channelId = () =>
    ldk.ChannelId.constructor_v1_from_funding_outpoint(
      ldk.OutPoint.constructor_new(FUNDING.txid, FUNDING.vout),
    ).get_a();

  test("only after the channel was reestablished over the present connection", async () => {
    answered();
    await wait(10);
    expect(unblocked).toBe(0);
    signer.peerConnected(BRIDGE);
    await wait(10);
    expect(unblocked).toBe(0);
    signer.reestablished(hash("another channel"));
    await wait(10);
    expect(unblocked).toBe(0);
    signer.reestablished(channelId());
    await until("told", () => unblocked === 1);
    signer.peerDisconnected(BRIDGE);
    signer.answer(channel.keysId, [{ id: "none", points: [{ number: 6, point: device.point(6) }] }]);
    await wait(10);
    expect(unblocked).toBe(1);
    signer.peerConnected(BRIDGE);
    signer.reestablished(channelId());
    await until("told again", () => unblocked === 2);
  });

  test("only when no monitor update is still to be stored", async () => {
    answered();
    pendingUpdates = [3n];
    signer.peerConnected(BRIDGE);
    signer.reestablished(channelId());
    await wait(20);
    expect(unblocked).toBe(0);
    pendingUpdates = [];
    await until("told", () => unblocked === 1);
  });
});

test("a change of a book is given away for storing once", () => {
  const book = signer.addChannel(channel, device.firstPoints());
  expect(signer.changedBooks().map(each => each.keysId)).toEqual([channel.keysId]);
  expect(signer.changedBooks()).toEqual([]);
  book.counterpartyRevoked(0, hash("secret"));
  expect(signer.changedBooks().length).toBe(1);
});

test("parts that come up in one turn are handed over together, and again only when asked for", async () => {
  const book = signer.addChannel(channel, device.firstPoints());
  const check = { publicKey: device.publicKeys.funding, hash: hash("x") };
  const content = { feeratePerKw: 253, toBroadcasterSat: 1, toCountersignatorySat: 1, htlcs: [] };
  book.counterpartySignatures({ number: 0, point: BRIDGE, content }, hash("txid"), () => ({
    checks: [check],
  }));
  const state = { number: 0, point: device.point(0), content };
  const signatures = { counterpartySignature: hash("s"), counterpartyHtlcSignatures: [] };
  book.validateHolder({ ...state, ...signatures }, hash("txid"), () => ({ checks: [check] }));
  // LDK's callback ends with a turn.
  derive().state.get_per_commitment_point(FIRST_INDEX);
  await wait(10);
  // The device is asked once the node is there.
  expect(asked).toEqual([]);
  attach();
  await until("asked", () => asked.length > 0);
  expect(asked.map(parts => parts.map(part => part.id))).toEqual([["holder/0", "counterparty/0"]]);
  derive().state.get_per_commitment_point(FIRST_INDEX);
  await wait(10);
  expect(asked.length).toBe(1);
  signer.askAgain(channel.keysId);
  await until("asked again", () => asked.length === 2);
});

test("an answer for a channel that is not known is a problem, not an exception", () => {
  signer.answer(hash("unknown"), [{ id: "holder/0" }]);
  expect(problems).toEqual(["unknown-channel"]);
});

describe("a mutual close", () => {
  const counterpartyScript = p2wpkh(bridgeKeys("close"));
  const dustSat = 546;

  test.each([
    [1_000, 1_000],
    [dustSat, dustSat],
    [dustSat - 1, 0],
    [355, 0],
  ])(
    "that would pay the bridge %d sat is signed with %d for it, since it leaves out its own dust",
    async (sat, signedSat) => {
      signer = new RemoteSigner({
        nodeSeed: hash("node"),
        shutdownScript: OWNER_SCRIPT,
        peer: device,
        counterpartyDustLimitSat: () => dustSat,
        problem: (_keysId, code) => problems.push(code),
      });
      device.parametersOf = keysId => signer.parameters(keysId);
      device.deliver = (keysId, answers) => signer.answer(keysId, answers);
      signer.addChannel(channel, device.firstPoints());
      const { ecdsa, state } = derive();
      state.provide_channel_parameters(parameters());
      const closing = () =>
        ldk.ClosingTransaction.constructor_new(
          99_000n - BigInt(sat),
          BigInt(sat),
          OWNER_SCRIPT,
          counterpartyScript,
          ldk.OutPoint.constructor_new(FUNDING.txid, FUNDING.vout),
        );
      expect(ecdsa.sign_closing_transaction(closing()).is_ok()).toBeFalsy();
      expect(signer.book(channel.keysId)!.wants()).toMatchObject([
        { kind: "closing", toHolderSat: 99_000 - sat, toCounterpartySat: signedSat },
      ]);
      expect(problems).toEqual([]);
    },
  );
});
