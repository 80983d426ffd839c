/** What the map is made of. Rates are per second, times seconds, lengths pixels at scale 1. */

/** How a box stands; the worst first. */
export const STATES = ['bad', 'warn', 'unknown', 'good', 'quiet'] as const;
export type State = (typeof STATES)[number];

/** What can be added up. */
export interface Figures {
  requests: number;
  bad: number;
  rps: number;
  badRate: number;
  /** Opaque connections, and those that a proxy ended. */
  connections: number;
  failed: number;
  /** Requests and connections that whoever is on the way can read. */
  plain: number;
  /** The slowest of those added up: percentiles cannot be added. */
  p99: number | undefined;
}

/** A workload, or a class of what is none. Its id is `NAMESPACE/NAME`, of a class `/NAME`. */
export interface Node {
  id: string;
  namespace: string;
  name: string;
  kind: string;
  state: State;
  /** Why the state is not good, in words. */
  why: string[];
  figures: Figures;
  pods: number;
  reporting: number;
  /** The filter does not ask for it: it calls what the filter asks for, or is called by that. */
  context: boolean;
}

/** One calls another; all Services and ways together. */
export interface Link {
  from: string;
  to: string;
  figures: Figures;
}

export interface Graph {
  nodes: Map<string, Node>;
  links: Link[];
}

/**
 * What is drawn. Ids: a workload's and a class's own; of a group and of its frame `NAMESPACE/`; of what is folded something with
 * a `*`, which no name can have.
 */
export interface Box {
  id: string;
  kind: 'group' | 'frame' | 'workload' | 'class' | 'fold';
  /** The frame that it is in; empty: none. */
  parent: string;
  name: string;
  state: State;
  /** Workloads and classes that it stands for, by state. */
  counts: Record<State, number>;
  figures: Figures;
  pods: number;
  reporting: number;
  why: string[];
  context: boolean;
  /** In focus: hops from what is in focus; callers are negative. */
  hop: number;
}

/** Calls from one box to another, bundled. */
export interface Line {
  id: string;
  from: string;
  to: string;
  /** Links that it stands for. */
  links: number;
  state: State;
  figures: Figures;
}

export interface Scene {
  /** Frames before what is in them. */
  boxes: Box[];
  lines: Line[];
  /** Links that are no line: with both ends in one box, too many to be drawn, or too far from what is in focus. */
  inside: number;
  folded: number;
  beyond: number;
  /** Workloads and classes, and links, that there are after the filter. */
  nodes: number;
  links: number;
}

export interface Point {
  x: number;
  y: number;
}

/** By its upper left corner. */
export interface Rect extends Point {
  w: number;
  h: number;
}

export const none = (): Figures => ({ requests: 0, bad: 0, rps: 0, badRate: 0, connections: 0, failed: 0, plain: 0, p99: undefined });

export function add(sum: Figures, one: Figures): void {
  sum.requests += one.requests;
  sum.bad += one.bad;
  sum.rps += one.rps;
  sum.badRate += one.badRate;
  sum.connections += one.connections;
  sum.failed += one.failed;
  sum.plain += one.plain;
  if (one.p99 !== undefined) sum.p99 = Math.max(sum.p99 ?? 0, one.p99);
}

/** Percent that ended well. */
export function okOf(figures: Figures): number | undefined {
  if (figures.requests > 0) return (100 * (figures.requests - figures.bad)) / figures.requests;
  return figures.connections > 0 ? 100 * (1 - figures.failed / figures.connections) : undefined;
}

export const busy = (figures: Figures) => figures.rps + figures.connections;

export const worse = (a: State, b: State): State => (STATES.indexOf(a) <= STATES.indexOf(b) ? a : b);

export const groupOf = (id: string) => id.slice(0, id.indexOf('/') + 1);
export const isClass = (id: string) => id.startsWith('/');
export const isGroup = (id: string) => id.length > 1 && id.endsWith('/');
