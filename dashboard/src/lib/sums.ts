import type { Count, Signals, Workload } from './types';

/** How requests ended, of several edges together. Percentiles cannot be added, so there are none. */
export interface Ended {
  requests: number;
  bad: number;
  rps: number;
  /** Per second. */
  badRate: number;
  /** Percent. */
  ok: number | undefined;
  badBy: Count[];
}

/** Whether its own sidecars tell what it does: else no traffic seen is not the same as none. */
export const tells = (workload: Pick<Workload, 'reporting' | 'known' | 'uncounted'>) => workload.known !== false && workload.reporting > (workload.uncounted ?? 0);

export const badRate = (signals: Signals) => (signals.requests > 0 ? (signals.rps * signals.bad) / signals.requests : 0);

export function ended(all: readonly Signals[]): Ended {
  const by = new Map<string, number>();
  const sum = { requests: 0, bad: 0, rps: 0, badRate: 0 };
  for (const one of all) {
    sum.requests += one.requests;
    sum.bad += one.bad;
    sum.rps += one.rps;
    sum.badRate += badRate(one);
    for (const { reason, requests } of one.badBy ?? []) by.set(reason, (by.get(reason) ?? 0) + requests);
  }
  const badBy = [...by].map(([reason, requests]) => ({ reason, requests })).sort((a, b) => b.requests - a.requests);
  return { ...sum, ok: sum.requests > 0 ? (100 * (sum.requests - sum.bad)) / sum.requests : undefined, badBy };
}

/** How it stands with a share of requests that ended well. */
export type Health = 'good' | 'warn' | 'bad' | 'unknown';

/** From one in a thousand that fails it is worth a look, from one in a hundred it is bad. */
export function health(ok: number | undefined): Health {
  if (ok === undefined) return 'unknown';
  return ok < 99 ? 'bad' : ok < 99.9 ? 'warn' : 'good';
}
