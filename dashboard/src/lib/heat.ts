/** A latency heatmap's cells, out of what the control plane counted. Pure. */
import type { Point } from './types';

export interface Heat {
  /** Bounds of rows in seconds, from the fastest; a row is from one to the next. */
  bounds: number[];
  /** For each point, a count for each row; null where nothing is known. */
  columns: (number[] | null)[];
  most: number;
}

/** Rows that are drawn, at most. */
const ROWS = 28;

/**
 * Rows of equal height on a logarithmic scale, over what happened. A count goes whole to the row of its upper bound: rows are never
 * finer than what was counted in.
 */
export function heat(points: readonly (Pick<Point, 'heat'> | null)[]): Heat {
  const uppers = [...new Set(points.flatMap((point) => point?.heat?.map(([upper]) => upper) ?? []))].filter((upper) => upper > 0 && Number.isFinite(upper)).sort((a, b) => a - b);
  const [first, last] = [uppers[0], uppers.at(-1)];
  if (first === undefined || last === undefined) return { bounds: [], columns: points.map((point) => point && []), most: 0 };
  const finest = Math.min(...uppers.slice(1).map((upper, at) => Math.log(upper / (uppers[at] ?? upper))), Math.log(2));
  const span = Math.log(last / first);
  const step = Math.max(finest, span / (ROWS - 1), 1e-9);
  const rows = Math.round(span / step) + 1;
  const bounds = Array.from({ length: rows + 1 }, (_, at) => first * Math.exp((at - 1) * step));
  const rowOf = (upper: number) => Math.max(0, Math.min(rows - 1, Math.round(Math.log(upper / first) / step)));
  const columns = points.map((point) => {
    if (!point) return null;
    const column: number[] = new Array(rows).fill(0);
    for (const [upper, count] of point.heat ?? []) {
      const row = upper > 0 && Number.isFinite(upper) ? rowOf(upper) : rows - 1;
      column[row] = (column[row] ?? 0) + count;
    }
    return column;
  });
  return { bounds, columns, most: Math.max(0, ...columns.flatMap((column) => column ?? [])) };
}

/** How dark a cell is, from 0 to 1: few are seen as well, because the slow ones are few. */
export const shade = (count: number, most: number) => (count <= 0 || most <= 0 ? 0 : 0.12 + 0.88 * Math.sqrt(count / most));
