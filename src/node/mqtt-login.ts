import { dialMqtt } from "./mqtt.ts";
/** Whether a broker lets somebody in: tried as the gateway and the devices do it. */

export interface MqttLogin {
  readonly url: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly topics: readonly string[];
}

const ANSWER_MS = 5_000;

/**
 * Logs in, subscribes and leaves; why that fails, or undefined. Who is logged in under that name is thrown out by it.
 * Throws `mqtt-bad-url`.
 */
export function loginFails(login: MqttLogin): Promise<string | undefined> {
  return new Promise(resolve => {
    const end = (why: string | undefined) => {
      clearTimeout(timer);
      dial.close();
      resolve(why);
    };
    const timer = setTimeout(() => end("it does not answer"), ANSWER_MS);
    const dial = dialMqtt({
      ...login,
      onOpen: () => end(undefined),
      onMessage() {},
      onClose: reason => end(reason),
    });
  });
}
