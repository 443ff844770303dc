/**
 * Instructions and stack of the native curve on the instruction set of an ESP32-C3, counted: where Debian's cross compiler
 * (gcc-riscv64-unknown-elf, picolibc-riscv64-unknown-elf) and emulator (qemu-system-misc) are.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { curveSources } from "../engines/native-curve.ts";

const COMPILER = "riscv64-unknown-elf-gcc";
const EMULATOR = "qemu-system-riscv32";

/** An operation's number, what has to come out, and its arguments: native-curve-core.h. */
function cases(): string {
  const scalar = (text: string) => Buffer.from(text.repeat(4), "hex");
  const [secret, a, b, hash] = [
    "8d3f1a6b9c2e7045",
    "e16c2b5f08a7d493",
    "5b90c4e7a1f2368d",
    "f7a3925e6c0b14d8",
  ].map(scalar);
  const key = nobleCurve.publicKey(secret!);
  const other = nobleCurve.publicKey(a!);
  const signature = nobleCurve.sign(hash!, secret!);
  const id = [0, 1].find(each => Buffer.compare(nobleCurve.recover(signature, each, hash!), key) === 0)!;
  const list: [name: string, operation: number, answer: number, ...args: Uint8Array[]][] = [
    ["publicKey", 0, 2, secret!],
    ["isPoint", 1, 1, key],
    ["add", 2, 2, key, other],
    ["combine", 3, 2, key, a!, other, b!],
    ["verify", 4, 1, signature, hash!, key],
    ["recover", 5, 2, signature, new Uint8Array([id]), hash!],
  ];
  return list
    .map(([name, operation, answer, ...args]) => {
      const lengths = args.map(({ length }) => length).join();
      return `{"${name}", ${operation}, ${answer}, {${lengths}}, {${args.map(bytes => `{${bytes.join()}}`).join()}}},\n`;
    })
    .join("");
}

/** Figures by operation; null where the tools are not there. */
export async function countInstructions(): Promise<Readonly<Record<string, number>> | null> {
  for (const tool of [COMPILER, EMULATOR]) if (spawnSync(tool, ["--version"]).status !== 0) return null;
  const { library } = await curveSources();
  const folder = mkdtempSync(join(tmpdir(), "lngate-count-"));
  try {
    writeFileSync(join(folder, "cases.h"), cases());
    const program = join(folder, "count.elf");
    execFileSync(COMPILER, [
      ...[
        "-Os",
        "-march=rv32imac",
        "-mabi=ilp32",
        "-ffunction-sections",
        "-fdata-sections",
        "-Wl,--gc-sections",
      ],
      ...["--specs=picolibc.specs", "--crt0=hosted", "--oslib=semihost"],
      // Where the emulated machine has its memory.
      ...["-Wl,--defsym=__flash=0x80000000", "-Wl,--defsym=__flash_size=0x200000"],
      ...["-Wl,--defsym=__ram=0x80200000", "-Wl,--defsym=__ram_size=0x200000"],
      ...["-I", library, "-I", "device/boards/moddable", "-I", folder],
      ...["device/boards/moddable/native-curve-core.c", "scripts/bench/curve-count.c", "-o", program],
    ]);
    const ran = spawnSync(
      EMULATOR,
      [
        ...["-M", "virt", "-bios", "none", "-nographic", "-semihosting", "-icount", "shift=0"],
        ...["-kernel", program],
      ],
      { encoding: "utf8", timeout: 120_000 },
    );
    // Where the emulator writes what the program prints depends on its version.
    const out = ran.stdout + ran.stderr;
    if (ran.status !== 0) throw new Error(`the emulated program ended with ${ran.status}: ${out}`);
    const figures: Record<string, number> = {};
    for (const line of out.trim().split("\n")) {
      const [name, instructions, stack] = line.trim().split(" ");
      figures[`${name}Instructions`] = Number(instructions);
      figures[`${name}StackBytes`] = Number(stack);
    }
    return figures;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
