import { asks, type Answer } from '../lib/api';
import { keyOf } from '../lib/names';
import { badRate, ended, tells } from '../lib/sums';
import { byCallee } from '../lib/troubles';
import type { Edge, View, Workload } from '../lib/types';
import { partialOf } from '../lib/partial';
import { few, known, problemOf, view } from '../lib/view';

/** A row of the table: plain figures only, because all of them are handed from the worker once a second. */
export interface WorkloadRow {
  key: string;
  namespace: string;
  name: string;
  kind: string;
  rps: number | undefined;
  /** Requests per second that failed, as the workload or its callers saw it: whichever saw more. */
  bad: number | undefined;
  /** Percent, by its own sidecars. */
  ok: number | undefined;
  /** Percent, as callers saw it: with what never arrived. */
  seen: number | undefined;
  p50: number | undefined;
  p99: number | undefined;
  mtls: number | undefined;
  connections: number | undefined;
  callers: number;
  callees: number;
  pods: number;
  reporting: number;
  trend: (number | null)[];
}

export interface Workloads {
  window: number;
  rows: WorkloadRow[];
  unheard: string[];
  shortened: boolean;
  partial: number | undefined;
  /** Why it is not known what callers saw. */
  unseen: string | undefined;
}

export const workloads = view<{ window: number }, [View<Workload>, View<Edge>], Workloads>(
  ({ window }, size) => [asks.stat({ window, watch: few(size) }), asks.edges({ window })],
  ([stat, edges]): Answer<Workloads> => {
    if ('problem' in stat) return stat;
    const { window, unheard, shortened, items } = stat.value;
    const calls = byCallee(known(edges)?.items ?? []);
    return { value: { window, unheard, shortened, partial: partialOf(stat.value), unseen: problemOf(edges)?.text, rows: items.map((one) => row(one, calls.get(keyOf(one)))) } };
  },
);

/** Where nobody reports and nobody calls, nothing is known: no figure, not none. */
export function row(workload: Workload, calls: readonly Edge[] | undefined): WorkloadRow {
  const { namespace, name, kind, signals, callers, callees, pods, reporting, trend } = workload;
  const seen = calls ? ended(calls.map((edge) => edge.signals)) : undefined;
  const known = tells(workload) || signals.requests > 0 || signals.connections > 0 || calls !== undefined;
  return {
    key: keyOf(workload),
    namespace,
    name,
    kind,
    rps: known ? signals.rps : undefined,
    bad: known ? Math.max(badRate(signals), seen?.badRate ?? 0) : undefined,
    ok: signals.ok,
    seen: seen?.ok,
    p50: signals.p50,
    p99: signals.p99,
    mtls: signals.mtls,
    connections: known ? signals.connections : undefined,
    callers,
    callees,
    pods,
    reporting,
    trend,
  };
}
