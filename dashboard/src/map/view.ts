import { asks } from '../lib/api';
import { few, view } from '../lib/view';
import type { Edge, View, Workload } from '../lib/types';

export interface MapOf {
  window: number;
}

/** What the map draws. */
export const map = view<MapOf, [View<Workload>, View<Edge>], { workloads: number; edges: number }>(
  ({ window }, size) => [asks.stat({ window, watch: few(size) }), asks.edges({ window })],
  ([stat, edges]) => {
    if ('problem' in stat) return stat;
    if ('problem' in edges) return edges;
    return { value: { workloads: stat.value.items.length, edges: edges.value.items.length } };
  },
);
