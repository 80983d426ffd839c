import { LEAST, type Second } from './release';

/** Seconds that are shown, and that a point of a rate is of: of a canary that gets a request now and then a second says nothing. */
export const SPAN = 600;
export const POINT = 10;

type Line = (number | null)[];

/** What happened, as lines; null where it is not known. */
export interface Lines {
  /** Each second. */
  seconds: number[];
  /** By gate, at least `LEAST`. */
  evidence: Record<string, Line>;
  /** Every `POINT` seconds. */
  times: number[];
  /** Percent. */
  errors: { canary: Line; stable: Line };
  slow: { canary: Line; stable: Line };
  /** Per second. */
  rps: { canary: Line; stable: Line };
}

/** The last ten minutes before the newest second; undefined if there is none. */
export function lines(curve: readonly Second[]): Lines | undefined {
  const last = curve.at(-1);
  if (!last) return undefined;
  const end = (Math.floor(last.at / POINT) + 1) * POINT;
  const begin = end - SPAN;
  const seconds = Array.from({ length: last.at - begin + 1 }, (_, i) => begin + i);
  const times = Array.from({ length: SPAN / POINT }, (_, i) => begin + i * POINT);
  const gates = [...new Set(curve.flatMap(({ evidence }) => Object.keys(evidence)))];
  const evidence = Object.fromEntries(gates.map((gate) => [gate, seconds.map((): number | null => null)]));
  const points = times.map(() => ({ told: 0, errors: arms(), slow: arms() }));
  for (const one of curve) {
    if (one.at < begin) continue;
    for (const [gate, value] of Object.entries(one.evidence)) evidence[gate]![one.at - begin] = Math.max(LEAST, value);
    const point = points[Math.floor((one.at - begin) / POINT)];
    if (!one.told || !point) continue;
    point.told += 1;
    for (const kind of ['errors', 'slow'] as const) {
      for (const arm of ['canary', 'stable'] as const) {
        point[kind][arm].all += one[kind][arm].all;
        point[kind][arm].bad += one[kind][arm].bad;
      }
    }
  }
  const both = (value: (point: (typeof points)[number], arm: 'canary' | 'stable') => number | null) => ({ canary: points.map((point) => value(point, 'canary')), stable: points.map((point) => value(point, 'stable')) });
  const bad = (kind: 'errors' | 'slow') => both((point, arm) => (point[kind][arm].all > 0 ? (100 * point[kind][arm].bad) / point[kind][arm].all : null));
  return { seconds, evidence, times, errors: bad('errors'), slow: bad('slow'), rps: both(({ told, errors }, arm) => (told > 0 ? errors[arm].all / told : null)) };
}

const arms = () => ({ canary: { all: 0, bad: 0 }, stable: { all: 0, bad: 0 } });

/** Requests per second to the canary in the last minute of which something is known. */
export function lately(curve: readonly Second[]): number | undefined {
  const told = curve.slice(-60).filter((one) => one.told);
  return told.length > 0 ? told.reduce((sum, one) => sum + one.errors.canary.all, 0) / told.length : undefined;
}
