/**
 * What the board uses of Espruino: `espruino:crypto` stands for `require("crypto")`, and so on. The names declared here
 * are kept as they are in the bundle.
 */

declare module "espruino:crypto" {
  export function SHA256(message: Uint8Array): ArrayBuffer;
  export const AES: {
    encrypt(message: Uint8Array, key: Uint8Array, options: { mode: "ECB" }): ArrayBuffer;
  };
}

declare module "espruino:Flash" {
  export function read(length: number, addr: number): Uint8Array;
  export function write(data: Uint8Array, addr: number): void;
  export function erasePage(addr: number): void;
  export function getPage(addr: number): { addr: number; length: number };
  export function getFree(): { addr: number; length: number }[];
}

declare module "espruino:Storage" {
  export function readArrayBuffer(name: string): ArrayBuffer | undefined;
}

declare module "espruino:net" {
  export interface Socket {
    on(event: "data", listener: (data: string) => void): void;
    on(event: "close" | "error", listener: () => void): void;
    write(data: string): boolean;
    end(): void;
  }
  export function connect(options: { host: string; port: number }, listener: () => void): Socket;
}
