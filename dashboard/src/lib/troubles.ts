/** What is wrong, the most users hit first. Only what was said is judged: what is not known is told apart. */
import { keyOf, objectOf, serviceOf } from './names';
import { ended, health, type Ended } from './sums';
import type { Edge, End, Mesh, Policies, Policy, Proxy, View, Workload } from './types';
import { count, few, rate, span } from './units';

export interface Trouble {
  key: string;
  severity: 'bad' | 'warn';
  kind: 'failing' | 'denied' | 'silent' | 'rejecting' | 'behind' | 'replica' | 'certificate' | 'policy';
  title: string;
  /** Requests per second that it hits. */
  hits: number;
  details: string[];
  /** The page that says more. */
  page: string;
  rest: string[];
  query: Record<string, string>;
}

/** A certificate that ends so soon should have been renewed: sidecars do it at half of its life. Seconds. */
const SOON = 3600;

type Plain = Pick<Trouble, 'key' | 'severity' | 'kind' | 'title'> & Partial<Trouble>;
const trouble = (plain: Plain): Trouble => ({ hits: 0, details: [], page: 'mesh', rest: [], query: {}, ...plain });
const ofWorkload = ({ namespace, name }: End, query: Record<string, string> = {}) => ({ page: 'service', rest: [namespace, name], query });

/** Requests that callers sent to each workload, by its key; and to what is none, by Service or class. */
export function byCallee(edges: readonly Edge[]): Map<string, Edge[]> {
  const found = new Map<string, Edge[]>();
  for (const edge of edges) {
    const key = edge.to.namespace ? keyOf(edge.to) : (edge.service ?? edge.to.name);
    const all = found.get(key);
    if (all) all.push(edge);
    else found.set(key, [edge]);
  }
  return found;
}

/** Its own figures or its callers', whichever tell of more that failed: what never arrived only callers know. */
export function worst(workload: Workload, calls: readonly Edge[] | undefined): Ended {
  const [own, seen] = [ended([workload.signals]), ended((calls ?? []).map((edge) => edge.signals))];
  return seen.badRate > own.badRate ? seen : own;
}

export function failing(workloads: readonly Workload[], edges: readonly Edge[]): Trouble[] {
  const calls = byCallee(edges);
  const found: Trouble[] = [];
  for (const workload of workloads) {
    const key = keyOf(workload);
    const of = worst(workload, calls.get(key));
    calls.delete(key);
    const state = health(of.ok);
    if (of.bad === 0 || (state !== 'bad' && state !== 'warn')) continue;
    const title = `${share(of)} of requests to ${key} fail`;
    found.push(trouble({ key: `failing ${key} ${workload.kind}`, severity: state, kind: 'failing', title, hits: of.badRate, details: reasons(of), ...ofWorkload(workload) }));
  }
  for (const [key, edges] of calls) {
    const of = ended(edges.map((edge) => edge.signals));
    const state = health(of.ok);
    const callers = edges.filter((edge) => edge.from.namespace).sort((a, b) => b.signals.bad - a.signals.bad);
    const [first] = callers;
    if (of.bad === 0 || (state !== 'bad' && state !== 'warn') || !first) continue;
    const nobody = edges.every((edge) => edge.to.name === 'unknown');
    const from = listed(callers.map((edge) => keyOf(edge.from)));
    // With no Service it was a rule that led nowhere.
    const calls = first.service ? `to ${serviceOf(key)}` : `from ${from}`;
    const title = nobody ? `Calls ${calls} reach nobody` : `${share(of)} of calls ${calls} fail`;
    found.push(trouble({ key: `failing ${key}`, severity: state, kind: 'failing', title, hits: of.badRate, details: [...reasons(of), ...(first.service ? [`from ${from}`] : [])], ...ofWorkload(first.from, { tab: 'calls' }) }));
  }
  return found;
}

const share = (of: Ended) => `${few(of.ok === undefined ? undefined : 100 - of.ok)} %`;

/** Reasons with their shares; what was the caller's fault is no part of what failed. */
function reasons(of: Ended): string[] {
  const all = of.badBy.slice(0, 3).map(({ reason, requests }) => `${reason} ${count(requests, 'time')}`);
  return [`${rate(of.badRate)} of ${rate(of.rps)} per second`, ...all];
}

export function denied(workloads: readonly Workload[], window: number): Trouble[] {
  const found = new Map<string, { policy: string; audit: boolean; requests: number; rate: number; of: Workload[] }>();
  for (const workload of workloads) {
    for (const { policy, audit, requests } of workload.signals.deniedBy ?? []) {
      const key = `${policy} ${audit}`;
      const sum = found.get(key) ?? { policy, audit, requests: 0, rate: 0, of: [] };
      found.set(key, { ...sum, requests: sum.requests + requests, rate: sum.rate + requests / window, of: [...sum.of, workload] });
    }
  }
  return [...found].map(([key, { policy, audit, requests, rate: perSecond, of }]) => {
    const title = `${objectOf(policy)} ${audit ? 'would deny' : 'denies'} calls to ${listed(of.map(keyOf))}`;
    const details = [count(requests, 'request'), audit ? 'only audited: they went through' : 'right if they should not call: it is for you to know'];
    const [first] = of;
    const where = first ? ofWorkload(first, { tab: 'policies' }) : {};
    return trouble({ key: `denied ${key}`, severity: 'warn', kind: 'denied', title, hits: audit ? 0 : perSecond, details, ...where });
  });
}

/** Some of whose pods do not report; with none at all it may have no sidecar, unless the mesh knows of one. */
export function silent(workloads: readonly Workload[], mesh: Mesh | undefined): Trouble[] {
  const mute = new Map<string, number>();
  for (const proxy of mesh?.proxies ?? []) {
    const key = `${proxy.namespace}/${proxy.workload}`;
    if (!proxy.reporting && proxy.dataPlane === 'tulle') mute.set(key, (mute.get(key) ?? 0) + 1);
  }
  return workloads.flatMap((workload) => {
    const key = keyOf(workload);
    const missing = workload.reporting > 0 ? workload.pods - workload.reporting : (mute.get(key) ?? 0);
    if (missing <= 0) return [];
    const title = `${missing} of ${count(workload.pods, 'pod')} of ${key} ${missing === 1 ? 'does' : 'do'} not report`;
    return [trouble({ key: `silent ${key} ${workload.kind}`, severity: 'warn', kind: 'silent', title, details: ['what they do is missing in all figures'], ...ofWorkload(workload) })];
  });
}

export function proxies(mesh: Mesh, now: number): Trouble[] {
  const found: Trouble[] = [];
  const rejects = new Map<string, { reason: string; resource: string; by: Proxy[] }>();
  for (const proxy of mesh.proxies) {
    for (const { resource, reason } of proxy.state === 'rejecting' ? proxy.rejects : []) {
      const one = rejects.get(`${resource} ${reason}`) ?? { resource, reason, by: [] };
      one.by.push(proxy);
      rejects.set(`${resource} ${reason}`, one);
    }
  }
  for (const [key, { resource, reason, by }] of rejects) {
    const title = `${count(by.length, 'proxy rejects', 'proxies reject')} ${resource}`;
    const details = [reason, `the last good configuration stays in force at ${listed(by.map(workloadOf))}`];
    found.push(trouble({ key: `rejecting ${key}`, severity: 'bad', kind: 'rejecting', title, details, query: { q: 'state:rejecting' } }));
  }
  const behind = mesh.proxies.filter((proxy) => proxy.state === 'behind');
  if (behind.length > 0) {
    const title = `${count(behind.length, 'proxy has', 'proxies have')} not applied the newest configuration`;
    found.push(trouble({ key: 'behind', severity: 'warn', kind: 'behind', title, details: [`at ${listed(behind.map(workloadOf))}`], query: { q: 'state:behind' } }));
  }
  const ends = mesh.proxies.filter(({ certificateEnds: ends }) => ends !== null && ends !== undefined && ends - now < SOON);
  const soonest = Math.min(...ends.map((proxy) => proxy.certificateEnds ?? Infinity));
  if (ends.length > 0) {
    const over = soonest <= now;
    const when = over ? `ended ${span(now - soonest)} ago` : `end in ${span(soonest - now)}`;
    const title = `${count(ends.length, 'certificate')} ${over ? 'not renewed: the first' : 'not renewed: the first will'} ${when}`;
    found.push(trouble({ key: 'certificate', severity: over ? 'bad' : 'warn', kind: 'certificate', title, details: [`of ${listed(ends.map(workloadOf))}`], query: { q: 'cert<1h' } }));
  }
  return found;
}

const workloadOf = (proxy: Proxy) => `${proxy.namespace}/${proxy.workload}`;

function listed(names: string[]): string {
  const all = [...new Set(names)];
  return all.length > 3 ? `${all.slice(0, 2).join(', ')} and ${all.length - 2} more` : all.join(', ');
}

export function replicas(unheard: readonly string[]): Trouble[] {
  return [...new Set(unheard)].map((name) =>
    trouble({ key: `replica ${name}`, severity: 'warn', kind: 'replica', title: `Control-plane replica ${name} is not heard`, details: ['what only it knows is missing in all figures'] }),
  );
}

export function policies(all: readonly Policy[]): Trouble[] {
  return all.flatMap((policy) => {
    if (policy.accepted && !policy.problem) return [];
    const title = `${policy.kind} ${policy.namespace}/${policy.name} ${policy.accepted ? 'has a problem' : 'is not accepted'}`;
    return [trouble({ key: `policy ${policy.kind}/${policy.namespace}/${policy.name}`, severity: 'warn', kind: 'policy', title, details: policy.problem ? [policy.problem] : [], query: { tab: 'policies' } })];
  });
}

/** Documents that are no object: half a file, a wrong kind. */
export function files(problems: readonly string[]): Trouble[] {
  return problems.map((text) => trouble({ key: `file ${text}`, severity: 'warn', kind: 'policy', title: text, details: ['what was good before stays in force'], query: { tab: 'policies' } }));
}

/** Failures first, then what policies deny, which may be meant; then what hits nobody that is known. */
const group = (one: Trouble) => (one.kind === 'failing' ? 0 : one.kind === 'denied' && one.hits > 0 ? 1 : 2);

/** Most users hit first; then what is bad; then always in the same order. */
export function ranked(all: Trouble[]): Trouble[] {
  const hits = (one: Trouble) => Math.round(one.hits * 100);
  const mild = (one: Trouble) => Number(one.severity !== 'bad');
  return all.sort((a, b) => group(a) - group(b) || hits(b) - hits(a) || mild(a) - mild(b) || (a.key < b.key ? -1 : 1));
}

/** One that hits so many times as much as another one comes before it, however they stood. */
const CLEARLY = 1.5;

/** Ranked, but for those that stood in some order `before`: they keep it where the difference is small, so that nothing jumps under a reader's eyes. */
export function steady(ranked: readonly Trouble[], before: readonly string[]): Trouble[] {
  const places = new Map(before.map((key, place) => [key, place]));
  const order: Trouble[] = [];
  for (const one of ranked) {
    const place = places.get(one.key) ?? Infinity;
    const isAbove = (other: Trouble) => group(other) !== group(one) || other.hits >= one.hits * CLEARLY;
    // Who is clearly above stays above, and whoever is above him.
    const near = order.findLastIndex(isAbove) + 1;
    const later = order.findIndex((other, at) => at >= near && (places.get(other.key) ?? -1) > place);
    order.splice(later < 0 ? order.length : later, 0, one);
  }
  return order;
}

export interface Said {
  stat: View<Workload>;
  edges: View<Edge>;
  /** Undefined where it is not known. */
  mesh: Mesh | undefined;
  policies: Policies | undefined;
  /** Unix seconds. */
  now: number;
}

export function troubles({ stat, edges, mesh, policies: objects, now }: Said): Trouble[] {
  const unheard = [...stat.unheard, ...edges.unheard, ...(mesh?.unheard ?? []), ...(mesh?.replicas.filter((one) => !one.heard).map((one) => one.name) ?? [])];
  return ranked([
    ...failing(stat.items, edges.items),
    ...denied(stat.items, stat.window),
    ...silent(stat.items, mesh),
    ...(mesh ? proxies(mesh, now) : []),
    ...replicas(unheard),
    ...policies(objects?.items ?? []),
    ...files(objects?.problems ?? []),
  ]);
}
