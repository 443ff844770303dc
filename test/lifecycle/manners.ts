/** A bridge that behaves as some implementations do, at the test's choice: LDK with what it hears and says changed. */
import {
  type ChannelManager,
  type ChannelMessageHandler,
  ClosingSigned,
  ErrorAction,
  ErrorMessage,
  Level,
  MessageSendEvent,
  MessageSendEvent_SendClosingSigned,
  WarningMessage,
} from "lightningdevkit";
import { messagesThrough } from "../../gateway/signer/messages.ts";

export class Manners {
  /** An `error` ends nothing here (LND): only a peer that has forgotten the channel does. */
  keepsChannels = false;
  /** Mutual closes are negotiated without ranges (LND). */
  closesWithoutRange = false;
  /** What it warns of instead of answering a fee that is proposed for a mutual close. */
  closeWarning: string | undefined;
  /** How it answers `open_channel`, if it does not open one. */
  openRefusal: string | undefined;
  /** Sizes of channels that it was asked for, sat. */
  readonly asked: number[] = [];
  /** Errors and fees that it was told. */
  readonly errors: string[] = [];
  readonly closeFees: number[] = [];
  /** sat per 1000 weight units, for mutual closes. */
  closing = { least: 253, most: 253 };
  private readonly own: MessageSendEvent[] = [];

  readonly behaviour = {
    messages: (manager: ChannelManager) => this.messages(manager),
    closingFeerates: () => this.closing,
  };

  private messages(manager: ChannelManager): ChannelMessageHandler {
    const inner = () => manager.as_ChannelMessageHandler();
    return messagesThrough(
      manager,
      {
        handle_error: (peer, message) => {
          this.errors.push(message.get_data());
          if (!this.keepsChannels) inner().handle_error(peer, message);
        },
        handle_open_channel: (peer, message) => {
          const fields = message.get_common_fields();
          this.asked.push(Number(fields.get_funding_satoshis()));
          if (this.openRefusal === undefined) inner().handle_open_channel(peer, message);
          else {
            const error = ErrorMessage.constructor_new(fields.get_temporary_channel_id(), this.openRefusal);
            const action = ErrorAction.constructor_send_error_message(error);
            this.own.push(MessageSendEvent.constructor_handle_error(peer, action));
          }
        },
        handle_closing_signed: (peer, message) => {
          this.closeFees.push(Number(message.get_fee_satoshis()));
          if (this.closeWarning !== undefined) {
            const warning = WarningMessage.constructor_new(message.get_channel_id(), this.closeWarning);
            const action = ErrorAction.constructor_send_warning_message(warning, Level.LDKLevel_Debug);
            this.own.push(MessageSendEvent.constructor_handle_error(peer, action));
          } else if (this.closesWithoutRange) inner().handle_closing_signed(peer, withoutRange(message));
          else inner().handle_closing_signed(peer, message);
        },
      },
      events => [...events.map(each => this.sent(each)), ...this.own.splice(0)],
    );
  }

  private sent(event: MessageSendEvent): MessageSendEvent {
    if (!this.closesWithoutRange || !(event instanceof MessageSendEvent_SendClosingSigned)) return event;
    return MessageSendEvent.constructor_send_closing_signed(event.node_id, withoutRange(event.msg));
  }
}

function withoutRange(message: ClosingSigned): ClosingSigned {
  return ClosingSigned.constructor_new(
    message.get_channel_id(),
    message.get_fee_satoshis(),
    message.get_signature(),
    null,
  );
}
