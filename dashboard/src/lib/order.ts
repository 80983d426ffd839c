/**
 * Rows in an order that does not change under the reader's eyes: figures change every second, the order only when it is asked
 * for, and rows that came later stand at the end until then.
 */

export interface Sort {
  column: string;
  descending: boolean;
}

export function readSort(text: string | undefined, fallback: Sort, columns: readonly string[]): Sort {
  const descending = text?.startsWith('-') ?? false;
  const column = descending ? text!.slice(1) : text;
  return column && columns.includes(column) ? { column, descending } : fallback;
}

export const sortText = ({ column, descending }: Sort) => `${descending ? '-' : ''}${column}`;

export type Value = string | number | undefined;

/** What is not known comes last, whichever way it is sorted; equals by their key. */
export function sorted<T>(rows: readonly T[], value: (row: T) => Value, key: (row: T) => string, descending: boolean): T[] {
  const sign = descending ? -1 : 1;
  // Worked out once for each row, not for each comparison.
  const all = rows.map((row) => ({ row, value: value(row), key: key(row) }));
  all.sort((one, other) => {
    const [a, b] = [one.value, other.value];
    const unknown = Number(a === undefined) - Number(b === undefined);
    if (unknown !== 0) return unknown;
    const by = typeof a === 'string' || typeof b === 'string' ? compare(String(a), String(b)) : (a ?? 0) - (b ?? 0);
    return sign * by || compare(one.key, other.key);
  });
  return all.map((one) => one.row);
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** Rows as they stood before, by their keys. */
export function kept<T>(rows: readonly T[], key: (row: T) => string, before: readonly string[]): T[] {
  const byKey = new Map(rows.map((row) => [key(row), row]));
  const found: T[] = [];
  for (const one of before) {
    const row = byKey.get(one);
    if (row !== undefined) found.push(row);
    byKey.delete(one);
  }
  return [...found, ...byKey.values()];
}
