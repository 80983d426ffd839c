import type { Point, View } from './types';

/** Since how many seconds all is known, if that is less than what figures are of. */
export function partialOf(...views: Pick<View<unknown>, 'window' | 'whole'>[]): number | undefined {
  const short = views.filter(({ window, whole }) => whole < window).map(({ whole }) => whole);
  return short.length > 0 ? Math.min(...short) : undefined;
}

/** When, in Unix seconds, the last point ends that is known in part. */
export function partialUntil(chart: { begin: number; step: number; points: (Point | null)[] }): number | undefined {
  const last = chart.points.findLastIndex((point) => point?.partial);
  return last < 0 ? undefined : chart.begin + (last + 1) * chart.step;
}
