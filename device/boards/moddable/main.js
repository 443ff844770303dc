// A device that pays what a reader hands over: POST the invoice to http://<board>:8080/
import { Server } from "http";
import { openBoard } from "lngate";

const led = globalThis.Host?.LED?.Default ? new Host.LED.Default() : undefined;
const show = (state, lit) => {
  trace(`lngate: ${state}\n`);
  if (led) lit ? led.on() : led.off();
};

const device = openBoard();
show(`device ${device.id} starts`, false);
device
  .connect()
  .then(() => device.openChannel())
  .then(() => show(`ready, ${device.balance().spendableMsat} msat to spend`, true))
  .catch(error => show(`stopped: ${error.code ?? error}`, false));

function pay(invoice) {
  show("paying", false);
  device.pay(invoice).then(
    receipt => show(`paid ${receipt.amountMsat} msat in ${receipt.ms} ms, receipt ${receipt.preimage}`, true),
    error => show(`not paid: ${error.code ?? error}`, true),
  );
}

new Server({ port: 8080 }).callback = (message, value) => {
  switch (message) {
    case Server.headersComplete:
      return String;
    case Server.requestComplete:
      pay(value.trim());
      break;
    case Server.prepareResponse:
      return { status: 202, body: "paying\n" };
  }
};
