/**
 * The device as it runs on a board: it carries out the effects of the channel's state machine
 * (channel/machine.ts) in their order, keeps the link alive, and gives requests (requests.ts) the
 * news that decide them.
 *
 *     const device = openDevice(board);
 *     device.connect().then(() => device.pay(invoice, { maxFeeMsat: 3000 })).then(receipt => openTheGate());
 */
import { codeOf, lngateError } from "../src/errors.ts";
import { type LinkEffect, linkClient } from "../src/link/session.ts";
import { linkTopic } from "../src/link/topics.ts";
import {
  MAX_MESSAGE_BYTES,
  type ToDevice,
  type ToGateway,
  toDevice,
  toGateway,
} from "../src/messages/device.ts";
import type { Balance, Device } from "./api.ts";
import type { Board, MqttConnection } from "./board.ts";
import { contextOf } from "./board-context.ts";
import type { Effect } from "./channel/context.ts";
import { latestChannel } from "./channel/exiting.ts";
import { type Input, transition } from "./channel/machine.ts";
import { inFlightMsat, spendableMsat } from "./channel/payments/balance.ts";
import { type ChannelState, readState } from "./channel/state.ts";
import { exitText } from "./exit-text.ts";
import { idleWork } from "./idle.ts";
import { openRequests, rejectAll, resolveAll, type Waiter } from "./requests.ts";
import { RECORD_KINDS } from "./vault/records.ts";

const LONGEST_TICK_MS = 60000;
/** How long the application has its turn after a receipt: on a chip a timer of 0 ms rings before promises are kept. */
const REST_MS = 20;
/** How long `disconnect()` waits for what a receipt has begun. */
const LEAVE_MS = 2000;

/** Opens the device that lives in the board's vault. */
export function openDevice(board: Board): Device {
  let channel = readState(board.vault.journal);
  // Clears the bits of records that were used when the power failed before they were cleared.
  const { cursors } = channel.books;
  for (const kind of RECORD_KINDS) board.vault.records.erase(kind, cursors[kind]);
  const context = contextOf(board);
  const newLink = () =>
    linkClient({
      crypto: { aes256Ctr: board.aes256Ctr, random: length => board.vault.drbg.generate(length) },
      linkKey: board.vault.identity.linkKey,
      maxMessageBytes: MAX_MESSAGE_BYTES,
      // `hello` (channel/machine.ts).
      speaksAtOnce: true,
    });
  let link = newLink();
  let mqtt: MqttConnection | null = null;
  /** The broker is reached; whether the gateway is, the link knows. */
  let online = false;
  let offlineBecause = "";
  let cancelTick: () => void = () => {};
  const inbox: ToDevice[] = [];
  /** The application has its turn before the rest of a step is worked on. */
  let resting = false;
  let cancelRest: () => void = () => {};
  /** Most that the bridge lets be in flight, as the gateway says; what is more it refuses (`in-flight-limit`). */
  let mostInFlightMsat = Number.POSITIVE_INFINITY;
  const requests = openRequests({ board, channel: () => channel, isConnected, ensureConnection, run });
  const idle = idleWork({
    board,
    context,
    channel: () => channel,
    isAwaited: () => resting || requests.isWaiting(),
    run,
  });
  const connecting: Waiter<void>[] = [];
  const settling: Waiter<void>[] = [];
  const leaving: (() => void)[] = [];
  let cancelLeave: () => void = () => {};

  function connect(): Promise<void> {
    if (leaving.length > 0) leave();
    if (mqtt === null) {
      const { identity } = board.vault;
      mqtt = board.mqtt({
        url: identity.brokerUrl,
        username: identity.deviceId,
        password: identity.brokerPassword,
        publishTopic: linkTopic(identity.deviceId, "up"),
        subscribeTopic: linkTopic(identity.deviceId, "down"),
        onOpen: () => {
          online = true;
          linked(link.connected(board.ticks()));
          // Where a session has outlived the connection no other one begins.
          connected();
        },
        onMessage: payload => linked(link.receive(payload, board.ticks())),
        onClose: reason => {
          online = false;
          offlineBecause = ` (${reason})`;
        },
      });
    }
    if (isConnected()) return Promise.resolve();
    return new Promise((resolve, reject) => connecting.push({ resolve, reject }));
  }

  function isConnected(): boolean {
    return online && link.isUp() && leaving.length === 0;
  }

  function connected(): void {
    if (isConnected()) resolveAll(connecting, undefined);
  }

  /** Nothing that was paid is still in a commitment. */
  function isSettled(): boolean {
    return inbox.length === 0 && !resting && channel.payments.every(p => !p?.preimage || p.settled === true);
  }

  function settled(): Promise<void> {
    return new Promise((resolve, reject) => {
      settling.push({ resolve, reject });
      ended();
    });
  }

  /** A step may have ended, and the gateway may have confirmed what it was told of it. */
  function ended(): void {
    if (!isSettled()) return;
    if (mqtt !== null && link.nextTick() !== Number.POSITIVE_INFINITY) return;
    resolveAll(settling, undefined);
    if (leaving.length > 0) leave();
  }

  function isAtRest(): boolean {
    const { books, payments, holder, counterparty } = channel;
    const views = books.phase === "none" ? [] : [holder?.view, counterparty?.view];
    return (
      payments.every(p => !p || p.settled === true) && views.every(view => !view || view.htlcs.length === 0)
    );
  }

  function balance(): Balance {
    const { books, former, parameters, holder } = channel;
    let formerSat = books.phase === "none" && parameters?.funding && holder ? holder.view.holderSat : 0;
    for (const each of former || []) formerSat += each.holder.view.holderSat;
    const left = (kind: "A" | "B" | "H") => context.records.left(kind, books.cursors[kind]);
    return {
      balanceSat: books.phase === "none" ? 0 : books.baseSat,
      spendableMsat: Math.max(
        0,
        Math.min(spendableMsat(channel, board.vault.identity), mostInFlightMsat - inFlightMsat(channel)),
      ),
      owedMsat: books.owedMsat,
      phase: books.phase,
      formerSat,
      recordsLeft: { A: left("A"), B: left("B"), H: left("H") },
      wrongAnswers: books.wrongAnswers,
      badHtlcSignature: parameters?.badHtlcSignature === true,
    };
  }

  function exit(): string {
    const { journal, identity } = board.vault;
    run({ type: "exit", index: latestChannel(channel) });
    return exitText(journal, identity);
  }

  function forget(index: number): void {
    if (!(index >= 1 && Math.floor(index) === index)) {
      throw lngateError("bad-argument", "forget() takes the number of a channel");
    }
    run({ type: "forget", index });
  }

  function disconnect(): Promise<void> {
    return new Promise(resolve => {
      leaving.push(resolve);
      if (mqtt === null || isSettled() || leaving.length > 1) leave();
      else cancelLeave = board.after(LEAVE_MS, () => leave());
    });
  }

  function leave(): void {
    cancelLeave();
    cancelTick();
    cancelRest();
    idle.stop();
    resting = false;
    if (mqtt !== null) mqtt.close();
    mqtt = null;
    online = false;
    // What came and was not worked on is gone: in another session the gateway says it again.
    link = newLink();
    inbox.length = 0;
    const gone = lngateError("gateway-unreachable", "the device was disconnected");
    rejectAll(connecting, gone);
    requests.abandon(gone);
    rejectAll(settling, gone);
    for (const resolve of leaving.splice(0)) resolve();
  }

  function ensureConnection(): void {
    if (isConnected()) return;
    const why = online ? "" : offlineBecause;
    throw lngateError(
      "gateway-unreachable",
      `there is no connection to the gateway, and nothing was done${why}`,
    );
  }

  /** Carries out what the link asks for, and sees to its clock. */
  function linked(effects: readonly LinkEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "send") {
        if (mqtt !== null) mqtt.publish(effect.bytes);
      } else if (effect.kind === "up") {
        run({ type: "connected", generation: board.vault.journal.generation });
        connected();
        requests.connected();
        idle.begin();
      } else if (effect.kind === "deliver") {
        take(effect.message);
      }
    }
    cancelTick();
    ended();
    const due = link.nextTick();
    if (due === Number.POSITIVE_INFINITY || mqtt === null) return;
    const wait = Math.max(0, Math.min(due - board.ticks(), LONGEST_TICK_MS));
    cancelTick = board.after(wait, () => linked(link.tick(board.ticks())));
  }

  function take(encoded: Uint8Array): void {
    let message: ToDevice;
    try {
      message = toDevice.decode(encoded);
    } catch (error) {
      // A gateway that talks nonsense gets no answer; it is authentic, so repeating would not help.
      if (codeOf(error) === undefined) throw error;
      return;
    }
    inbox.push(message);
    work();
  }

  /** Takes one message at a time; a receipt in a step resolves its `pay()` before the rest of the step is worked on. */
  function work(): void {
    while (inbox.length > 0 && !resting) {
      const message = inbox.shift()!;
      if (message.type === "step" && message.paid !== undefined) {
        for (const preimage of message.paid) run({ type: "message", message: { type: "paid", preimage } });
        resting = true;
        cancelRest = board.after(REST_MS, () => {
          resting = false;
          // Disconnected meanwhile: the gateway says it again.
          if (mqtt === null) return;
          finish(message);
          work();
        });
      } else {
        finish(message);
      }
    }
    ended();
  }

  function finish(message: ToDevice): void {
    if (message.type === "failed" && message.paymentHash !== undefined) {
      requests.explained(message.paymentHash, message.sentence);
    }
    run({ type: "message", message });
    if (message.type === "channel") {
      mostInFlightMsat = message.inFlightMsat || Number.POSITIVE_INFINITY;
      requests.noticed(message);
    } else if (message.type === "step") {
      requests.stepped();
    }
    idle.begin();
  }

  /** Runs a transition and carries out its effects in their order. */
  function run(input: Input): void {
    const { state, effects } = transition(channel, context, input);
    for (const effect of effects) carryOut(effect, state);
    channel = state;
  }

  function carryOut(effect: Effect, state: ChannelState): void {
    const { vault } = board;
    switch (effect.type) {
      case "persist":
        vault.journal.commit(effect.changes);
        channel = state;
        return;
      case "erase":
        vault.records.erase(effect.kind, effect.below);
        return;
      case "send":
        // What cannot be sent now is sent again when a session begins, or asked for again.
        if (link.isUp()) tell(effect.message);
        return;
      case "decided":
        requests.decided(effect.payment);
        return;
      case "notice":
        if (effect.failure) requests.failed(effect.failure);
        return;
    }
  }

  /** A gateway that acknowledges nothing is told no more: what it wants to know it asks again. */
  function tell(message: ToGateway): void {
    let effects: readonly LinkEffect[];
    try {
      effects = link.send(toGateway.encode(message), board.ticks());
    } catch (error) {
      if (codeOf(error) !== "link-busy") throw error;
      return;
    }
    linked(effects);
  }

  return {
    id: board.vault.identity.deviceId,
    connect,
    isConnected,
    settled,
    openChannel: requests.openChannel,
    pay: requests.pay,
    quote: requests.quote,
    isAtRest,
    balance,
    close: requests.close,
    exit,
    forget,
    disconnect,
  };
}
