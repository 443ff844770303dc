// The application, made to be changed: it pays the invoice that a reader hands over (`POST` to port 8080), or, when the
// button is pressed, the one that `shop` answers with, as given to mcconfig ("http://192.168.1.7/invoice").
import { Request, Server } from "http";
import { openBoard } from "lngate";
import goOnline from "lngate/network";
import config from "mc/config";
import Timer from "timer";

const LONGEST_INVOICE = 1500;

// The board's own LED and button, where the SDK knows them. Dark: stopped. Slow: not ready. Lit: ready. Fast: paying.
const { LED, Button } = globalThis.Host ?? {};
const led = LED?.Default && new LED.Default();
const PACE_MS = { stopped: 0, starting: 500, ready: 0, paying: 80 };
let blinking;

function show(state, about) {
  trace(`lngate: ${state}${about ? `, ${about}` : ""}\n`);
  if (!led) return;
  Timer.clear(blinking);
  blinking = undefined;
  if (state === "ready") led.on();
  else led.off();
  if (PACE_MS[state]) blinking = Timer.repeat(() => (led.read() ? led.off() : led.on()), PACE_MS[state]);
}

const ready = about => show("ready", `${about}${device.balance().spendableMsat} msat to spend`);
const failed = error => error.code ?? String(error);

let device;
try {
  device = openBoard();
  show("starting", `device ${device.id}`);
  // Built with exit=1: the channel ends, and its last state is shown for `lngate device exit --from` (docs/boards.md).
  if (config.exit) show("stopped", device.exit());
  else {
    goOnline()
      .then(() => device.connect())
      .then(() => device.openChannel())
      .then(() => ready(""))
      .catch(error => show("stopped", failed(error)));
    listen();
  }
} catch (error) {
  // Most likely `vault-empty`: the partition has not been written yet.
  show("stopped", failed(error));
}

function pay(invoice) {
  show("paying");
  device.pay(invoice).then(
    ({ amountMsat, ms, preimage }) => ready(`paid ${amountMsat} msat in ${ms} ms, receipt ${preimage}, `),
    error => ready(`not paid: ${failed(error)}, `),
  );
}

function listen() {
  new Server({ port: Number(config.port ?? 8080) }).callback = function (message, value, more) {
    if (message === Server.header && value === "content-length" && Number(more) > LONGEST_INVOICE) {
      throw new Error("too long for an invoice"); // ends the connection before any of it is kept
    }
    if (message === Server.headersComplete) return String;
    if (message === Server.requestComplete) {
      this.isTaken = true;
      pay(value.trim());
    }
    if (message === Server.prepareResponse) {
      return this.isTaken ? { status: 202, body: "paying\n" } : { status: 400, body: "POST an invoice\n" };
    }
  };
  const [, host, port, path] = /^http:\/\/([^/:]+)(?::(\d+))?(\/.*)?$/.exec(config.shop ?? "") ?? [];
  if (!Button?.Default || !host) return;
  new Button.Default({
    onPush() {
      if (!this.pressed) return;
      const request = new Request({ host, port: Number(port ?? 80), path: path ?? "/", response: String });
      request.callback = (message, value) => {
        if (message === Request.responseComplete) pay(value.trim());
        else if (message === Request.error) ready("the shop does not answer, ");
      };
    },
  });
}
