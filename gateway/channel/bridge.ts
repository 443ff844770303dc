/** The bridge behind a channel: which one a channel stays with, and what it says. */
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { cutTo } from "../../src/bytes/utf8.ts";
import type { LightningNode } from "../lightning/node.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import type { Log } from "../log.ts";
import type { DeviceChannel } from "./channel.ts";

/** Longest words of the bridge's that are passed on, bytes. */
const MAX_WORDS = 150;

/** What the bridge said last about a channel of the device's, or one that it did not open. */
export class BridgeWords {
  /** One line of limited length; undefined if it has said nothing. */
  last: string | undefined;
  private readonly tell: (sentence: string, code: string) => void;

  /** `tell`: for the log. A bridge can say things as often as it likes. */
  constructor(tell: (sentence: string, code: string) => void) {
    this.tell = tell;
  }

  /** Told by a peer: whatever it says is one line of limited length, which is returned. */
  note(words: string): string {
    this.last = cutTo(words.replace(/[\p{Cc}\p{Cs}]/gu, " "), MAX_WORDS);
    return this.last;
  }

  /** Notes its words, and has the log say them. */
  heard(words: string): void {
    this.tell(`the bridge says: ${this.note(words)}`, "bridge-refuses");
  }

  /** What it said belongs to a channel that is of no interest any more. */
  forget(): void {
    this.last = undefined;
  }
}

/** A channel stays with the node that it was opened to, whatever bridge (`configured`) the configuration names by now. */
export function stayWithBridge(
  channel: DeviceChannel,
  node: LightningNode,
  configured: Peer,
  log: Log,
): void {
  const { row, bridge } = channel;
  const opened = node.channels()[0];
  if (!row || !bridge || !opened) return;
  const nodeId = opened.get_counterparty().get_node_id();
  if (!equal(bridge.nodeId, nodeId)) {
    const code = "bridge-unknown";
    log.error(
      `the channel is with ${toHex(nodeId)}, and nobody knows where that is: name it as "lightning.bridge" until the channel is closed`,
      { code },
    );
  } else if (bridge !== configured) {
    const code = "bridge-changed";
    log.warn(
      `the channel stays with ${toHex(nodeId)}@${bridge.host}:${bridge.port}; the bridge in the configuration gets the next one`,
      { code },
    );
    node.keepConnected(bridge);
  } else if (row.bridge?.host !== bridge.host || row.bridge.port !== bridge.port)
    channel.put({ ...row, bridge });
}
