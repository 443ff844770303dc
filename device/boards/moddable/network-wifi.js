// Wi-Fi and the time of day for an ESP32, in place of the SDK's own set-up: that one joins once and gives up, and a board
// that drives in and out of reach has to go on joining. Resolves when the clock is right: invoices expire, and limits are
// per hour.
import WiFi from "embedded:network/interface/wifi";
import config from "mc/config";
import SNTP from "sntp";
import Time from "time";
import Timer from "timer";

const RETRY_MS = 1000;
/** A clock before this (2026) has not been set. */
const LONG_AGO = 1767225600000;

export default () =>
  new Promise((resolve, reject) => {
    const { ssid: SSID, password } = config;
    if (!SSID)
      return reject(Object.assign(new Error("no ssid was given to mcconfig"), { code: "wifi-missing" }));
    let isAsking = false;
    const wifi = new WiFi({ onChanged: look });
    look();

    function look() {
      if (wifi.connection <= 200) Timer.set(join, RETRY_MS);
      if (wifi.connection < 500) return;
      trace(`lngate: address ${wifi.address}\n`);
      if (!isAsking) setClock();
      isAsking = true;
    }

    function join() {
      if (wifi.connection > 200) return;
      try {
        wifi.connect(password ? { SSID, password, secure: true } : { SSID });
      } catch {
        Timer.set(join, RETRY_MS);
      }
    }

    function setClock() {
      // After a reset without a loss of power the clock goes on.
      if (Date.now() > LONG_AGO) return resolve();
      new SNTP({ host: config.sntp }, (message, value) => {
        if (message === SNTP.error) return config.sntp; // ask again
        if (message !== SNTP.time) return;
        Time.set(value);
        resolve();
      });
    }
  });
