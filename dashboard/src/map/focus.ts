/** One box, who calls it and whom it calls, from left to right. */
import { boxOf, fold, foldedName, grouped, weighed, workloadBox } from './boxes';
import { bundle } from './bundle';
import { groupOf, isClass, isGroup, type Box, type Graph, type Line, type Link, type Node, type Scene } from './model';
import { inOrder } from './scene';

/** Boxes of a column by its distance, what is folded included: 1 + 2 × (24 + 20) are at most 89. */
const COLUMN: Record<number, number> = { 0: 1, 1: 24, 2: 20 };
const LINES = 200;

export const canFocus = ({ nodes }: Graph, id: string) => nodes.has(id) || (isGroup(id) && [...nodes.keys()].some((node) => groupOf(node) === id));

/** Around the workload or class `id`, or around a namespace among namespaces. Undefined: there is none of this name. */
export function focus({ nodes, links }: Graph, id: string, hops: number, before: ReadonlySet<string>, at: string | undefined): Scene | undefined {
  const unitOf = isGroup(id) ? (node: string) => (isClass(node) ? node : groupOf(node)) : (node: string) => node;
  const units = grouped(nodes.values(), (node) => unitOf(node.id));
  if (!units.has(id)) return undefined;
  const hopOf = neighbourhood(links, unitOf, id, Math.max(1, Math.min(2, hops)));
  const place = new Map<string, string>();
  const boxes = columns(units, hopOf, before).flatMap(({ hop, shown, folded }) => {
    const found = shown.map((unit) => unitBox(unit, units.get(unit) ?? [], hop));
    for (const unit of shown) for (const node of units.get(unit) ?? []) place.set(node.id, unit);
    const rest = folded.flatMap((unit) => units.get(unit) ?? []);
    for (const node of rest) place.set(node.id, `*${hop}`);
    if (rest.length > 0) found.push(boxOf('fold', `*${hop}`, foldedName(rest), '', rest, hop));
    return found;
  });
  const near = links.filter((link) => place.has(link.from) && place.has(link.to));
  // What goes on between others far away is another matter, until one comes there.
  const hopAt = new Map(boxes.map((box) => [box.id, box.hop]));
  const onward = (line: Line) => (hopAt.get(line.to) ?? 0) - (hopAt.get(line.from) ?? 0) === 1;
  const bundled = bundle(near, (node) => place.get(node) ?? '', LINES, at ?? id, before, onward);
  return { boxes: inOrder(boxes), ...bundled, beyond: links.length - near.length, nodes: nodes.size, links: links.length };
}

const unitBox = (id: string, nodes: readonly Node[], hop: number): Box => {
  const [first] = nodes;
  if (isGroup(id) || !first) return boxOf('group', id, id.slice(0, -1), '', nodes, hop);
  return { ...workloadBox(first, '', hop), name: isClass(id) ? first.name : id };
};

/** Hops from `id`; callers are negative. Who is on both sides is where it is nearer, or else among the callers. */
export function neighbourhood(links: readonly Link[], unitOf: (id: string) => string, id: string, hops: number): Map<string, number> {
  const [callers, callees] = [new Map<string, Set<string>>(), new Map<string, Set<string>>()];
  for (const link of links) {
    const [from, to] = [unitOf(link.from), unitOf(link.to)];
    if (from === to) continue;
    for (const [map, key, value] of [[callers, to, from], [callees, from, to]] as const) {
      const all = map.get(key);
      if (all) all.add(value);
      else map.set(key, new Set([value]));
    }
  }
  const [up, down] = [reached(id, callers, hops), reached(id, callees, hops)];
  const found = new Map(down);
  for (const [one, hop] of up) if (hop <= (down.get(one) ?? Infinity)) found.set(one, hop === 0 ? 0 : -hop);
  return found;
}

function reached(id: string, by: ReadonlyMap<string, Set<string>>, hops: number): Map<string, number> {
  const found = new Map([[id, 0]]);
  for (let [hop, edge] = [1, [id]]; hop <= hops; hop += 1) {
    const next = edge.flatMap((one) => [...(by.get(one) ?? [])]).filter((one) => !found.has(one));
    for (const one of next) found.set(one, hop);
    edge = next;
  }
  return found;
}

function columns(units: Map<string, Node[]>, hopOf: Map<string, number>, before: ReadonlySet<string>) {
  const weigh = (unit: string) => weighed(unitBox(unit, units.get(unit) ?? [], 0));
  const byHop = grouped(hopOf, ([, hop]) => String(hop));
  return [...byHop.values()].map((all) => {
    const hop = all[0]?.[1] ?? 0;
    return { hop, ...fold(all.map(([unit]) => unit), weigh, COLUMN[Math.abs(hop)] ?? 1, before, () => false) };
  });
}
