/** What the core needs of a board: one adapter each in boards/. The core knows no platform but through this. */
import type { PublicCurve } from "../src/crypto/curve.ts";
import type { LinkCrypto } from "../src/link/envelope.ts";
import type { KeySource } from "./channel/context.ts";
import type { Vault } from "./vault/vault.ts";

/** A connection to the broker, and who hears of it. */
export interface MqttOptions {
  readonly url: string;
  readonly username: string;
  readonly password: string;
  readonly publishTopic: string;
  readonly subscribeTopic: string;
  /** What is published from now on goes out, for the first time or again; whether the broker takes it, `onClose` may tell. */
  onOpen(): void;
  onMessage(payload: Uint8Array): void;
  onClose(reason: string): void;
}

/** A connection that reconnects by itself until it is closed. QoS 0: the link does not rely on more. */
export interface MqttConnection {
  /** Does nothing while there is no connection: the link sends again. */
  publish(payload: Uint8Array): void;
  close(): void;
}

/** What the core needs of a board. */
export interface Board {
  readonly vault: Vault;
  /** Null where a point multiplication would take minutes. */
  readonly curve: PublicCurve | null;
  /** On a board without a curve: what the owner's computer prepared for its open channel. */
  readonly preparedKeys?: KeySource;
  readonly aes256Ctr: LinkCrypto["aes256Ctr"];
  /** Unix milliseconds. */
  now(): number;
  /** Milliseconds of a clock that never runs backwards. */
  ticks(): number;
  /** Calls back once, later; returns what cancels it. */
  after(ms: number, callback: () => void): () => void;
  mqtt(options: MqttOptions): MqttConnection;
}
