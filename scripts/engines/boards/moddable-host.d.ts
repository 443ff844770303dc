/** What a test in the simulator uses of the Moddable SDK beside the board's (device/boards/moddable/platform.d.ts). */

declare module "moddable:file" {
  export class File {
    constructor(path: string);
    readonly length: number;
    readonly position: number;
    read(type: StringConstructor, length: number): string;
  }
}

declare module "moddable:mc/config" {
  const config: { readonly cases: string };
  export default config;
}
