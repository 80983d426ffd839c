/** The filter above the map: what it asks for stays, and whoever calls that or is called by it. */
import type { Filter } from '../lib/filter';
import { readFilter } from '../lib/filter';
import { FILTER, fields } from '../views/columns';
import type { WorkloadRow } from '../views/workloads';
import { isClass, type Graph, type Node } from './model';

/** `rows` are of all workloads, by their id. Gives the graph itself if all is asked for. */
export function filtered(graph: Graph, rows: ReadonlyMap<string, WorkloadRow>, text: string): { graph: Graph; found: number } {
  const filter = readFilter(text, FILTER);
  const workloads = [...graph.nodes.values()].filter((node) => !isClass(node.id));
  if (filter.all) return { graph, found: workloads.length };
  const asked = new Set(workloads.filter((node) => matches(filter, node, rows.get(node.id))).map((node) => node.id));
  const links = graph.links.filter((link) => asked.has(link.from) || asked.has(link.to));
  const kept = new Set([...asked, ...links.flatMap((link) => [link.from, link.to])]);
  const nodes = new Map<string, Node>();
  for (const [id, node] of graph.nodes) if (kept.has(id)) nodes.set(id, asked.has(id) ? node : { ...node, context: true });
  return { graph: { nodes, links }, found: asked.size };
}

function matches(filter: Filter, node: Node, row: WorkloadRow | undefined): boolean {
  // Who is only seen at the end of a call has a name, and no figures of its own.
  return filter.matches(row ? fields(row) : { name: node.id, texts: { ns: node.namespace, name: node.name }, figures: {} });
}
