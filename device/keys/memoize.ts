/** The same function, which keeps its last few results: those whose arguments are the `same`. */
export function memoize<A extends readonly unknown[], T>(
  keep: number,
  same: (a: A, b: A) => boolean,
  make: (...args: A) => T,
): (...args: A) => T {
  let kept: { args: A; value: T }[] = [];
  return (...args) => {
    for (const entry of kept) if (same(entry.args, args)) return entry.value;
    const value = make(...args);
    kept = [{ args, value }].concat(kept.slice(0, keep - 1));
    return value;
  };
}
