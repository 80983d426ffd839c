/** Boxes of workloads: what they say together, and who of too many is folded. */
import { add, busy, isClass, none, STATES, worse, type Box, type Node, type State } from './model';

/** A map of more boxes than this is not read by anybody. */
export const MOST = 150;

const noneOf = (): Record<State, number> => ({ bad: 0, warn: 0, unknown: 0, good: 0, quiet: 0 });

export function boxOf(kind: Box['kind'], id: string, name: string, parent: string, nodes: readonly Node[], hop = 0): Box {
  const box: Box = { id, kind, parent, name, state: 'quiet', counts: noneOf(), figures: none(), pods: 0, reporting: 0, why: [], context: nodes.length > 0, hop };
  const states: State[] = [];
  for (const node of nodes) {
    box.counts[node.state] += 1;
    states.push(node.state);
    add(box.figures, node.figures);
    box.pods += node.pods;
    box.reporting += node.reporting;
    box.context &&= node.context;
  }
  // One workload of many that nobody knows of does not make its namespace unknown.
  const known = states.filter((state) => state !== 'unknown');
  box.state = (known.length > 0 ? known : states).reduce(worse, 'quiet');
  if (nodes.length === 1 && nodes[0]) box.why = nodes[0].why;
  return box;
}

export const workloadBox = (node: Node, parent: string, hop = 0) => boxOf(isClass(node.id) ? 'class' : 'workload', node.id, node.name, parent, [node], hop);

export interface Weighed {
  id: string;
  state: State;
  busy: number;
  context: boolean;
}

export const weighed = ({ id, state, figures, context }: Node | Box): Weighed => ({ id, state, busy: busy(figures), context });

/**
 * At most `most` of them, and the others: first `must`, then what is wrong, then what the filter asks for, then whoever was shown
 * `before`, so that a refresh does not exchange equals, then the busiest.
 */
export function fold<T>(all: readonly T[], of: (one: T) => Weighed, most: number, before: ReadonlySet<string>, must: (id: string) => boolean): { shown: T[]; folded: T[] } {
  if (all.length <= most) return { shown: [...all], folded: [] };
  const rank = (one: Weighed) => (must(one.id) ? 0 : one.state === 'bad' ? 1 : one.state === 'warn' ? 2 : one.context ? 5 : before.has(one.id) ? 3 : 4);
  const ranked = all.map((one) => ({ one, of: of(one), rank: rank(of(one)) }));
  ranked.sort((a, b) => a.rank - b.rank || Number(before.has(b.of.id)) - Number(before.has(a.of.id)) || b.of.busy - a.of.busy || (a.of.id < b.of.id ? -1 : 1));
  // The box of the others is one of them.
  const shown = Math.max(0, most - 1);
  return { shown: ranked.slice(0, shown).map(({ one }) => one), folded: ranked.slice(shown).map(({ one }) => one) };
}

/** `and 212 healthy`. */
export function foldedName(nodes: readonly Node[]): string {
  const wrong = nodes.filter((node) => node.state === 'bad' || node.state === 'warn').length;
  const only = (state: State) => nodes.every((node) => node.state === state);
  const how = wrong > 0 ? `more, ${wrong} with problems` : only('quiet') ? 'without traffic' : only('good') ? 'healthy' : 'more, none with problems';
  return `and ${nodes.length.toLocaleString('en')} ${how}`;
}

export const byState = (counts: Record<State, number>) => STATES.filter((state) => counts[state] > 0).map((state) => [state, counts[state]] as const);
export const standsFor = (box: Box) => STATES.reduce((sum, state) => sum + box.counts[state], 0);

/** What `keyOf` says of them, in the order in which they come. */
export function grouped<T>(all: Iterable<T>, keyOf: (one: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const one of all) {
    const same = found.get(keyOf(one));
    if (same) same.push(one);
    else found.set(keyOf(one), [one]);
  }
  return found;
}
