/**
 * What the board uses of the Moddable SDK: `moddable:crypt` stands for the SDK's module `crypt`, and so on. The names
 * declared here are kept as they are in the bundle.
 */

declare module "moddable:socket" {
  export class Socket {
    constructor(options: { host: string; port: number; noDelay: boolean });
    /** Called with what has happened; below zero the socket is of no use any more. */
    callback: (message: number) => void;
    /** All that has come; only while it is being told so. */
    read(type: typeof ArrayBuffer): ArrayBuffer;
    /** All of it or, where there is no room, an error. */
    write(data: ArrayBuffer): void;
    close(): void;
  }
}

declare module "moddable:crypt" {
  export class Digest {
    constructor(type: "SHA256");
    write(message: ArrayBuffer): void;
    close(): ArrayBuffer;
  }
  export class BlockCipher {
    constructor(cipher: "AES", key: ArrayBuffer);
  }
  export class Mode {
    constructor(mode: "CTR", cipher: BlockCipher, iv: ArrayBuffer);
    encrypt(data: ArrayBuffer): ArrayBuffer;
  }
}

declare module "moddable:ecp" {
  export default class ECPoint {
    constructor(x: bigint, y: bigint, isIdentity?: boolean);
    readonly x: bigint;
    readonly y: bigint;
    /** 1, or 0 for infinity. */
    readonly z: bigint;
  }
}

declare module "moddable:ec" {
  import type ECPoint from "moddable:ecp";
  /** The curve y² = x³ + a·x + b over the integers modulo m. */
  export default class EC {
    constructor(a: bigint, b: bigint, m: bigint);
    add(p: ECPoint, q: ECPoint): ECPoint;
    /** k·p + l·q. */
    mul2(p: ECPoint, k: bigint, q: ECPoint, l: bigint): ECPoint;
  }
}

declare module "moddable:mont" {
  /** Arithmetic modulo an odd m. */
  export default class Mont {
    constructor(parameters: { m: bigint });
    mulinv(a: bigint): bigint;
    exp(a: bigint, exponent: bigint): bigint;
  }
}

declare module "moddable:timer" {
  interface Timer {
    readonly brand: unknown;
  }
  const Timer: {
    set(callback: () => void, milliseconds: number): Timer;
    clear(timer: Timer): void;
  };
  export default Timer;
}

declare module "moddable:time" {
  const Time: {
    /** Milliseconds; starts again at some point. */
    readonly ticks: number;
    delta(start: number, end?: number): number;
  };
  export default Time;
}

/** The device's flash: a partition of the chip, or a file where there is none (flash-*.js, chosen by manifest.json). */
declare module "moddable:lngate/flash" {
  export interface Storage {
    readonly blockSize: number;
    readonly byteLength: number;
    read(offset: number, byteLength: number): ArrayBuffer;
    write(offset: number, byteLength: number, data: ArrayBuffer): void;
    erase(block: number): void;
  }
  export default function openStorage(): Storage;
}

/** The curve in C, or null where it is not built in (native-curve.js, no-native-curve.js). See native-curve.ts. */
declare module "moddable:lngate/curve" {
  const curve: ((operation: number, ...args: readonly Uint8Array[]) => ArrayBuffer | number) | null;
  export default curve;
}
