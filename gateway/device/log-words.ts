/** What a message between device and gateway is about, in a few words and without a secret, for the log. */
import type { ToDevice, ToGateway } from "../../src/messages/device.ts";

/** Of a message that the device has sent. */
export function aboutUp(message: ToGateway): string {
  switch (message.type) {
    case "stepped": {
      const { secret, signed, refused } = message;
      const done = [
        ...(secret ? ["its exit is complete: old state revoked"] : []),
        ...(signed ? [`${signed.partials.length} half signature(s)`] : []),
        ...(message.completeSignature ? ["a complete signature"] : []),
        ...(refused ? [`REFUSED: ${refused.code}`] : []),
      ];
      return done.join(", ") || "its exit is complete";
    }
    case "pay":
      return "please pay this invoice";
    case "open":
      return "please open a channel; first commitment points";
    case "close":
      return "please close the channel";
    case "hello":
      return message.phase;
    case "settling":
      return message.refused ? `REFUSED: ${message.refused.code}` : "the service fee may be paid";
  }
}

/** Of a message to the device. */
export function aboutDown(message: ToDevice): string {
  switch (message.type) {
    case "step": {
      const { paid, revoked, proposal, holder, counterparty, fund, close } = message;
      const parts = [
        ...(paid ? ["preimage"] : []),
        ...(revoked ? [`bridge revoked ${revoked.number}`] : []),
        ...(proposal ? ["terms of the channel"] : []),
        ...(holder ? [`our state ${holder.number}, signed by the bridge`] : []),
        ...(counterparty ? [`sign the bridge's state ${counterparty.number}`] : []),
        ...(fund ? ["sign the funding transaction"] : []),
        ...(close ? ["sign the mutual close"] : []),
        ...(message.forceClose === undefined ? [] : ["hand out the exit: a forced close"]),
        ...(message.spend ? ["sign what is collected from the bridge's close"] : []),
      ];
      return parts.join("; ");
    }
    case "paid":
      return "preimage";
    case "failed":
      return message.code;
    case "channel":
      return `channel ${message.state}`;
    case "settle":
      return "please pay the service fee that is owed";
  }
}
