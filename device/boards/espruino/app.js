// Pays what a reader on a serial port hands over and, at the press of a button, what a shop in the network asks for.
// Saved as .bootcde. The settings are the file lngate.json in Storage (docs/boards.md):
//   {"ssid": "…", "password": "…", "reader": {"rx": "D16", "tx": "D17"}, "shop": "http://192.168.1.7/invoice"}
// On the console, print(device.exit()) ends the channel and shows its last state, for `lngate device exit --from`.
var settings = require("Storage").readJSON("lngate.json", true) || {};
var device;
var blinking;

function show(text) {
  print("lngate: " + text);
}

// Off: nothing works. Blinking: connecting (slowly), paying (fast). On: ready.
function led(lit, blinkMs) {
  if (blinking) clearInterval(blinking);
  blinking = undefined;
  if (typeof LED1 === "undefined") return;
  LED1.write(lit);
  if (blinkMs) blinking = setInterval(() => LED1.toggle(), blinkMs);
}

function pay(invoice) {
  led(1, 100);
  device.pay(invoice.trim()).then(
    receipt => {
      show("paid " + receipt.amountMsat + " msat in " + receipt.ms + " ms, receipt " + receipt.preimage);
      led(1);
    },
    error => {
      show("not paid: " + (error.code || error));
      led(1);
    },
  );
}

function start() {
  // Invoices expire: without the time of day nothing is paid.
  if (Date.now() < 1.7e12) return setTimeout(start, 500);
  device = require("lngate").openBoard();
  show("device " + device.id + " starts");
  device.connect().then(() => {
    show("ready, " + device.balance().spendableMsat + " msat to spend");
    led(1);
  });
  var line = "";
  if (settings.reader) {
    Serial2.setup(settings.baud || 9600, settings.reader);
    Serial2.on("data", data => {
      line += data;
      var end = line.indexOf("\n");
      if (end >= 0) pay(line.substr(0, end));
      if (end >= 0 || line.length > 2000) line = "";
    });
  }
  if (settings.shop && typeof BTN1 !== "undefined") {
    setWatch(
      () =>
        require("http").get(settings.shop, response => {
          var invoice = "";
          response.on("data", data => {
            invoice += data;
          });
          response.on("close", () => pay(invoice));
        }),
      BTN1,
      { repeat: true, debounce: 50, edge: "falling" },
    );
  }
}

E.on("init", () => {
  led(0, 500);
  if (!settings.ssid) return start();
  var wifi = require("Wifi");
  wifi.connect(settings.ssid, { password: settings.password }, error => {
    if (error) return show("no Wi-Fi: " + error);
    wifi.setSNTP(settings.timeServer || "pool.ntp.org", "UTC0");
    start();
  });
});
