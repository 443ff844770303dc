/** What the links are like, and what the papers measured over theirs. Every figure of a link is of one direction. */

/** How a link treats what is sent over it. */
export interface LinkShape {
  /** In a sentence, for readers. */
  readonly about: string;
  /** A message's way through the radio. */
  readonly radioMs: number;
  /** Packets leave at each multiple of this; without it at once. */
  readonly intervalMs?: number;
  /** What fits into a packet, where packets have their times. */
  readonly packetBytes?: number;
  /** From the access point to the gateway. */
  readonly cloudMs: number;
  /** Share of the messages that are lost, and when they are sent again. */
  readonly lost?: number;
  readonly againMs?: number;
  /** Whether a connection begins with TCP's handshake over the radio; else only in the access point. */
  readonly tcpOverRadio: boolean;
}

const WIFI = { radioMs: 9, cloudMs: 0, tcpOverRadio: true };
const BLE = { radioMs: 800, cloudMs: 0, tcpOverRadio: false };
/** A packet of 244 bytes and its answer take about 3 ms at 1 Mbit/s. */
const BLE_TODAY = { radioMs: 3, intervalMs: 30, packetBytes: 244, cloudMs: 0, tcpOverRadio: false };
const CLOUD = { cloudMs: 123 };

/** By the names that rows are chosen by. */
export const LINKS = {
  wifi: { ...WIFI, about: "Wi-Fi, 9 ms a message, gateway at the gate" },
  "wifi-losses": {
    ...WIFI,
    lost: 0.05,
    againMs: 1000,
    about: "the same, one message in twenty lost and sent again by TCP after a second",
  },
  "wifi-cloud": { ...WIFI, ...CLOUD, about: "Wi-Fi, and 123 ms a message to a gateway in a cloud" },
  ble: { ...BLE, about: "BLE of the papers, 0.8 s a message, gateway at the gate" },
  "ble-cloud": { ...BLE, ...CLOUD, about: "the same, and 123 ms a message to a gateway in a cloud" },
  "ble-today": {
    ...BLE_TODAY,
    about: "today's BLE, a packet of 244 bytes every 30 ms, gateway at the gate",
  },
  "ble-today-cloud": {
    ...BLE_TODAY,
    ...CLOUD,
    about: "the same, and 123 ms a message to a gateway in a cloud",
  },
} satisfies Record<string, LinkShape>;
export type LinkName = keyof typeof LINKS;

/** While devices are made ready. */
export const UNSHAPED: LinkShape = { about: "", radioMs: 0, cloudMs: 0, tcpOverRadio: false };

/** What a paper measured, and what it says that consists of. Sessions are up; the device is a Raspberry Pi. */
export interface Paper {
  readonly name: string;
  readonly seconds: number;
  /** 0 where the paper does not say. */
  readonly link: number;
  readonly path: number;
  /** Ours of the same kind. */
  readonly ours: LinkName;
}

/** The predecessor's: 2.1 s of Lightning, four messages of 123 ms and the radio's time, twice 15 ms of signing. */
export const PAPERS: readonly Paper[] = [
  { name: "predecessor, Wi-Fi", seconds: 2.66, link: 4 * (0.123 + 0.009), path: 2.1, ours: "wifi-cloud" },
  { name: "predecessor, BLE", seconds: 5.82, link: 4 * (0.123 + 0.8), path: 2.1, ours: "ble-cloud" },
  { name: "LNGate, Wi-Fi", seconds: 4.12, link: 0, path: 0, ours: "wifi-cloud" },
];
