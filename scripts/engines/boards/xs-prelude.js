// What a Moddable application does not find, this engine must not offer either.
for (const name of [
  "TextEncoder",
  "TextDecoder",
  "Base64",
  "performance",
  "print",
  "harden",
  "lockdown",
  "Compartment",
  "currentMeterLimit",
  "setImmediate",
  "console",
  "crypto",
  "structuredClone",
  "queueMicrotask",
])
  delete globalThis[name];

// What the engine needs for itself, before anything of ours is loaded.
globalThis.emptyMachine = gc();
