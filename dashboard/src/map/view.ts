import { asks, type Answer } from '../lib/api';
import { keyOf } from '../lib/names';
import { partialOf } from '../lib/partial';
import { byCallee } from '../lib/troubles';
import type { Edge, View, Workload } from '../lib/types';
import { few, view } from '../lib/view';
import { row } from '../views/workloads';
import { filtered } from './filter';
import { canFocus, focus } from './focus';
import { graph } from './graph';
import type { Scene } from './model';
import { scene } from './scene';

export interface MapAsked {
  window: number;
  /** What is typed above the map. */
  q: string;
  /** Namespaces that are open. */
  open?: string[];
  /** Id of what is in focus, and how far one sees from there. */
  focus?: string;
  hops: number;
  /** The box that is looked at. */
  at?: string;
}

export interface MapValue {
  scene: Scene;
  /** What the scene is of: figures alone differ between two of the same. */
  of: string;
  /** What was to be in focus is not there. */
  lost: string | undefined;
  /** Workloads that the filter asks for, and all. */
  found: number;
  all: number;
  unheard: string[];
  shortened: boolean;
  partial: number | undefined;
}

/** Who was shown last, and of what: so that of equals the same stay. */
let before: { of: string; shown: ReadonlySet<string> } = { of: '', shown: new Set() };

/** What the map draws: at most 150 boxes, whatever the mesh. */
export const map = view<MapAsked, [View<Workload>, View<Edge>], MapValue>(
  ({ window }, size) => [asks.stat({ window, watch: few(size) }), asks.edges({ window })],
  ([stat, edges], asked): Answer<MapValue> => {
    if ('problem' in stat) return stat;
    if ('problem' in edges) return edges;
    const { value, shown } = mapOf(stat.value, edges.value, asked, before);
    before = { of: value.of, shown };
    return { value };
  },
);

/** Pure: what was shown before comes from outside. */
export function mapOf(stat: View<Workload>, edges: View<Edge>, asked: MapAsked, last: typeof before): { value: MapValue; shown: Set<string> } {
  const calls = byCallee(edges.items);
  const rows = new Map(asked.q ? stat.items.map((one) => [keyOf(one), row(one, calls.get(keyOf(one)))]) : []);
  const { graph: kept, found } = filtered(graph(stat.items, edges.items), rows, asked.q);
  const lost = asked.focus !== undefined && !canFocus(kept, asked.focus) ? asked.focus : undefined;
  const of = JSON.stringify([asked.q, lost === undefined ? asked.focus : null, asked.hops]);
  const shownLast = last.of === of ? last.shown : new Set<string>();
  const focused = asked.focus === undefined ? undefined : focus(kept, asked.focus, asked.hops, shownLast, asked.at);
  const drawn = focused ?? scene(kept, { open: asked.open, at: asked.at }, shownLast);
  const shown = new Set([...drawn.boxes.map((box) => box.id), ...drawn.lines.map((line) => line.id)]);
  const [unheard, shortened] = [[...new Set([...stat.unheard, ...edges.unheard])], stat.shortened || edges.shortened];
  const value = { scene: drawn, of, lost, found, all: stat.items.length, unheard, shortened, partial: partialOf(stat, edges) };
  return { value, shown };
}
