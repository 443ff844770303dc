// Duktape made as poor as Espruino: what its engine lacks is taken away, and the Promise that it has is given, as far
// as the device may rely on it (no finally, race, allSettled). Written in ES5, run as it is.
(function (global) {
  var missing = [
    "Symbol",
    "Proxy",
    "Reflect",
    "TextEncoder",
    "TextDecoder",
    "performance",
    "console",
    "alert",
    "CBOR",
    "require",
    "Buffer"
  ];
  for (var i = 0; i < missing.length; i++) delete global[missing[i]];
  delete Math.imul;
  delete Math.trunc;
  delete Math.log2;
  delete Math.clz32;
  delete Number.isInteger;
  delete Object.freeze;
  // As inexact from exponent 10 on as Espruino's.
  Math.pow = function () {
    throw new Error("Math.pow is not exact on Espruino");
  };

  // Duktape's typed arrays are older than Espruino's, which have these.
  Uint8Array.prototype.slice = function (from, to) {
    return new Uint8Array(this.subarray(from, to === undefined ? this.length : to));
  };
  Float64Array.prototype.fill = Uint8Array.prototype.fill = function (value) {
    for (var k = 0; k < this.length; k++) this[k] = value;
    return this;
  };
  Uint8Array.prototype.reverse = function () {
    this.set(Array.prototype.slice.call(this).reverse());
    return this;
  };

  var jobs = [];
  function Promise(executor) {
    var self = this;
    self.state = "pending";
    self.waiting = [];
    function settle(state, value) {
      if (self.state !== "pending") return;
      self.state = state;
      self.value = value;
      for (var k = 0; k < self.waiting.length; k++) jobs.push(self.waiting[k]);
      self.waiting = [];
    }
    function reject(error) {
      settle("rejected", error);
    }
    function resolve(value) {
      if (value && typeof value.then === "function") value.then(resolve, reject);
      else settle("fulfilled", value);
    }
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }
  Promise.prototype.then = function (onFulfilled, onRejected) {
    var self = this;
    return new Promise(function (resolve, reject) {
      function job() {
        var callback = self.state === "fulfilled" ? onFulfilled : onRejected;
        if (typeof callback !== "function") {
          (self.state === "fulfilled" ? resolve : reject)(self.value);
          return;
        }
        try {
          resolve(callback(self.value));
        } catch (error) {
          reject(error);
        }
      }
      if (self.state === "pending") self.waiting.push(job);
      else jobs.push(job);
    });
  };
  Promise.prototype.catch = function (onRejected) {
    return this.then(undefined, onRejected);
  };
  Promise.resolve = function (value) {
    return new Promise(function (resolve) {
      resolve(value);
    });
  };
  Promise.reject = function (error) {
    return new Promise(function (_resolve, reject) {
      reject(error);
    });
  };
  global.Promise = Promise;
  // What an event loop does between two events.
  global.runJobs = function () {
    while (jobs.length > 0) jobs.shift()();
  };
})(new Function("return this")());
