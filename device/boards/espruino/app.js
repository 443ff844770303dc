// A device that pays what a reader hands over: POST the invoice to http://<board>:8080/
// Saved as .bootcde; needs the module "lngate" and the device's image in flash (docs/boards.md).
var led = typeof LED1 !== "undefined" ? LED1 : undefined;
function show(state, lit) {
  print("lngate: " + state);
  if (led) led.write(lit);
}

function start() {
  var device = require("lngate").openBoard();
  show("device " + device.id + " starts", 0);
  device.connect().then(() => {
    show("ready, " + device.balance().spendableMsat + " msat to spend", 1);
  });
  function pay(invoice) {
    show("paying", 0);
    device.pay(invoice).then(
      receipt => {
        show("paid " + receipt.amountMsat + " msat in " + receipt.ms + " ms, receipt " + receipt.preimage, 1);
      },
      error => {
        show("not paid: " + (error.code || error), 1);
      },
    );
  }
  require("http")
    .createServer((request, response) => {
      var invoice = "";
      request.on("data", data => {
        invoice += data;
      });
      request.on("end", () => {
        response.writeHead(202);
        response.end("paying\n");
        pay(invoice.trim());
      });
    })
    .listen(8080);
}

E.on("init", start);
