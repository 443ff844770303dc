/** The real device (device/device.ts) on a board in memory, and a gateway that has its link key. */

import type { Device } from "../../device/api.ts";
import type { Board, MqttOptions } from "../../device/board.ts";
import { openDevice } from "../../device/device.ts";
import { openVault } from "../../device/vault/vault.ts";
import { nobleCurve, type PublicCurve } from "../../src/crypto/curve.ts";
import {
  frameCodec,
  HELLO,
  handshakeKey,
  openHello,
  type SessionKeys,
  sealData,
  sealWelcome,
  sessionKeys,
} from "../../src/link/envelope.ts";
import { type LinkEffect, LinkServer } from "../../src/link/session.ts";
import { type ToDevice, type ToGateway, toDevice, toGateway } from "../../src/messages/device.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { chip, NOW_MS } from "./parties.ts";

export class Host {
  readonly flash;
  readonly device: Device;
  readonly heard: ToGateway[] = [];
  /** What was thrown in a callback of the board's: on Node that ends the process, elsewhere it restarts the board. */
  readonly crashes: unknown[] = [];
  private readonly silent: boolean;
  /** The board's clock. */
  nowMs = NOW_MS;
  private timers: { at: number; run: () => void }[] = [];
  private readonly link: LinkServer;
  private readonly linkKey: Uint8Array;
  private keys: SessionKeys | undefined;
  private sent = 0;
  private toBoard: (bytes: Uint8Array) => void = () => {};
  private mqtt: MqttOptions | undefined;

  /** `silent`: the gateway never acknowledges anything but the session's beginning. */
  constructor(image: Uint8Array, silent = false, curve: PublicCurve = nobleCurve) {
    this.silent = silent;
    this.flash = chip(image);
    const vault = openVault(this.flash);
    this.linkKey = vault.identity.linkKey;
    this.link = new LinkServer({
      crypto: nodeLinkCrypto,
      linkKey: vault.identity.linkKey,
      maxMessageBytes: 4096,
    });
    const board: Board = {
      vault,
      curve,
      aes256Ctr: nodeLinkCrypto.aes256Ctr,
      now: () => this.nowMs,
      ticks: () => this.nowMs - NOW_MS,
      after: (ms, run) => {
        const timer = { at: this.nowMs + ms, run };
        this.timers.push(timer);
        return () => {
          this.timers = this.timers.filter(each => each !== timer);
        };
      },
      mqtt: options => {
        this.mqtt = options;
        this.toBoard = bytes => this.guarded(() => options.onMessage(bytes));
        this.timers.push({ at: this.nowMs, run: options.onOpen });
        return { publish: bytes => this.receive(bytes), close: () => {} };
      },
    };
    this.device = openDevice(board);
    void this.device.connect();
    this.pass(10);
  }

  /** The board loses the broker, and finds it again by itself. */
  lose(): void {
    this.guarded(() => this.mqtt?.onClose("the cable is out"));
  }

  regain(): void {
    this.guarded(() => this.mqtt?.onOpen());
    this.pass(10);
  }

  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.crashes.push(error);
    }
  }

  pass(ms: number): void {
    const end = this.nowMs + ms;
    for (;;) {
      const due = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.timers = this.timers.filter(each => each !== due);
      this.nowMs = Math.max(this.nowMs, due.at);
      this.guarded(due.run);
    }
    this.nowMs = end;
  }

  private receive(bytes: Uint8Array): void {
    if (this.silent) {
      if (frameCodec(bytes) !== HELLO) return;
      const [key, nonceG] = [handshakeKey(this.linkKey), nodeLinkCrypto.random(16)];
      const nonceD = openHello(key, bytes);
      this.keys = sessionKeys(this.linkKey, nonceD, nonceG);
      this.toBoard(sealWelcome(key, nonceD, nonceG));
      return;
    }
    this.carryOut(this.link.receive(bytes, this.nowMs));
  }

  private carryOut(effects: readonly LinkEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "send") this.toBoard(effect.bytes);
      else if (effect.kind === "deliver") this.heard.push(toGateway.decode(effect.message));
    }
  }

  say(message: ToDevice): void {
    if (this.keys) {
      const { down, session } = this.keys;
      this.toBoard(sealData(nodeLinkCrypto, down, session, this.sent++, 1, toDevice.encode(message)));
      return;
    }
    this.carryOut(this.link.send(toDevice.encode(message), this.nowMs));
  }
}
