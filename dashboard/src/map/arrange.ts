/** Where boxes are: callers left of whom they call. What stood somewhere stays there. */
import { Graph, layout } from '@dagrejs/dagre';

import type { Point, Rect } from './model';

export interface Item {
  id: string;
  w: number;
  h: number;
  /** In focus: its column. */
  hop?: number;
}

export type Call = [from: string, to: string, weight: number];

/** What one arrangement is of: the mesh, a frame, or what is around a focus. */
export interface Job {
  key: string;
  items: Item[];
  calls: Call[];
  /** Upper left corners that are known. */
  known: [string, Point][];
}

export interface Placed {
  key: string;
  places: [string, Point][];
}

/** Between columns, and between boxes of one. */
const COLUMNS = 72;
const ROWS = 22;
/** Calls of each box that decide where it is; all of a dense mesh would take dagre long, and be no better to read. */
const STRONGEST = 2;
/** So many boxes that fill less than this share of the map are moved together, to a map so many times as wide as high. */
const CROWD = 12;
const EMPTY = 0.14;
const ASPECT = 1.6;

/** Places of all items, of which those that are known are kept. */
export function arrange({ key, items, calls, known }: Job): Placed {
  const sorted = [...items].sort((a, b) => (a.id < b.id ? -1 : 1));
  const fresh = sorted.some((item) => item.hop !== undefined) ? inColumns(sorted, calls) : anew(sorted, calls);
  const before = new Map(known);
  const kept = sorted.filter((item) => before.has(item.id));
  return { key, places: [...(kept.length === 0 ? fresh : joined(sorted, calls, fresh, before))] };
}

/** By dagre; who has no calls is in rows below. */
function anew(items: readonly Item[], calls: readonly Call[]): Map<string, Point> {
  const places = new Map<string, Point>();
  const strong = strongest(items, calls);
  const called = new Set(strong.flatMap(([from, to]) => [from, to]));
  const [some, alone] = [items.filter((item) => called.has(item.id)), items.filter((item) => !called.has(item.id))];
  if (some.length > 0) {
    const graph = new Graph().setGraph({ rankdir: 'LR', ranksep: COLUMNS, nodesep: ROWS, marginx: 0, marginy: 0 }).setDefaultEdgeLabel(() => ({}));
    for (const { id, w, h } of some) graph.setNode(id, { width: w, height: h });
    for (const [from, to, weight] of strong) graph.setEdge(from, to, { weight: 1 + Math.round(Math.log10(1 + weight)), minlen: 1 });
    layout(graph);
    for (const { id, w, h } of some) {
      const { x, y } = graph.node(id) as { x: number; y: number };
      places.set(id, { x: Math.round(x - w / 2), y: Math.round(y - h / 2) });
    }
    condense(some, places);
  }
  const bottom = Math.max(0, ...some.map((item) => (places.get(item.id)?.y ?? 0) + item.h + ROWS * 2));
  const right = Math.max(0, ...some.map((item) => (places.get(item.id)?.x ?? 0) + item.w));
  const [w, h] = [Math.max(0, ...alone.map((item) => item.w)) + ROWS, Math.max(0, ...alone.map((item) => item.h)) + ROWS];
  const columns = Math.max(1, Math.floor((right + ROWS) / w), Math.min(alone.length, Math.round(Math.sqrt((alone.length * h * 1.8) / w))));
  for (const [at, { id }] of alone.entries()) places.set(id, { x: (at % columns) * w, y: bottom + Math.floor(at / columns) * h });
  return places;
}

/** A map that is mostly empty, because many call many, becomes columns of about equal length, in the order that dagre found. */
function condense(items: readonly Item[], places: Map<string, Point>): void {
  const [right, bottom] = [Math.max(...items.map((item) => (places.get(item.id)?.x ?? 0) + item.w)), Math.max(...items.map((item) => (places.get(item.id)?.y ?? 0) + item.h))];
  const filled = items.reduce((sum, { w, h }) => sum + w * h, 0) / (right * bottom);
  if (items.length < CROWD || filled > EMPTY) return;
  const [w, h] = [Math.max(...items.map((item) => item.w)) + COLUMNS * 1.5, Math.max(...items.map((item) => item.h)) + ROWS * 1.5];
  const columns = Math.max(2, Math.round(Math.sqrt((ASPECT * items.length * h) / w)));
  const at = (item: Item) => places.get(item.id) ?? { x: 0, y: 0 };
  const flow = [...items].sort((a, b) => at(a).x - at(b).x || at(a).y - at(b).y || (a.id < b.id ? -1 : 1));
  const long = Math.ceil(flow.length / columns);
  for (let column = 0; column < columns; column += 1) {
    const own = flow.slice(column * long, (column + 1) * long).sort((a, b) => at(a).y - at(b).y || (a.id < b.id ? -1 : 1));
    const top = ((long - own.length) * h) / 2;
    for (const [row, { id }] of own.entries()) places.set(id, { x: Math.round(column * w), y: Math.round(top + row * h) });
  }
}

/** For each item the busiest calls that it makes, and that it takes. */
function strongest(items: readonly Item[], calls: readonly Call[]): Call[] {
  const there = new Set(items.map((item) => item.id));
  const sorted = calls.filter(([from, to]) => from !== to && there.has(from) && there.has(to)).sort((a, b) => b[2] - a[2] || (a[0] + a[1] < b[0] + b[1] ? -1 : 1));
  const [made, taken] = [new Map<string, number>(), new Map<string, number>()];
  return sorted.filter(([from, to]) => {
    const [a, b] = [made.get(from) ?? 0, taken.get(to) ?? 0];
    if (a >= STRONGEST && b >= STRONGEST) return false;
    made.set(from, a + 1);
    taken.set(to, b + 1);
    return true;
  });
}

/** Columns by hop; dagre says in which order. */
function inColumns(items: readonly Item[], calls: readonly Call[]): Map<string, Point> {
  const hops = new Map(items.map((item) => [item.id, item.hop ?? 0]));
  const forward = calls.filter(([from, to]) => (hops.get(to) ?? 0) - (hops.get(from) ?? 0) === 1);
  const order = anew(items, forward);
  const places = new Map<string, Point>();
  const width = Math.max(0, ...items.map((item) => item.w)) + COLUMNS;
  const columns = new Map<number, Item[]>();
  for (const item of items) columns.set(item.hop ?? 0, [...(columns.get(item.hop ?? 0) ?? []), item]);
  for (const [hop, column] of columns) {
    column.sort((a, b) => Number(a.id.startsWith('*')) - Number(b.id.startsWith('*')) || (order.get(a.id)?.y ?? 0) - (order.get(b.id)?.y ?? 0));
    let y = -column.reduce((sum, item) => sum + item.h + ROWS, -ROWS) / 2;
    for (const { id, h } of column) {
      places.set(id, { x: hop * width, y: Math.round(y) });
      y += h + ROWS;
    }
  }
  return places;
}

/** The new ones come to a free place, as near as can be to where they would be beside those that they call or are called by. */
function joined(items: readonly Item[], calls: readonly Call[], fresh: Map<string, Point>, known: Map<string, Point>): Map<string, Point> {
  const places = new Map<string, Point>();
  const taken: Rect[] = [];
  for (const { id, w, h } of items) {
    const at = known.get(id);
    if (!at) continue;
    places.set(id, at);
    taken.push({ ...at, w, h });
  }
  for (const { id, w, h, hop } of items) {
    if (places.has(id)) continue;
    const near = calls.flatMap(([from, to]) => (from === id ? [to] : to === id ? [from] : [])).filter((other) => places.has(other));
    const anchors = near.length > 0 ? near : [...places.keys()];
    const shift = (axis: 'x' | 'y') => anchors.reduce((sum, other) => sum + (places.get(other)?.[axis] ?? 0) - (fresh.get(other)?.[axis] ?? 0), 0) / Math.max(1, anchors.length);
    const wanted = { x: (fresh.get(id)?.x ?? 0) + (hop === undefined ? shift('x') : 0), y: (fresh.get(id)?.y ?? 0) + shift('y') };
    const at = freePlace({ x: Math.round(wanted.x), y: Math.round(wanted.y), w, h }, taken, hop === undefined);
    places.set(id, at);
    taken.push({ ...at, w, h });
  }
  return places;
}

/** Steps in rings around what is wanted; in focus only up and down, because columns say something. */
function freePlace(wanted: Rect, taken: readonly Rect[], sideways: boolean): Point {
  const [dx, dy] = [(wanted.w + COLUMNS) / 2, (wanted.h + ROWS) / 2];
  // Of n boxes at most 9 each can be in the way of what is tried.
  const rings = 4 + 2 * taken.length;
  for (let ring = 0; ring <= rings; ring += 1) {
    const tried: [number, number][] = [];
    for (let i = -ring; i <= ring; i += 1) {
      tried.push([0, ring === Math.abs(i) ? i : ring]);
      if (sideways) tried.push([i, ring], [i, -ring], [ring, i], [-ring, i]);
    }
    tried.sort((a, b) => Math.hypot(a[0] * dx, a[1] * dy) - Math.hypot(b[0] * dx, b[1] * dy));
    for (const [i, j] of tried) {
      const at = { x: Math.round(wanted.x + i * dx), y: Math.round(wanted.y + j * dy) };
      const clear = (sideways === false || at.x >= 0) && taken.every((one) => at.x + wanted.w + ROWS <= one.x || one.x + one.w + ROWS <= at.x || at.y + wanted.h + ROWS <= one.y || one.y + one.h + ROWS <= at.y);
      if (clear && (sideways === false || at.y >= 0)) return at;
    }
  }
  return { x: wanted.x, y: Math.max(0, ...taken.map((one) => one.y + one.h)) + ROWS };
}
