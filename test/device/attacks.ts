/**
 * Every way in which a gateway, a bridge, an application or all together might try to get more than `pay()` allowed.
 * An attack names the rule that stops it; `harm` says what it gets if nothing does (by default what the rig finds).
 */
import type { Rule } from "../../device/channel/enforce.ts";
import { knownPayment } from "../../device/channel/payments/remembered.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { concat, equal } from "../../src/bytes/bytes.ts";
import { channelOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { fundingScript } from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import type { Commitment } from "../../src/lightning/commitment.ts";
import type { Step } from "../../src/messages/device.ts";
import { derived } from "./dealer.ts";
import {
  BRIDGE,
  FUNDING,
  HEIGHT,
  keyPair,
  MAC,
  NOW_MS,
  nonceOf,
  proposalWith,
  recordOf,
  SERVICE_FEE,
} from "./parties.ts";
import { bridgePoint } from "./peer.ts";
import { Rig, type RigOptions } from "./rig.ts";

export interface Attack {
  readonly name: string;
  readonly rig?: RigOptions;
  act(rig: Rig): void;
  /** What has gone wrong, or null. */
  harm?(rig: Rig): string | null;
}

const when = (bad: boolean, what: string) => (bad ? what : null);
const openRig = (act: (rig: Rig) => void) => (rig: Rig) => act(rig.open());
/** A payment of 1,000 sat is on its way in both commitments. */
const withHtlc = (act: (rig: Rig) => void) =>
  openRig(rig => {
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    act(rig);
  });

/** The bridge's signature of the commitment stands in the place of those of its HTLCs. */
const signedWrong = <T extends ReturnType<Rig["holder"]>>(holder: T): T => ({
  ...holder,
  htlcSignatures: holder.htlcSignatures!.map(() => holder.signature),
});

/** The same, and the bridge has not signed its HTLC in ours. */
const withLostHtlc = (act: (rig: Rig) => void) =>
  openRig(rig => {
    rig.pay("toll", 1000);
    const view = rig.view(0, [rig.htlc("toll", 1000)]);
    rig.step({ counterparty: rig.counterparty(view) });
    rig.step({ revoked: rig.revoked(), holder: signedWrong(rig.holder(view)) });
    act(rig);
  });

/** The bridge owns 4,000 sat that we have paid; nothing is pending. */
const withBridgeSat = (act: (rig: Rig) => void) =>
  openRig(rig => {
    rig.pay("paid", 4000);
    rig.move(rig.view(0, [rig.htlc("paid", 4000)]));
    rig.paid("paid");
    rig.move(rig.view(4000));
    rig.step({ revoked: rig.revoked() });
    act(rig);
  });

function proposed(changed: Parameters<typeof proposalWith>[0]): Pick<Attack, "act" | "harm"> {
  return {
    act: rig => {
      rig.app("open");
      rig.proposal = proposalWith(changed);
      const { counterpartyDustLimitSat } = rig.proposal;
      const view = counterpartyDustLimitSat > 10_000 ? { ...rig.view(), counterpartySat: 0 } : rig.view();
      rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(view) });
    },
    harm: rig =>
      when(rig.state.books.phase === "opening", `such a channel is accepted: ${Object.keys(changed ?? {})}`),
  };
}

const MUCH = 150_000;

/** Two payments of 4,000 sat have arrived: 400 sat are owed for them at 5 %. */
const FEES = { serviceFee: { ...SERVICE_FEE, settleFromMsat: 300_000 } };
const withFeesOwed = (act: (rig: Rig) => void) =>
  openRig(rig => {
    for (const [i, name] of ["one", "two"].entries()) {
      rig.pay(name, 4000);
      rig.move(rig.view(4000 * i, [rig.htlc(name, 4000)]));
      rig.paid(name);
      rig.move(rig.view(4000 * (i + 1)));
    }
    act(rig);
  });

export const ATTACKS: { readonly [rule in Rule]: readonly Attack[] } = {
  "channel-parameters": [
    { name: "our own money locked for a year after an exit", ...proposed({ holderDelay: 52_560 }) },
    { name: "no time to punish a revoked state", ...proposed({ counterpartyDelay: 0 }) },
    { name: "a day less one block to punish a revoked state in", ...proposed({ counterpartyDelay: 143 }) },
    {
      name: "one funding after the other at the highest fee, each said to have closed",
      act: rig => {
        for (let index = 1; index <= 4; index++) {
          const deposit = { txid: derived(`deposit ${index}`), vout: 0, valueSat: 220_000 };
          rig.app("open");
          rig.proposal = proposalWith({ index, deposits: [deposit] });
          rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
          if (rig.state.books.index < index) return;
          rig.step({ holder: rig.holder(rig.view(), 0) });
          rig.step({ fund: true });
          rig.say({ type: "channel", index, state: "closed" });
        }
      },
      harm: rig => when(rig.state.books.index > 1, "40,000 sat for the miners, at the gateway's word"),
    },
    { name: "a dust limit that swallows our balance", ...proposed({ counterpartyDustLimitSat: MUCH }) },
    { name: "a dust limit below what is relayed", ...proposed({ holderDustLimitSat: 1 }) },
    { name: "a reserve of nearly everything", ...proposed({ reserveSat: MUCH }) },
    { name: "a third of the deposit for the miners", ...proposed({ channelSat: 140_000 }) },
    {
      name: "deposits beyond all money there is, so that sums are no longer exact",
      ...proposed({
        deposits: [
          { ...proposalWith().deposits[0]!, valueSat: Number.MAX_SAFE_INTEGER },
          { ...proposalWith().deposits[0]!, vout: 2, valueSat: Number.MAX_SAFE_INTEGER },
        ],
        channelSat: Number.MAX_SAFE_INTEGER,
        changeSat: Number.MAX_SAFE_INTEGER - 1,
      }),
    },
    { name: "a change that is dust", ...proposed({ channelSat: 200_500, changeSat: 100 }) },
    { name: "a key that is no point", ...proposed({ paymentBasepoint: new Uint8Array(33).fill(5) }) },
    {
      name: "a key that looks like a point and is none",
      ...proposed({ htlcBasepoint: concat([new Uint8Array([2]), new Uint8Array(31), new Uint8Array([5])]) }),
    },
    {
      name: "a key that does not even look like a point, where there is no curve to tell",
      rig: { curve: null },
      ...proposed({ paymentBasepoint: new Uint8Array(33).fill(5) }),
    },
    { name: "our own funding key on the bridge's side", ...proposed({ fundingKey: FUNDING.point }) },
  ],

  funding: [
    {
      name: "the funding transaction first, the exit never",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()), fund: true });
      },
    },
    {
      name: "a channel that nobody asked for",
      act: rig => void rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) }),
      harm: rig => when(rig.state.books.phase === "opening", "the deposit is spent unasked"),
    },
    {
      name: "a channel of number 0, which nobody can have asked for",
      act: rig => {
        rig.app("open");
        rig.proposal = proposalWith({ index: 0 });
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
      },
      harm: rig => when(rig.state.books.phase === "opening", "the deposit is spent unasked"),
    },
    {
      name: "a second channel that was asked for while the first one was not open yet",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.app("open");
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ fund: true });
        rig.proposal = proposalWith({
          index: 2,
          deposits: [{ txid: derived("more"), vout: 0, valueSat: 201_000 }],
        });
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
      },
      harm: rig => when(rig.state.books.index === 2, "the exit of the first channel is gone"),
    },
    {
      name: "a second channel for a wish that the first one has fulfilled",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.app("open");
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ fund: true });
        rig.close(199_000, 0);
        rig.say({ type: "channel", index: 1, state: "closed" });
        rig.proposal = proposalWith({
          index: 2,
          deposits: [{ txid: derived("more"), vout: 0, valueSat: 201_000 }],
        });
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
      },
      harm: rig => when(rig.state.books.phase === "opening", "the deposit is spent unasked"),
    },
    {
      name: "a second channel in the place of one that has our money",
      act: openRig(rig => {
        rig.app("close");
        rig.proposal = proposalWith({
          index: 2,
          deposits: [{ txid: derived("more"), vout: 0, valueSat: 201_000 }],
        });
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
      }),
      harm: rig => when(rig.state.books.index === 2, "the exit of the first channel is gone"),
    },
  ],

  balance: [
    {
      name: "a new channel that gives the bridge half of it",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(100_000)) });
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ fund: true });
      },
    },
    {
      name: "the same, in a second step after a first one that could not be signed",
      act: rig => {
        rig.app("open");
        const point = new Uint8Array(33).fill(5);
        rig.step({ proposal: rig.proposal, counterparty: { ...rig.counterparty(rig.view()), point } });
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(100_000)) });
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ fund: true });
      },
    },
    { name: "ten thousand sat go over to the bridge", act: openRig(rig => rig.move(rig.view(10_000))) },
    {
      name: "a single sat goes over to the bridge",
      act: openRig(rig => rig.move({ ...rig.view(), holderSat: rig.view().holderSat - 1 })),
      harm: rig =>
        when(
          rig.publishable.some(each => each.view.holderSat < rig.view().holderSat),
          "a sat is gone",
        ),
    },
    {
      name: "an HTLC disappears without a preimage, and its money with it",
      act: withHtlc(rig => rig.move(rig.view(1000))),
    },
    {
      name: "an HTLC is paid twice",
      act: withHtlc(rig => {
        rig.paid("toll");
        rig.move(rig.view(2010));
      }),
    },
    {
      name: "the routing fee that was not used, when the HTLC is gone from one side",
      act: withHtlc(rig => {
        rig.paid("toll");
        rig.step({ holder: rig.holder(rig.view(1000)) });
        rig.step({ counterparty: rig.counterparty(rig.view(1005)) });
      }),
      harm: rig =>
        when(
          rig.publishable.some(each => each.view.counterpartySat > 1000),
          "5 sat more than the HTLC held",
        ),
    },
    {
      name: "a payment that failed is taken all the same",
      act: withHtlc(rig => {
        rig.move(rig.view());
        rig.failed("toll");
        rig.move(rig.view(1000));
      }),
    },
    {
      name: "dust in flight is taken twice over",
      act: openRig(rig => {
        rig.pay("tiny", 100);
        rig.move(rig.view(700));
      }),
    },
    {
      name: "an exit that pays us nothing",
      act: openRig(
        rig =>
          void rig.step({ holder: rig.holder({ ...rig.view(), holderSat: 0, counterpartySat: 199_000 }) }),
      ),
    },
  ],

  value: [
    {
      name: "the fee that counts as ours, paid to the bridge",
      act: openRig(rig => {
        rig.pay("tiny", 100);
        const view = rig.view();
        rig.step({ counterparty: rig.counterparty({ ...view, counterpartySat: 660 }) });
      }),
    },
    {
      name: "a high feerate on paper, and the bridge has the difference",
      act: openRig(rig => {
        const view = rig.view(0, [], 7000);
        rig.step({ counterparty: rig.counterparty({ ...view, counterpartySat: 7000 }) });
      }),
    },
    {
      name: "an exit with an output that nobody relays",
      act: openRig(rig => {
        rig.pay("tiny", 100);
        rig.step({ holder: rig.holder({ ...rig.view(100), counterpartySat: 100 }) });
      }),
    },
  ],

  "feerate-range": [
    { name: "everything to the miners", act: openRig(rig => rig.move(rig.view(0, [], 100_000))) },
    {
      name: "a commitment that will never confirm",
      act: openRig(rig => void rig.step({ holder: rig.holder(rig.view(0, [], 1)) })),
      harm: rig => when((rig.state.holder?.view.feeratePerKw ?? 0) < 253, "the exit pays no fee"),
    },
  ],

  "htlc-dust": [
    {
      name: "a tiny payment as an output that makes the exit unpublishable",
      act: openRig(rig => {
        rig.pay("tiny", 100);
        rig.step({ holder: rig.holder(rig.view(0, [rig.htlc("tiny", 100)])) });
      }),
    },
  ],

  "htlc-unauthorised": [
    {
      name: "an HTLC of another hash in the room that tiny payments leave",
      act: openRig(rig => {
        for (let i = 0; i < 5; i++) rig.pay(`tiny ${i}`, 200);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("never asked for", 900)])) });
      }),
    },
  ],

  "htlc-limit": [
    {
      name: "an HTLC of ten times the amount",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 10_000)])) });
      }),
    },
    {
      name: "two HTLCs for one payment",
      act: withHtlc(rig => rig.move(rig.view(0, [rig.htlc("toll", 1000), rig.htlc("toll", 1000)]))),
    },
  ],

  "htlc-expiry": [
    {
      name: "an HTLC for ten years",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        const htlc = rig.htlc("toll", 1000, { cltvExpiry: HEIGHT + 525_600 });
        rig.step({ counterparty: rig.counterparty(rig.view(0, [htlc])) });
      }),
    },
  ],

  "htlc-incoming": [
    {
      name: "so many of the bridge's HTLCs that there is no room for ours",
      act: openRig(rig => {
        rig.pay("toll", 4000);
        rig.move(rig.view(0, [rig.htlc("toll", 4000)]));
        rig.paid("toll");
        rig.move(rig.view(4000));
        const many = [1, 2, 3, 4, 5, 6].map(i => rig.htlc(`unasked ${i}`, 400, { incoming: true }));
        rig.step({ holder: rig.holder(rig.view(1600, many)) });
      }),
      harm: rig => when(rig.state.holder!.view.htlcs.length > 5, "the bridge has all the room"),
    },
  ],

  "commitment-number": [
    {
      name: "an old number once more, for whose secret nobody would look",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
        rig.step({ revoked: rig.revoked() });
        rig.step({ counterparty: rig.counterparty(rig.view(), 0) });
        rig.step({ revoked: { ...rig.revoked(0), number: -1 + 1 } });
        rig.failed("toll");
      }),
      harm: rig =>
        when((rig.state.counterparty?.number ?? 0) === 0 && rig.answers.length > 5, "numbers go backwards"),
    },
    {
      name: "commitments before the channel is funded",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ holder: rig.holder(rig.view()) });
      },
      harm: rig => when(rig.state.holder!.number > 0, "commitment 0 is revoked and money not even there"),
    },
    {
      name: "the bridge's next commitment before the channel is funded",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.step({ counterparty: rig.counterparty(rig.view()) });
      },
      harm: rig =>
        when(rig.state.counterparty!.number > 0, "records are used for a channel that is not there"),
    },
    {
      name: "a first commitment of the bridge's that is not its first",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 7) });
      },
      harm: rig => when(rig.state.counterparty?.number === 7, "numbers begin anywhere"),
    },
    {
      name: "a first commitment of ours that is not our first, to hear a secret",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.step({ holder: rig.holder(rig.view(), 7) });
      },
      harm: rig => when(rig.secrets.size > 0, "a secret of a state that never was is out"),
    },
    {
      name: "our commitment 0 before the bridge's: nothing is known of the bridge's state",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal });
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ fund: true });
      },
    },
    {
      name: "a gap in our numbers, to hear a secret ahead of its time",
      act: openRig(rig => void rig.step({ holder: rig.holder(rig.view(), 5) })),
      harm: rig => when(rig.secrets.size > 0, "a secret of a state that never was is out"),
    },
  ],

  "commitment-content": [
    {
      name: "another content for a number that is signed",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view()) });
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)]), 1) });
      }),
    },
    {
      name: "another expiry for a number that is signed",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
        const later = rig.htlc("toll", 1000, { cltvExpiry: HEIGHT + 81 });
        rig.step({ counterparty: rig.counterparty(rig.view(0, [later]), 1) });
      }),
    },
    {
      name: "another point for a number that is signed",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        const view = rig.view(0, [rig.htlc("toll", 1000)]);
        rig.step({ counterparty: rig.counterparty(view) });
        rig.step({ counterparty: { ...rig.counterparty(view, 1), point: keyPair("another").point } });
      }),
    },
    {
      name: "another content for a commitment of ours",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.move(rig.view());
        rig.step({ holder: { ...rig.holder(rig.view(0, [rig.htlc("toll", 1000)]), 1) } });
      }),
      harm: rig =>
        when(
          rig.answers[rig.answers.length - 1]!.secret !== undefined,
          "an answer belongs to another question",
        ),
    },
    {
      name: "another channel under the same number",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.proposal = proposalWith({ deposits: [{ ...proposalWith().deposits[0]!, vout: 7 }] });
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
      },
    },
  ],

  "exit-before-revoke": [
    {
      name: "a signature of the bridge's that is none",
      act: openRig(
        rig =>
          void rig.step({
            holder: { ...rig.holder(rig.view()), signature: rig.state.holder!.bridgeSignature },
          }),
      ),
    },
    {
      name: "the bridge's signature of another amount",
      act: withHtlc(rig => {
        const other = rig.holder(rig.view(1000)).signature;
        rig.step({ holder: { ...rig.holder(rig.view()), signature: other } });
      }),
    },
    {
      name: "the bridge's signature of a commitment that has quietly lost its anchors",
      act: openRig(rig => {
        const holder = rig.holder(rig.view());
        const commitment = rig.build(true, holder.number, rig.holderPoint(holder.number), rig.view());
        const signature = nobleCurve.sign(withoutAnchors(rig, commitment), BRIDGE.funding.secret);
        rig.step({ holder: { ...holder, signature } });
      }),
    },
    {
      name: "the bridge's signature of the state before",
      act: withHtlc(
        rig =>
          void rig.step({
            holder: { ...rig.holder(rig.view()), signature: rig.state.holder!.bridgeSignature },
          }),
      ),
    },
    {
      name: "the bridge's signature of the same state under another number",
      act: openRig(rig => {
        const { signature } = rig.holder(rig.view(), 2);
        rig.step({ holder: { ...rig.holder(rig.view()), signature } });
      }),
    },
    {
      name: "our to_local under the gateway's key",
      act: openRig(rig => {
        const { identity } = rig;
        const forged = new Rig();
        Object.assign(forged.identity, { delayedPaymentBasepoint: keyPair("gateway's own").point });
        forged.nextB = rig.nextB;
        const commitment = forged.build(true, 1, rig.holderPoint(1), rig.view());
        const holder = rig.holder(rig.view());
        const signature = nobleCurve.sign(commitment.sighash, BRIDGE.funding.secret);
        if (equal(identity.delayedPaymentBasepoint, forged.identity.delayedPaymentBasepoint))
          throw new Error("same");
        rig.step({ holder: { ...holder, signature } });
      }),
    },
    {
      name: "an HTLC without the bridge's signature",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ holder: { ...rig.holder(rig.view(0, [rig.htlc("toll", 1000)])), htlcSignatures: [] } });
      }),
    },
    {
      name: "our finished signature of a commitment that is revoked, to publish it",
      act: openRig(rig => {
        rig.move(rig.view());
        rig.step({ forceClose: 0 });
      }),
      harm: rig => when(lastOwn(rig) !== undefined, "an answer belongs to another question"),
    },
    {
      name: "our finished signature of a commitment before the channel is funded",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.step({ holder: rig.holder(rig.view()) });
        rig.step({ forceClose: 0 });
      },
      harm: rig => when(lastOwn(rig) !== undefined, "a channel ends before it began"),
    },
    {
      name: "no signature for the anchor, so that the exit's fee cannot be raised",
      act: openRig(rig => {
        const { anchorPartial: _, ...holder } = rig.holder(rig.view());
        rig.step({ holder });
      }),
    },
  ],

  "htlc-signature": [
    {
      name: "a payment on top of one whose HTLC the bridge has signed wrong",
      act: withLostHtlc(rig => void rig.pay("another", 1000)),
    },
    {
      name: "a payment after the receipt of one whose HTLC was signed wrong, its state gone",
      act: withLostHtlc(rig => {
        rig.paid("toll");
        rig.move(rig.view(1000));
        rig.step({ revoked: rig.revoked() });
        rig.pay("another", 1000);
      }),
    },
    {
      name: "a payment after one whose HTLC was signed wrong has come back",
      act: withLostHtlc(rig => {
        rig.failed("toll");
        rig.move(rig.view());
        rig.step({ revoked: rig.revoked() });
        rig.pay("another", 1000);
      }),
    },
    {
      name: "a payment after the power failed with an HTLC signed wrong",
      act: withLostHtlc(rig => {
        rig.box.restart();
        rig.pay("another", 1000);
      }),
    },
    {
      name: "a payment on top of one that was safe until the next state, which nobody had to see",
      act: withHtlc(rig => {
        const { htlcSignatures: _, ...holder } = rig.holder(rig.view(0, [rig.htlc("toll", 1000)], 1600));
        const wrong = rig.state.holder!.htlcSignatures;
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)], 1600)) });
        rig.step({ revoked: rig.revoked(), holder: { ...holder, htlcSignatures: wrong } });
        rig.pay("another", 1000);
      }),
    },
    {
      name: "the same payment once more after it came back from an HTLC signed wrong",
      act: withLostHtlc(rig => {
        rig.failed("toll");
        rig.move(rig.view());
        rig.step({ revoked: rig.revoked() });
        rig.pay("toll", 1000);
      }),
    },
    {
      name: "the gateway's fee out of a channel whose HTLC was signed wrong",
      rig: FEES,
      act: withFeesOwed(rig => {
        rig.pay("toll", 1000);
        const view = rig.view(8000, [rig.htlc("toll", 1000)]);
        rig.step({ counterparty: rig.counterparty(view) });
        rig.step({ revoked: rig.revoked(), holder: signedWrong(rig.holder(view)) });
        rig.settle("fee", 400_000);
      }),
    },
  ],

  "own-signature": [
    {
      name: "a scalar that does not finish our own signature",
      act: openRig(rig => {
        const holder = rig.holder(rig.view());
        const partial = { ...holder.partial, scalar: derived("a scalar") };
        rig.step({ holder: { ...holder, partial } });
      }),
    },
    {
      name: "a scalar that does not finish the anchor's signature",
      act: openRig(rig => {
        const holder = rig.holder(rig.view());
        rig.step({
          holder: { ...holder, anchorPartial: { ...holder.anchorPartial!, scalar: derived("another") } },
        });
      }),
    },
    {
      name: "the half of a signature that gives the whole channel away, to a board without a curve",
      rig: { curve: null },
      act: openRig(rig => {
        const partial = rig.half(theftOf(rig).sighash);
        rig.step({ holder: { ...rig.holder(rig.view()), partial }, forceClose: 1 });
      }),
      harm: rig => when(isStolen(rig), "the channel is stolen"),
    },
    {
      name: "another hash for the anchor, with an answer and a MAC of that hash",
      rig: { curve: null },
      act: openRig(rig => {
        rig.step({ holder: { ...rig.holder(rig.view()), anchorPartial: rig.half(derived("a deposit")) } });
      }),
    },
    {
      name: "a right answer with the MAC of another",
      act: openRig(rig => {
        const holder = rig.holder(rig.view());
        const { mac } = rig.half(derived("another"));
        rig.step({ holder: { ...holder, partial: { ...holder.partial, mac } } });
      }),
      harm: rig => when(rig.state.holder?.number === 1, "what is not proved is taken"),
    },
  ],

  "previous-revoked": [
    {
      name: "two states that are not revoked, and the older one forgotten",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
        rig.step({ revoked: rig.revoked() });
        rig.step({ counterparty: rig.counterparty(rig.view()) });
        rig.step({ counterparty: rig.counterparty(rig.view()) });
        rig.step({ revoked: rig.revoked() });
        rig.failed("toll");
      }),
    },
    {
      name: "a secret that is not the one of the state",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
        rig.step({ revoked: rig.revoked() });
        rig.step({ counterparty: rig.counterparty(rig.view()) });
        rig.step({ revoked: { number: 1, secret: derived("no secret") } });
        rig.failed("toll");
      }),
    },
    {
      name: "a secret of its point from which those before do not follow",
      act: openRig(rig => {
        const secret = derived("of another chain");
        const point = nobleCurve.publicKey(secret);
        rig.step({ counterparty: { ...rig.counterparty(rig.view(), 1), point } });
        rig.step({ revoked: rig.revoked(0) });
        rig.step({ counterparty: rig.counterparty(rig.view(), 2) });
        rig.step({ revoked: { number: 1, secret } });
      }),
    },
    {
      name: "a secret that is no scalar",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
        rig.step({ revoked: rig.revoked() });
        rig.step({ counterparty: rig.counterparty(rig.view()) });
        rig.step({ revoked: { number: 1, secret: new Uint8Array(32).fill(255) } });
        rig.failed("toll");
      }),
    },
  ],

  phase: [
    {
      name: "another state after the owner has left with the last one",
      act: openRig(rig => {
        rig.box.run({ type: "exit", index: 1 });
        rig.step({ holder: rig.holder(rig.view()) });
      }),
      harm: rig => when(rig.secrets.size > 0, "the exit that the owner has in hand is poison now"),
    },
    {
      name: "another state after it was said that the channel has ended",
      act: openRig(rig => {
        rig.box.run({ type: "exit", index: 1 });
        rig.say({ type: "channel", index: 1, state: "closed" });
        rig.step({ holder: rig.holder(rig.view()) });
      }),
      harm: rig => when(rig.secrets.size > 0, "the exit that the owner has in hand is poison now"),
    },
    {
      name: "another state after the mutual close is signed",
      act: openRig(rig => {
        rig.close(199_000, 0);
        rig.step({ holder: rig.holder(rig.view()) });
      }),
      harm: rig => when(rig.secrets.size > 0, "the channel goes on although it is closed"),
    },
  ],

  "record-reuse": [
    {
      name: "a used record of kind B for another state",
      // A bank that forgets nothing: the real one refuses as well.
      rig: { contextWith: context => ({ ...context, records: TRUSTING_BANK }) },
      act: openRig(rig => {
        const spent = rig.nextB - 1;
        rig.nextB = spent;
        rig.step({ holder: rig.holder(rig.view()) });
      }),
      harm: rig => when(rig.state.holder!.number === 1, "two signatures of ours share a nonce"),
    },
  ],

  "record-skip": [
    {
      name: "all records of kind B given up by naming the last",
      act: openRig(rig => {
        rig.nextB = 68;
        rig.step({ holder: rig.holder(rig.view(), 1) });
      }),
      harm: rig => when(leftOf(rig, "B") === 0, "no payment can be settled any more"),
    },
    {
      name: "a few records of kind B given up, again and again, until a payment in flight cannot be settled",
      rig: { charge: { A: 60, B: 40, H: 60 } },
      act: withHtlc(rig => {
        rig.nextB += 16;
        rig.step({ holder: rig.holder(rig.view(0, [rig.htlc("toll", 1000)])) });
        rig.nextB += 16;
        rig.step({ holder: rig.holder(rig.view()) });
      }),
      harm: rig => when(leftOf(rig, "B") < 4, "the payment in flight cannot be settled any more"),
    },
  ],

  "invoice-expiry": [
    {
      name: "a reader's invoice that can be paid for a million years",
      act: openRig(rig => void rig.pay("toll", 1000, { expiresAt: 2 ** 50 })),
      harm: rig => when(rig.state.payments.length > 0, "a lie about it keeps the device with a dead channel"),
    },
    {
      name: "an invoice that was paid and forgotten while the clock was wrong, and is paid again",
      rig: {
        charge: { A: 250, B: 300, H: 250 },
        policy: { perHourMsat: 1e9, perDayMsat: 1e9 },
        contextWith: context => Object.defineProperty(context, "capacityBytes", { value: 5000 }),
      },
      act: openRig(rig => {
        const expiresAt = NOW_MS / 1000 + 3600;
        const settled = (name: string, takenSat: number, expires: number) => {
          rig.pay(name, 1000, { expiresAt: expires });
          rig.move(rig.view(takenSat, [rig.htlc(name, 1000)]));
          rig.paid(name);
          rig.move(rig.view(takenSat + 1000));
        };
        settled("the gate", 0, expiresAt);
        rig.box.lieMs = 7_200_000;
        for (let i = 1; knownPayment(rig.state, sha256(rig.preimage("the gate"))) && i < 30; i++) {
          settled(`cheap ${i}`, 1000 * i, expiresAt + 86_400);
        }
        rig.box.lieMs = 0;
        rig.pay("the gate", 1000, { expiresAt });
      }),
      harm: rig => when(isInFlight(rig, "the gate"), "an invoice is paid twice"),
    },
  ],

  "close-pending": [
    {
      name: "a close while a payment is in flight",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.close(199_000, 0);
      }),
    },
    {
      name: "a close while the bridge may still publish an HTLC",
      act: withHtlc(rig => {
        rig.move(rig.view());
        rig.close(199_000, 0);
      }),
    },
    {
      name: "a close while the bridge offers an HTLC in our commitment alone",
      act: withBridgeSat(rig => {
        rig.step({ holder: rig.holder(rig.view(3400, [rig.htlc("unasked", 600, { incoming: true })])) });
        rig.close(195_000, 4000);
      }),
      harm: rig => when(rig.closes.length > 0, "an HTLC is left open"),
    },
    {
      name: "a close while the bridge offers an HTLC in its commitment alone",
      act: withBridgeSat(rig => {
        const incoming = rig.htlc("unasked", 600, { incoming: true });
        rig.step({ counterparty: rig.counterparty(rig.view(3400, [incoming])) });
        rig.step({ revoked: rig.revoked() });
        rig.close(195_000, 4000);
      }),
      harm: rig => when(rig.closes.length > 0, "an HTLC is left open"),
    },
    {
      name: "a close while the bridge offers an HTLC in a commitment that it has not revoked",
      act: withBridgeSat(rig => {
        const incoming = rig.htlc("unasked", 600, { incoming: true });
        rig.step({ counterparty: rig.counterparty(rig.view(3400, [incoming])) });
        rig.step({ revoked: rig.revoked(), counterparty: rig.counterparty(rig.view(4000)) });
        rig.close(195_000, 4000);
      }),
      harm: rig => when(rig.closes.length > 0, "an HTLC is left open"),
    },
    {
      name: "the application closes too early",
      act: openRig(rig => {
        rig.pay("toll", 1000);
        rig.app("close");
      }),
      harm: rig => when(rig.refusals.length === 0, "a payment is left open"),
    },
  ],

  "close-balance": [
    { name: "a close that pays us half", act: openRig(rig => void rig.close(100_000, 0)) },
    { name: "a close whose fee goes to the bridge", act: openRig(rig => void rig.close(190_000, 9_000)) },
    {
      name: "what is collected from the bridge's commitment, all to the miners",
      act: withHtlc(rig => collects(rig, { amountSat: 100_000, valueSat: 1000 })),
      harm: rig => when(lastOwn(rig) !== undefined, "99,000 sat burn"),
    },
    {
      name: "a close that pays the bridge twice",
      act: withHtlc(rig => {
        rig.paid("toll");
        rig.move(rig.view(1000));
        rig.close(196_000, 3_000);
      }),
    },
  ],

  "close-state": [
    {
      name: "closes without end, each of which uses up a record",
      act: openRig(rig => {
        for (let fee = 1000; fee < 1012; fee++) rig.close(200_000 - fee, 0);
      }),
      harm: rig => when(rig.closes.length > 4, "closes without end"),
    },
    {
      name: "a close before the channel is funded",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.close(199_000, 0);
      },
      harm: rig => when(rig.closes.length > 0, "a close of nothing"),
    },
    {
      name: "what is collected from one channel, without end",
      rig: { charge: { A: 60, B: 70, H: 200 } },
      act: openRig(rig => {
        rig.pay("toll", 1000);
        for (let fee = 1; fee <= 130; fee++) collects(rig, { valueSat: 1000 - fee });
      }),
      harm: rig => when((rig.state.collected?.count ?? 0) > 128, "nonces go for nothing"),
    },
    {
      name: "a revoked output with a secret that is not of its point",
      act: withHtlc(rig => collects(rig, { secret: derived("no such secret") })),
      harm: rig => when(lastOwn(rig) !== undefined, "a key that nobody checked signs"),
    },
    {
      name: "a revoked output with a secret that is no scalar",
      act: withHtlc(rig => collects(rig, { secret: new Uint8Array(32) })),
      harm: rig => when(lastOwn(rig) !== undefined, "a key that nobody checked signs"),
    },
    {
      name: "a signature for an output that is neither revoked nor a payment",
      act: withHtlc(rig => {
        const { htlc: _, ...spend } = spendOf(rig, {});
        rig.step({ spend });
      }),
      harm: rig => when(lastOwn(rig) !== undefined, "our HTLC key signs something else"),
    },
    {
      name: "the exit of a channel that is not funded",
      act: rig => {
        rig.app("open");
        rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
        rig.step({ holder: rig.holder(rig.view()) });
        runExit(rig);
      },
      harm: rig => when(rig.box.exits.length > 0, "an exit of nothing"),
    },
    {
      name: "the application closes where there is no channel",
      act: rig => rig.app("close"),
      harm: rig => when(rig.refusals.length === 0, "it asks for nonsense"),
    },
  ],

  "payment-limit": [
    {
      name: "a reader that asks for all that is there",
      act: openRig(rig => void rig.pay("toll", 6000)),
      harm: paysTooMuch(5000),
    },
  ],

  velocity: [
    {
      name: "one small payment after the other, without end",
      act: openRig(rig => {
        for (let i = 0; i < 8; i++) rig.pay(`toll ${i}`, 4000);
      }),
      harm: paysTooMuch(20_000),
    },
    {
      name: "the same, with a clock that is turned back",
      act: openRig(rig => {
        for (let i = 0; i < 8; i++) {
          rig.pay(`toll ${i}`, 4000);
          rig.box.lieMs -= 7_200_000;
        }
      }),
      harm: paysTooMuch(20_000),
    },
    {
      name: "the same, with a clock that is set ahead after each",
      act: openRig(rig => {
        for (let i = 0; i < 8; i++) {
          const expiresAt = (NOW_MS + rig.box.lieMs) / 1000 + 3600;
          rig.pay(`toll ${i}`, 4000, { expiresAt });
          rig.box.lieMs += 90_000_000;
        }
      }),
      harm: paysTooMuch(20_000),
    },
    {
      name: "payments that no output shows, whose fees are said to have been nothing",
      rig: { charge: { A: 250, B: 300, H: 250 }, policy: { maxDustSat: 1_000_000 } },
      act: rig => {
        rig.proposal = proposalWith({ holderDustLimitSat: 1000, counterpartyDustLimitSat: 1000 });
        rig.open();
        for (let i = 0; i < 30; i++) {
          rig.pay(`tiny ${i}`, 100, { maxFeeMsat: 900_000 });
          if (rig.refusals.length > 0) return;
          rig.move(rig.view(1000 * (i + 1)));
          rig.paid(`tiny ${i}`);
        }
      },
      harm: rig =>
        when(
          (rig.state.counterparty?.view.counterpartySat ?? 0) > 20_000,
          "more than an hour's limit has left",
        ),
    },
  ],

  payee: [
    {
      name: "an invoice of somebody else",
      rig: { policy: { payees: [keyPair("the toll station").point] } },
      act: openRig(rig => void rig.pay("toll", 100, { payee: keyPair("somebody else").point })),
      harm: paysTooMuch(0),
    },
    {
      name: "an invoice that does not say whose it is",
      rig: { policy: { payees: [keyPair("the toll station").point] } },
      act: openRig(rig => void rig.pay("toll", 100)),
      harm: paysTooMuch(0),
    },
  ],

  "dust-in-flight": [
    {
      name: "many tiny payments that no commitment shows",
      rig: { policy: { maxDustSat: 1000 } },
      act: openRig(rig => {
        for (let i = 0; i < 7; i++) rig.pay(`tiny ${i}`, 300);
      }),
      harm: paysTooMuch(1000),
    },
  ],

  "service-fee": [
    {
      name: "more for the gateway's service than it has earned",
      rig: FEES,
      act: withFeesOwed(rig => rig.settle("fee", 400_001)),
    },
    {
      name: "what was earned, and the way there on top of it",
      rig: FEES,
      act: withFeesOwed(rig => rig.settle("fee", 400_000, 1)),
    },
    {
      name: "the same fee once more, while the first payment of it is on its way",
      rig: FEES,
      act: withFeesOwed(rig => {
        rig.settle("fee", 400_000);
        rig.settle("once more", 400_000);
      }),
    },
    {
      name: "a fee that is paid already",
      rig: FEES,
      act: withFeesOwed(rig => {
        rig.settle("fee", 400_000);
        rig.move(rig.view(8000, [rig.htlc("fee", 400)]));
        rig.paid("fee");
        rig.move(rig.view(8400));
        rig.settle("once more", 400_000);
      }),
    },
    {
      name: "a fee of which no commitment shows anything, paid for nothing, and again",
      rig: FEES,
      act: withFeesOwed(rig => {
        rig.settle("fee", 0, 400_000);
        rig.paid("fee");
        rig.move(rig.view(8400));
        rig.settle("again", 0, 400_000);
      }),
    },
    {
      name: "a fee for a payment that has failed",
      rig: { serviceFee: { ...SERVICE_FEE, settleFromMsat: 1 } },
      act: openRig(rig => {
        rig.pay("toll", 4000);
        rig.failed("toll");
        rig.settle("fee", 200_000);
      }),
    },
    {
      name: "a fee where none was agreed on",
      act: withFeesOwed(rig => rig.settle("fee", 400_000)),
    },
    {
      name: "records used up by one msat of the fee after the other",
      rig: FEES,
      act: withFeesOwed(rig => {
        for (let i = 0; i < 5; i++) rig.settle(`msat ${i}`, 1);
      }),
    },
  ],
};

/** What the bridge would sign for a channel of the older type (BOLT #3, static_remotekey): hash of our commitment. */
function withoutAnchors(rig: Rig, { transaction, outputs }: Commitment): Uint8Array {
  const anchors = outputs.filter(output => output.kind.endsWith("anchor"));
  const kept = outputs.filter(output => !anchors.includes(output));
  const more = anchors.reduce((sum, anchor) => sum + anchor.valueSat, 0);
  const older = {
    ...transaction,
    outputs: kept.map(({ kind, valueSat, script }) => ({
      valueSat: kind === "to-local" ? valueSat + more : valueSat,
      script,
    })),
  };
  const channel = channelOf(rig.identity, rig.proposal);
  return sighash(older, 0, fundingScript(channel), channel.fundingSat);
}

type Spend = NonNullable<Step["spend"]>;

/** Collecting the HTLC of the payment "toll" when it has timed out in the bridge's commitment 1. */
export function spendOf(rig: Rig, changed: Partial<Spend>): Spend {
  const point = bridgePoint(1);
  const commitment = rig.build(false, 1, point, rig.view(0, [rig.htlc("toll", 1000)]));
  return {
    index: 1,
    point,
    htlc: rig.htlc("toll", 1000),
    inputs: [{ txid: commitment.txid, vout: commitment.htlcs[0]!.vout, sequence: 1 }],
    input: 0,
    amountSat: 1000,
    valueSat: 700,
    locktime: HEIGHT + 80,
    ...changed,
  };
}

function collects(rig: Rig, changed: Partial<Spend>): void {
  rig.step({ spend: spendOf(rig, changed) });
}

/** The channel's whole value, to the gateway. */
export function theftOf(rig: Rig) {
  const thief = p2wpkh(keyPair("the gateway's own").point);
  const all = {
    holderSat: 0,
    counterpartySat: rig.proposal.channelSat - 1000,
    holderScript: thief,
    counterpartyScript: thief,
  };
  return buildClosing(channelOf(rig.identity, rig.proposal), all);
}

function isStolen(rig: Rig): boolean {
  const own = lastOwn(rig);
  return own !== undefined && nobleCurve.verify(own, theftOf(rig).sighash, rig.identity.fundingKey);
}

const lastOwn = (rig: Rig) => rig.answers[rig.answers.length - 1]!.completeSignature;

const leftOf = (rig: Rig, kind: "A" | "B" | "H") =>
  rig.box.vault.records.left(kind, rig.state.books.cursors[kind]);

function isInFlight(rig: Rig, name: string): boolean {
  const payment = knownPayment(rig.state, sha256(rig.preimage(name)));
  return payment !== null && !payment.settled;
}

function paysTooMuch(mostSat: number) {
  return (rig: Rig): string | null => {
    let sum = 0;
    for (const payment of rig.state.payments) sum += payment ? payment.limitMsat / 1000 : 0;
    return when(sum > mostSat, `${sum} sat are authorised`);
  };
}

function runExit(rig: Rig): void {
  try {
    rig.box.run({ type: "exit", index: rig.proposal.index });
  } catch (error) {
    rig.refusals.push((error as { code: string }).code);
  }
}

const TRUSTING_BANK = {
  read: (kind: "A" | "B" | "H", id: number) => {
    const bytes =
      kind === "H"
        ? nonceOf(id)
        : kind === "A"
          ? recordOf("A", id).answering
          : concat([recordOf("B", id).completing, MAC]);
    return { id, bytes: bytes.slice() };
  },
  left: () => 1000,
  erase: () => {},
};
