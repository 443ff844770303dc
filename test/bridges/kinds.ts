/** The kinds of nodes that there are here, each once as the bridge, before a plain LDK, and once as what is behind one. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { LdkNode } from "../../scripts/nodes/ldk.ts";
import { CurrentLdkNode } from "../../scripts/nodes/ldk-node.ts";
import { whyNoLdkNode } from "../../scripts/nodes/ldk-node-program.ts";
import { LndNode } from "../../scripts/nodes/lnd.ts";
import { hasLnd } from "../../scripts/nodes/lnd-program.ts";
import type { NodeOptions, RealNode } from "../../scripts/nodes/node.ts";

export interface Kind {
  readonly name: string;
  start(options: NodeOptions): Promise<RealNode>;
  /** What forwarding costs as it comes. */
  feeMsat(amountMsat: number): number;
  /** The smallest amount that it forwards as it comes. */
  readonly leastMsat: number;
  /** The smallest channel that it takes as it comes. */
  readonly leastChannelSat: number;
  /** It has coins with which it takes an HTLC out of its own commitment by the preimage. */
  readonly claimsHtlcs: boolean;
  /** With these it tells of its channels at once, where its own pace would keep every test waiting. */
  readonly gossipsAtOnce: readonly string[];
}

export const LDK: Kind = {
  name: "LDK",
  start: options => LdkNode.start(options),
  feeMsat: () => 1_000,
  leastMsat: 1,
  leastChannelSat: 1_000,
  claimsHtlcs: false,
  gossipsAtOnce: [],
};

export const LND: Kind = {
  name: "LND",
  start: options => LndNode.start(options),
  feeMsat: amountMsat => 1_000 + Math.floor(amountMsat / 1e6),
  leastMsat: 1_000,
  leastChannelSat: 20_000,
  claimsHtlcs: true,
  gossipsAtOnce: ["--trickledelay=200"],
};

export const LDK_NODE: Kind = {
  name: "LDK Node",
  start: options => CurrentLdkNode.start(options),
  feeMsat: () => 1_000,
  leastMsat: 1,
  leastChannelSat: 1_000,
  claimsHtlcs: true,
  gossipsAtOnce: [],
};

const noLdkNode = whyNoLdkNode();

/** Those that can be had here. */
const KINDS: readonly Kind[] = [LDK, ...(hasLnd() ? [LND] : []), ...(noLdkNode ? [] : [LDK_NODE])];

/** Why the others are not: a sentence each. */
export function skipped(): string[] {
  const reasons: string[] = [];
  if (!hasLnd()) reasons.push("LND is skipped: there is no `go` on the PATH to build it with");
  if (noLdkNode) reasons.push(`LDK Node is skipped: ${noLdkNode}`);
  for (const [name, program] of [
    ["Core Lightning", "lightningd"],
    ["Eclair", "eclair-node.sh"],
  ] as const) {
    reasons.push(
      isOnPath(program)
        ? `${name} is skipped: ${program} is on the PATH, but these tests can't lead it yet`
        : `${name} is skipped: ${program} is not on the PATH`,
    );
  }
  return reasons;
}

function isOnPath(program: string): boolean {
  return (process.env["PATH"] ?? "").split(delimiter).some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return folder !== "";
    } catch {
      return false;
    }
  });
}

export interface Pair {
  readonly bridge: Kind;
  readonly toll: Kind;
}

/** As bridge: what pays through it is the device's business alone. */
export const AS_BRIDGE: readonly Pair[] = KINDS.map(bridge => ({ bridge, toll: LDK }));
/** …and as destination. */
export const PAIRS: readonly Pair[] = [
  ...AS_BRIDGE,
  ...KINDS.filter(kind => kind !== LDK).map(toll => ({ bridge: LDK, toll })),
];

export const nameOf = ({ bridge, toll }: Pair): string => `${bridge.name} as bridge, ${toll.name} behind it`;
