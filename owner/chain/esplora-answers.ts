/** What an Esplora server answers, checked before it is believed to have a shape: anybody may run one. */

/** Reads a value of this shape. Throws for any other. */
export type Shape<T> = (value: unknown) => T;
type Fields = { readonly [name: string]: Shape<unknown> };
type ObjectOf<F extends Fields> = { readonly [N in keyof F]: F[N] extends Shape<infer T> ? T : never };

const MAX_SAT = 21e14;
const MAX_HEIGHT = 0xffffffff;

function test<T>(isRight: (value: unknown) => boolean): Shape<T> {
  return value => {
    if (!isRight(value)) throw new Error("another shape");
    return value as T;
  };
}

const upTo = (max: number) => test<number>(value => Number.isInteger(value) && inRange(value, 0, max));
const isText = (value: unknown, pattern: RegExp) => typeof value === "string" && pattern.test(value);
const inRange = (value: unknown, min: number, max: number) => Number(value) >= min && Number(value) <= max;
const flag = test<boolean>(value => typeof value === "boolean");
const txid = test<string>(value => isText(value, /^[0-9a-f]{64}$/));
const hex = test<string>(value => isText(value, /^([0-9a-f]{2})*$/));

function maybe<T>(shape: Shape<T>): Shape<T | null> {
  return value => (value === undefined || value === null ? null : shape(value));
}

function listOf<T>(shape: Shape<T>): Shape<T[]> {
  return value => test<unknown[]>(Array.isArray)(value).map(shape);
}

function object<F extends Fields>(fields: F): Shape<ObjectOf<F>> {
  return value => {
    const given = test<{ [name: string]: unknown }>(each => typeof each === "object" && each !== null)(value);
    const read = Object.entries(fields).map(([name, shape]) => [name, shape(given[name])]);
    return Object.fromEntries(read) as ObjectOf<F>;
  };
}

export const STATUS = object({ confirmed: flag, block_height: maybe(upTo(MAX_HEIGHT)) });
/** `/scripthash/…/utxo` */
export const UNSPENT = listOf(object({ txid, vout: upTo(0xffffffff), value: upTo(MAX_SAT), status: STATUS }));
/** `/tx/…` */
export const TRANSACTION = object({
  vout: listOf(object({ scriptpubkey: hex, value: upTo(MAX_SAT) })),
  status: STATUS,
});
/** `/tx/…/outspend/…` */
export const OUTSPEND = object({ spent: flag, txid: maybe(txid), status: maybe(STATUS) });

/** `/fee-estimates`: sat per virtual byte by the number of blocks, the soonest first. */
export const ESTIMATES: Shape<readonly (readonly [blocks: number, perVbyte: number])[]> = value =>
  Object.entries(test<object>(each => typeof each === "object" && each !== null)(value))
    .map(([blocks, perVbyte]) => {
      if (!/^\d+$/.test(blocks) || !isFeerate(perVbyte)) throw new Error("another shape");
      return [Number(blocks), perVbyte] as const;
    })
    .sort(([a], [b]) => a - b);

function isFeerate(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value < 1e8;
}

/** The body of an answer; null if it is longer than that, of which no more is read. */
export async function bodyUpTo(answer: Response, maxBytes: number): Promise<Uint8Array | null> {
  const parts: Uint8Array[] = [];
  let length = 0;
  // Leaving the loop closes the connection.
  for await (const part of answer.body ?? []) {
    length += part.length;
    if (length > maxBytes) return null;
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts));
}
