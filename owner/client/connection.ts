/** The owner's computer as a client of the gateway: one question, one answer, over the authenticated link. */

import { codeOf, lngateError } from "../../src/errors.ts";
import { Fragments, inFragments, OWNER_MAX_MESSAGE_BYTES } from "../../src/messages/fragments.ts";
import { type FromOwner, fromOwner, type ToOwner, toOwner } from "../../src/messages/owner.ts";
import { type OpenLink, openLink } from "../../src/node/link.ts";

/** Where the gateway is, and who asks. */
export interface ConnectionOptions {
  /** `mqtt://host:port`. */
  readonly brokerUrl: string;
  /** `<device>.owner` or `<device>.pair`. */
  readonly identity: string;
  readonly password: string;
  readonly linkKey: Uint8Array;
  /** What a refused login means: code and sentence. */
  readonly refusedLogin: readonly [code: string, sentence: string];
  /** How long to wait for the session, and for an answer, ms. */
  readonly connectTimeoutMs?: number;
  readonly answerTimeoutMs?: number;
}

type AnswerTo<T extends ToOwner["type"]> = Extract<ToOwner, { type: T }>;

/** A session with the gateway in which one question is asked at a time. */
export interface OwnerConnection {
  /**
   * Rejects with the code of a `refused` answer; with `gateway-unreachable` when an answer fails to come and
   * `message-…` when it can't be read: then the connection is closed.
   */
  ask<T extends ToOwner["type"]>(question: FromOwner, ...expected: readonly T[]): Promise<AnswerTo<T>>;
  /** MQTT bytes so far, both ways, headers included. */
  readonly bytes: number;
  close(): void;
}

/** True for an error that the gateway answered with. */
export function wasRefused(error: unknown): boolean {
  return (error as { refused?: unknown } | null)?.refused === true;
}

const CONNECT_TIMEOUT_MS = 15_000;
/** Presigning on a small gateway takes seconds per batch, and so do oblivious transfers. */
const ANSWER_TIMEOUT_MS = 180_000;

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

/** Opens the link and waits for its session. Rejects with `gateway-unreachable` or the code of `refusedLogin`. */
export function connectOwner(options: ConnectionOptions): Promise<OwnerConnection> {
  const pieces = new Fragments();
  let opening: Waiter<OwnerConnection> | undefined;
  let waiting: Waiter<ToOwner> | undefined;
  let ended: Error | undefined;
  let timer: NodeJS.Timeout | undefined;

  /** Nothing follows; whoever waits hears why. */
  function end(why: Error): void {
    if (ended) return;
    ended = why;
    clearTimeout(timer);
    link.close();
    opening?.reject(why);
    waiting?.reject(why);
  }
  function unreachable(why: string): Error {
    return lngateError(
      "gateway-unreachable",
      `the gateway at ${new URL(options.brokerUrl).host} can't be reached (${why}); is it running, and is this computer in its network?`,
    );
  }
  function endAfter(ms: number, why: () => Error): void {
    clearTimeout(timer);
    timer = setTimeout(() => end(why()), ms);
  }

  function stateChanged(state: "up" | "down", reason: string): void {
    if (state === "up") {
      // A second session: whatever was agreed on in the first is void on the other side.
      if (!opening) end(unreachable("the connection broke off"));
      clearTimeout(timer);
      opening?.resolve(connection);
      opening = undefined;
    } else if (/not authorized|bad user name/i.test(reason)) {
      end(lngateError(...options.refusedLogin));
    } else if (opening || reason.startsWith("link-")) {
      end(unreachable(reason.startsWith("link-") ? "the connection broke off" : reason));
    }
    // Otherwise the broker is away while a session is up: it is dialled again, and the session goes on.
  }

  function received(message: Uint8Array): void {
    try {
      const whole = pieces.add(message);
      if (!whole) return;
      const answer = inLines(toOwner.decode(whole));
      if (!waiting) throw lngateError("message-malformed", `"${answer.type}" answers nothing that was asked`);
      clearTimeout(timer);
      const waiter = waiting;
      waiting = undefined;
      waiter.resolve(answer);
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      end(error as Error);
    }
  }

  const link: OpenLink = openLink({
    url: options.brokerUrl,
    identity: options.identity,
    password: options.password,
    linkKey: options.linkKey,
    maxMessageBytes: OWNER_MAX_MESSAGE_BYTES,
    onMessage: received,
    onState: stateChanged,
  });

  const connection: OwnerConnection = {
    async ask<T extends ToOwner["type"]>(question: FromOwner, ...expected: readonly T[]) {
      const answer = await new Promise<ToOwner>((resolve, reject) => {
        if (ended) return reject(ended);
        if (waiting)
          return reject(lngateError("link-busy", "the gateway has not answered the last question yet"));
        waiting = { resolve, reject };
        endAfter(options.answerTimeoutMs ?? ANSWER_TIMEOUT_MS, () => unreachable("it does not answer"));
        try {
          for (const piece of inFragments(fromOwner.encode(question))) link.send(piece);
        } catch (error) {
          end(codeOf(error) === "link-down" ? unreachable("the connection broke off") : (error as Error));
        }
      });
      if (answer.type === "refused")
        throw Object.assign(lngateError(answer.code, answer.sentence), { refused: true });
      if (expected.includes(answer.type as T)) return answer as AnswerTo<T>;
      const wrong = lngateError("message-malformed", `"${answer.type}" is no answer to "${question.type}"`);
      end(wrong);
      throw wrong;
    },
    get bytes() {
      return link.traffic.bytesUp + link.traffic.bytesDown;
    },
    close: () => end(lngateError("link-down", "this connection was closed")),
  };

  return new Promise((resolve, reject) => {
    opening = { resolve, reject };
    endAfter(options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS, () => unreachable("it does not answer"));
  });
}

/** What the gateway writes is shown to the owner, who reads lines: none of its texts begins one. */
function inLines<T extends object>(answer: T): T {
  const entries = Object.entries(answer).map(([key, value]: [string, unknown]) => [
    key,
    typeof value === "string" ? value.replace(/\p{Cc}/gu, "?") : value,
  ]);
  return Object.fromEntries(entries) as T;
}
