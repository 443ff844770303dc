/** Segwit addresses (BIP 173, BIP 350) and the output scripts they stand for. */
import { BECH32, BECH32M, bytesOfWords, decodeBech32, encodeBech32, wordsOf } from "../bytes/bech32.ts";
import { concat } from "../bytes/bytes.ts";
import { lngateError } from "../errors.ts";
import type { Network } from "./network.ts";
import { OP_0, OP_1, script, scriptNumber } from "./script.ts";

/** The prefix of a network's addresses (testnet and signet share theirs). */
const PREFIXES: Record<Network, string> = { mainnet: "bc", testnet: "tb", signet: "tb", regtest: "bcrt" };

const MAX_LENGTH = 90;

function bad(sentence: string): never {
  throw lngateError("bad-address", sentence);
}

function checkProgram(version: number, length: number): void {
  const fits = version === 0 ? length === 20 || length === 32 : length >= 2 && length <= 40;
  if (!fits) bad("a witness program of a length that its version does not have");
}

/**
 * The output script that an address stands for. Throws `wrong-network` for a segwit address of another network,
 * `bad-address` for anything else that is none (older kinds of address included).
 */
export function addressScript(address: string, network: Network): Uint8Array {
  // Version 0 goes with Bech32, the later ones with Bech32m; the first word after the separator tells.
  const variant = address.charAt(address.lastIndexOf("1") + 1).toLowerCase() === "q" ? BECH32 : BECH32M;
  let version: number;
  let prefix: string;
  let program: Uint8Array;
  try {
    const decoded = decodeBech32(address, variant, MAX_LENGTH);
    prefix = decoded.prefix;
    version = decoded.words.length > 0 ? decoded.words[0]! : 32;
    program = bytesOfWords(decoded.words.slice(1));
  } catch {
    bad("this is not a segwit address");
  }
  if (version > 16) bad("a witness version above 16");
  checkProgram(version, program.length);
  if (prefix !== PREFIXES[network]) {
    for (const name of ["mainnet", "testnet", "regtest"] as const) {
      if (PREFIXES[name] === prefix)
        throw lngateError("wrong-network", `an address of ${name}, not ${network}`);
    }
    bad("an address of no Bitcoin network");
  }
  return script([scriptNumber(version), program]);
}

/** The address of a segwit output script. Throws `bad-address` for any other script. */
export function scriptAddress(outputScript: Uint8Array, network: Network): string {
  const opcode = outputScript.length < 4 || outputScript.length > 42 ? -1 : outputScript[0]!;
  const version = opcode === OP_0 ? 0 : opcode - OP_1 + 1;
  if (version < 0 || version > 16 || (opcode !== OP_0 && opcode < OP_1))
    bad("this is not a segwit output script");
  const program = outputScript.slice(2);
  if (outputScript[1] !== program.length) bad("this is not a segwit output script");
  checkProgram(version, program.length);
  const words = concat([new Uint8Array([version]), wordsOf(program)]);
  return encodeBech32(PREFIXES[network], words, version === 0 ? BECH32 : BECH32M);
}
