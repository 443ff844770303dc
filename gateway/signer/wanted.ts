/** What the device is to be asked, as it follows from a channel's book, and the ids it is asked under. */
import type { HolderState, SigningPart } from "./parts.ts";
import type { HolderEntry, PlainBook } from "./stored-state.ts";

/** All that the device has not answered yet, in the order in which it is to be processed. */
export function wantedParts(book: PlainBook): SigningPart[] {
  if (book.refusal !== null) return [];
  const parts: SigningPart[] = [];
  for (const { number, secret, nextPoint } of book.revocations) {
    parts.push({ kind: "revocation", id: `revocation/${number}`, number, secret, nextPoint });
  }
  if (!book.holder.some(entry => entry.exitAsked)) {
    for (const entry of book.holder) {
      if (entry.asked && !entry.answered)
        parts.push({ kind: "holder", id: holderId(entry), ...stateOf(entry) });
    }
    for (const { id, content, signatures } of book.counterparty) {
      if (!signatures) parts.push({ kind: "counterparty", id, ...content });
    }
    for (const { id, content, signatures } of book.closings) {
      if (!signatures) parts.push({ kind: "closing", id, ...content });
    }
    const isExitHeld = book.holder.some(entry => entry.answered);
    if (book.funding && !book.funding.signatures && isExitHeld) {
      parts.push({ kind: "funding", id: book.funding.id, ...book.funding.content });
    }
  }
  for (const entry of book.holder) {
    if (entry.exitAsked && !entry.exitSignature) {
      parts.push({ kind: "exit", id: `exit/${entry.number}`, ...stateOf(entry) });
    }
  }
  for (const { id, content, signatures } of book.spends) {
    if (!signatures) parts.push({ kind: "spend", id, ...content });
  }
  return parts.filter(part => !hasRefused(book, part.id));
}

/** True if the device has refused the part of this id. */
export function hasRefused(book: PlainBook, id: string): boolean {
  return book.refused.some(each => each.id === id);
}

/** The id of the part that hands our state to the device. */
export function holderId(entry: HolderEntry): string {
  return `holder/${entry.number}`;
}

function stateOf(entry: HolderEntry): HolderState {
  const { number, point, content, counterpartySignature, counterpartyHtlcSignatures, preimages } = entry;
  return {
    number,
    point,
    content,
    counterpartySignature,
    counterpartyHtlcSignatures,
    ...(preimages ? { preimages } : {}),
  };
}
