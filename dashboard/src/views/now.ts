import { asks, type Answer } from '../lib/api';
import { keyOf } from '../lib/names';
import { ended, tells, type Ended } from '../lib/sums';
import { byCallee, steady, troubles, worst, type Trouble } from '../lib/troubles';
import type { Edge, Mesh, Policies, View, Workload } from '../lib/types';
import { partialOf } from '../lib/partial';
import { few, known, problemOf, view } from '../lib/view';

export interface NamespaceRow {
  namespace: string;
  workloads: number;
  troubled: number;
  rps: number;
  /** As callers saw it. */
  ok: number | undefined;
  bad: number;
  /** Of the slowest workload that was asked something; percentiles cannot be added. */
  slowest: { name: string; p99: number } | undefined;
  trend: (number | null)[];
}

export interface Now {
  window: number;
  troubles: Trouble[];
  /** Beyond those. */
  more: number;
  /** Workloads: with something wrong, with traffic and well, without traffic, and of which nothing is known. */
  counts: { all: number; troubled: number; fine: number; quiet: number; unknown: number };
  totals: Ended & { mtls: number | undefined; pods: number; reporting: number };
  trend: (number | null)[];
  namespaces: NamespaceRow[];
  shortened: boolean;
  partial: number | undefined;
  /** What could not be found out, and why. */
  unknown: string[];
}

/** Troubles that are shown: who has more than that reads from the top. */
const SHOWN = 50;

/** The keys of all troubles, as they stood last. */
let stood: string[] = [];

export const now = view<{ window: number }, [View<Workload>, View<Edge>, Mesh, Policies], Now>(
  ({ window }, size) => [asks.stat({ window, watch: few(size) }), asks.edges({ window }), asks.mesh(), asks.policies()],
  ([stat, edges, mesh, policies]): Answer<Now> => {
    if ('problem' in stat) return stat;
    if ('problem' in edges) return edges;
    const all = steady(troubles({ stat: stat.value, edges: edges.value, mesh: known(mesh), policies: known(policies), now: Date.now() / 1000 }), stood);
    stood = all.map((one) => one.key);
    const unknown = [
      ['What proxies have applied, and their certificates', problemOf(mesh)?.text],
      ['Whether policies are accepted', problemOf(policies)?.text],
    ].flatMap(([what, why]) => (why ? [`${what}: not known. ${why}`] : []));
    return { value: { ...summary(stat.value, edges.value, all), troubles: all.slice(0, SHOWN), more: Math.max(0, all.length - SHOWN), unknown } };
  },
);

type Summary = Pick<Now, 'window' | 'counts' | 'totals' | 'trend' | 'namespaces' | 'shortened' | 'partial'>;

/** What is not about single troubles. */
export function summary(stat: View<Workload>, edges: View<Edge>, all: readonly Trouble[]): Summary {
  const troubled = new Set(all.filter((one) => one.page === 'service').map((one) => one.rest.join('/')));
  const calls = byCallee(edges.items);
  const counts = { all: stat.items.length, troubled: 0, fine: 0, quiet: 0, unknown: 0 };
  const spaces = new Map<string, Workload[]>();
  for (const workload of stat.items) {
    counts[stateOf(workload, calls.get(keyOf(workload)), troubled)] += 1;
    const space = spaces.get(workload.namespace);
    if (space) space.push(workload);
    else spaces.set(workload.namespace, [workload]);
  }
  const namespaces = [...spaces].map(([namespace, workloads]) => namespaceRow(namespace, workloads, calls, troubled));
  namespaces.sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
  const signals = stat.items.map((one) => one.signals);
  const secured = signals.filter((one) => one.mtls !== undefined && one.rps + one.connections > 0);
  const weight = secured.reduce((sum, one) => sum + one.rps + one.connections, 0);
  const totals = {
    ...sum(stat.items.map((one) => worst(one, calls.get(keyOf(one))))),
    mtls: weight > 0 ? secured.reduce((sum, one) => sum + (one.mtls ?? 0) * (one.rps + one.connections), 0) / weight : undefined,
    pods: stat.items.reduce((sum, one) => sum + one.pods, 0),
    reporting: stat.items.reduce((sum, one) => sum + one.reporting, 0),
  };
  return { window: stat.window, counts, totals, trend: added(stat.items.map((one) => one.trend)), namespaces, shortened: stat.shortened || edges.shortened, partial: partialOf(stat, edges) };
}

function stateOf(workload: Workload, calls: readonly Edge[] | undefined, troubled: ReadonlySet<string>): 'troubled' | 'fine' | 'quiet' | 'unknown' {
  if (troubled.has(keyOf(workload))) return 'troubled';
  const asked = workload.signals.requests > 0 || workload.signals.connections > 0 || (calls ?? []).some((edge) => edge.signals.requests > 0);
  if (asked) return 'fine';
  return tells(workload) ? 'quiet' : 'unknown';
}

function namespaceRow(namespace: string, workloads: Workload[], calls: Map<string, Edge[]>, troubled: ReadonlySet<string>): NamespaceRow {
  const { rps, ok, badRate } = sum(workloads.map((one) => worst(one, calls.get(keyOf(one)))));
  let slowest: NamespaceRow['slowest'];
  for (const { name, signals } of workloads) {
    if (signals.p99 !== undefined && signals.p99 > (slowest?.p99 ?? -1)) slowest = { name, p99: signals.p99 };
  }
  const wrong = workloads.filter((one) => troubled.has(keyOf(one))).length;
  return { namespace, workloads: workloads.length, troubled: wrong, rps, ok, bad: badRate, slowest, trend: added(workloads.map((one) => one.trend)) };
}

function sum(all: Ended[]): Ended {
  const total = ended([]);
  for (const one of all) {
    total.requests += one.requests;
    total.bad += one.bad;
    total.rps += one.rps;
    total.badRate += one.badRate;
  }
  return { ...total, ok: total.requests > 0 ? (100 * (total.requests - total.bad)) / total.requests : undefined };
}

/** Of a minute that is known of one it is known of all: they are as old as what the control plane remembers. */
export function added(trends: (number | null)[][]): (number | null)[] {
  const sum: (number | null)[] = new Array(Math.max(0, ...trends.map((one) => one.length))).fill(null);
  for (const trend of trends) for (const [at, value] of trend.entries()) if (value !== null) sum[at] = (sum[at] ?? 0) + value;
  return sum;
}
