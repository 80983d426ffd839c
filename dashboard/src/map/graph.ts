/** Who there is and who calls whom, of what the control plane answers. */
import { keyOf, objectOf } from '../lib/names';
import { badRate, health, tells } from '../lib/sums';
import type { Edge, Signals, Workload } from '../lib/types';
import { count, few } from '../lib/units';
import { add, busy, isClass, none, okOf, worse, type Figures, type Graph, type Link, type Node, type State } from './model';

export function graph(workloads: readonly Workload[], edges: readonly Edge[]): Graph {
  const links = linksOf(edges);
  const nodes = new Map<string, Node>();
  const called = new Map<string, Figures>();
  for (const { to, figures } of links) {
    const sum = called.get(to) ?? none();
    add(sum, figures);
    called.set(to, sum);
  }
  for (const one of workloads) nodes.set(keyOf(one), node(one, called.get(keyOf(one))));
  // Who is not among the workloads: a class, or what is gone or not to be seen by whoever asks.
  for (const edge of edges) for (const end of [edge.from, edge.to]) if (!nodes.has(keyOf(end))) nodes.set(keyOf(end), stranger(keyOf(end), end.namespace, end.name, called.get(keyOf(end))));
  return { nodes, links };
}

function linksOf(edges: readonly Edge[]): Link[] {
  const found = new Map<string, Link>();
  for (const edge of edges) {
    const [from, to] = [keyOf(edge.from), keyOf(edge.to)];
    const link = found.get(`${from} ${to}`) ?? { from, to, figures: none() };
    add(link.figures, figuresOf(edge.signals, edge.security === 'plaintext'));
    found.set(`${from} ${to}`, link);
  }
  return [...found.values()];
}

function figuresOf(signals: Signals, plaintext: boolean): Figures {
  const { requests, bad, rps, connections, ok, p99 } = signals;
  const failed = requests === 0 && ok !== undefined ? connections * (1 - ok / 100) : 0;
  return { requests, bad, rps, badRate: badRate(signals), connections, failed, plain: plaintext ? rps + connections : 0, p99 };
}

function node(workload: Workload, called: Figures | undefined): Node {
  const { namespace, name, kind, signals, pods, reporting } = workload;
  const own = figuresOf(signals, false);
  // What never arrived only callers know; and what came, if it does not report.
  const figures = called && (called.badRate > own.badRate || busy(own) === 0) ? { ...called, p99: own.p99 ?? called.p99 } : { ...own, plain: called?.plain ?? 0 };
  const why: string[] = [];
  let state = stateOf(figures, tells(workload) ? 'quiet' : 'unknown');
  if (state === 'bad' || state === 'warn') why.push(failing(figures, signals));
  if (reporting > 0 && reporting < pods) {
    state = worse(state, 'warn');
    why.push(`${pods - reporting} of ${count(pods, 'pod')} ${pods - reporting === 1 ? 'does' : 'do'} not report`);
  }
  for (const { policy, audit, requests } of signals.deniedBy ?? []) {
    if (!audit) state = worse(state, 'warn');
    why.push(`${objectOf(policy)} ${audit ? 'would deny' : 'denies'} ${count(requests, 'request')}`);
  }
  if (state === 'unknown') why.push(workload.uncounted ? `Its sidecars count nothing: metrics are disabled by Telemetry ${(workload.uncountedBy ?? []).join(', ')}` : 'It has no sidecar that reports, and nobody was seen to call it');
  return { id: keyOf(workload), namespace, name, kind, state, why, figures, pods, reporting, context: false };
}

function failing(figures: Figures, signals: Signals): string {
  const ok = okOf(figures);
  const reasons = (signals.badBy ?? []).slice(0, 3).map((one) => one.reason);
  return `${few(ok === undefined ? undefined : 100 - ok)} % of requests fail${reasons.length > 0 ? `: ${reasons.join(', ')}` : ''}`;
}

function stranger(id: string, namespace: string, name: string, called: Figures | undefined): Node {
  const figures = called ?? none();
  // Calls that reached nobody are a problem of those who called: their lines say so.
  const state = isClass(id) ? 'quiet' : stateOf(figures, 'unknown');
  const why = isClass(id) ? [] : ['It is no workload of the mesh that can be seen now'];
  return { id, namespace, name, kind: '', state, why, figures, pods: 0, reporting: 0, context: false };
}

/** `idle`: what it is without traffic. */
export function stateOf(figures: Figures, idle: State): State {
  const ok = okOf(figures);
  return ok === undefined ? idle : (health(ok) as State);
}
