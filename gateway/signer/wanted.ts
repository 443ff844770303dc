/** What the device is to be asked, as it follows from a channel's book, and the ids it is asked under. */
import type { HolderPart, SigningPart } from "./parts.ts";
import type { HolderEntry, StoredSigningState } from "./stored-state.ts";

/** All that the device has not answered yet, in the order in which it is to be processed. */
export function wantedParts(book: StoredSigningState): SigningPart[] {
  if (book.refusal !== null) return [];
  const parts: SigningPart[] = [];
  for (const { number, secret, nextPoint } of book.revocations) {
    parts.push({ kind: "revocation", id: `revocation/${number}`, number, secret, nextPoint });
  }
  if (!book.holder.some(entry => entry.exitAsked)) {
    for (const entry of book.holder) {
      if (entry.asked && !entry.answered)
        parts.push({ kind: "holder", ...holderPart(entry, holderId(entry)) });
    }
    // The bridge's state may be wanted before ours that has the same HTLCs out: the device sees their preimages first.
    const preimages = book.holder.flatMap(entry => (entry.answered ? [] : (entry.preimages ?? [])));
    const receipts = preimages.length > 0 ? { preimages } : {};
    for (const { id, content, signatures, signing } of book.counterparty) {
      if (!signatures)
        parts.push({ kind: "counterparty", id, ...content, ...receipts, ...(signing ? { signing } : {}) });
    }
    for (const { id, content, checks, signatures } of book.closings) {
      if (!signatures) parts.push({ kind: "closing", id, ...content, sighash: checks[0]!.hash });
    }
    const { funding } = book;
    const isExitHeld = book.holder.some(entry => entry.answered);
    if (funding && !funding.signatures && isExitHeld) {
      const sighashes = funding.checks.map(({ hash }) => hash);
      parts.push({ kind: "funding", id: funding.id, ...funding.content, sighashes });
    }
  }
  for (const entry of book.holder) {
    if (entry.exitAsked && !entry.exitSignature) {
      parts.push({ kind: "exit", ...holderPart(entry, `exit/${entry.number}`) });
    }
  }
  for (const { id, content, signatures } of book.spends) {
    if (!signatures) parts.push({ kind: "spend", id, ...content });
  }
  return parts.filter(part => !hasRefused(book, part.id));
}

/** True if the device has refused the part of this id. */
export function hasRefused(book: StoredSigningState, id: string): boolean {
  return book.refused.some(each => each.id === id);
}

/** The id of the part that hands our state to the device. */
export function holderId(entry: HolderEntry): string {
  return `holder/${entry.number}`;
}

function holderPart(entry: HolderEntry, id: string): HolderPart {
  const { number, point, content, counterpartySignature, counterpartyHtlcSignatures, preimages, signing } =
    entry;
  return {
    id,
    number,
    point,
    content,
    counterpartySignature,
    counterpartyHtlcSignatures,
    ...(preimages ? { preimages } : {}),
    ...(signing ? { signing } : {}),
  };
}
