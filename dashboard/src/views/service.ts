import { asks, type Answer, type Of } from '../lib/api';
import { keyOf } from '../lib/names';
import { partialOf } from '../lib/partial';
import { as, view } from '../lib/view';
import type { Chart, Edge, Route, View, Workload } from '../lib/types';

export interface Service {
  window: number;
  /** Undefined if there is none of that name. */
  workload: Workload | undefined;
  callers: Edge[];
  callees: Edge[];
  /** Why it is not known who calls whom. */
  unseen: string | undefined;
  unheard: string[];
  shortened: boolean;
  partial: number | undefined;
}

type Named = Of & { namespace: string; name: string };

/** A workload and those it speaks to, the most requests first. */
export const service = view<Named, [View<Workload>, View<Edge>], Service>(
  (of) => [asks.stat({ ...of, watch: true }), asks.edges(of)],
  ([stat, edges], of): Answer<Service> => {
    if ('problem' in stat) return stat;
    const all = 'value' in edges ? [...edges.value.items].sort((a, b) => b.signals.rps - a.signals.rps || b.signals.connections - a.signals.connections) : [];
    const key = keyOf(of);
    const { window, unheard, shortened, items } = stat.value;
    return {
      value: {
        window,
        unheard,
        shortened,
        partial: partialOf(stat.value),
        workload: items.find((one) => keyOf(one) === key),
        callers: all.filter((edge) => keyOf(edge.to) === key),
        callees: all.filter((edge) => keyOf(edge.from) === key),
        unseen: 'problem' in edges ? edges.problem.text : undefined,
      },
    };
  },
);

export const routes = as((of: Named) => asks.routes(of)) satisfies { of(answers: Answer<unknown>[], params: Named): Answer<View<Route>> };
export const chart = as((of: Named) => asks.chart(of)) satisfies { of(answers: Answer<unknown>[], params: Named): Answer<Chart> };
