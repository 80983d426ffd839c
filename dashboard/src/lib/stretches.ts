/** Values that stand side by side, and where they begin. */
export interface Stretch {
  from: number;
  values: number[];
}

/** What stands between gaps. */
export function stretches(values: readonly (number | null)[]): Stretch[] {
  const all: Stretch[] = [];
  for (const [at, value] of values.entries()) {
    if (value === null) continue;
    const last = all.at(-1);
    if (last && last.from + last.values.length === at) last.values.push(value);
    else all.push({ from: at, values: [value] });
  }
  return all;
}
