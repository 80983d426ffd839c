/**
 * A mesh that does not exist: 1,000 workloads in 40 namespaces, 5,000 calls; the same each time, with figures that change each
 * second. Shapes as of control-plane/src/telemetry/view.
 */
import { dice } from '../../dashboard/fixtures/shop.mjs';

const [SPACES, EACH, CALLS] = [40, 25, 5000];
const TEAMS = ['shop', 'pay', 'search', 'identity', 'data', 'media', 'mail', 'ops'];
const ROLES = ['gateway', 'web', 'cart', 'catalog', 'checkout', 'reviews', 'prices', 'stock', 'orders', 'events', 'images', 'session', 'audit', 'ledger', 'notify', 'index', 'rules', 'quotes', 'export', 'import', 'users', 'cache', 'jobs', 'archive', 'store'];

export function make() {
  const roll = dice(42);
  const nodes = [];
  for (let space = 0; space < SPACES; space += 1) {
    const round = Math.floor(space / TEAMS.length);
    const namespace = `${TEAMS[space % TEAMS.length]}${round > 0 ? `-${round + 1}` : ''}`;
    for (const [tier, name] of ROLES.entries()) nodes.push({ namespace, name, space, tier, pods: 1 + Math.floor(roll() * 4), slow: 0.002 * 10 ** (roll() * 2), bad: 0, reason: '', quiet: tier === 23 && space % 3 === 0, mute: tier === 24 && space % 7 === 0 });
  }
  // What goes wrong.
  for (const [at, bad, reason] of [[2 * EACH + 4, 0.06, 'timeout'], [9 * EACH + 7, 0.004, '503'], [17 * EACH + 12, 0.02, 'connect']]) Object.assign(nodes[at], { bad, reason });
  const [calls, taken] = [[], new Set()];
  const call = (from, to) => {
    const id = `${from.namespace}/${from.name} ${to.namespace}/${to.name}`;
    if (from === to || to.quiet || from.quiet || from.mute || taken.has(id)) return;
    taken.add(id);
    calls.push({ from, to, rps: 0.5 + 40 * roll() ** 3, security: to.mute || (from.space === 5 && roll() < 0.1) ? 'plaintext' : 'mtls' });
  };
  while (calls.length < CALLS - 2) {
    const from = nodes[Math.floor(roll() * nodes.length)];
    // Mostly to whoever is below in the same namespace; else to the gateway of one of three others.
    if (roll() < 0.93) call(from, nodes[from.space * EACH + Math.min(EACH - 1, from.tier + 1 + Math.floor(roll() * (EACH - from.tier)))]);
    else call(from, nodes[((from.space * 3 + 1 + Math.floor(roll() * 3)) % SPACES) * EACH + Math.floor(roll() * 2)]);
  }
  return { nodes, calls };
}

const wave = (at, phase) => 1 + 0.2 * Math.sin(at / 7 + phase) + 0.05 * Math.sin(at * 1.3 + phase * 3);

function signals(rps, window, bad, reason, slow, mtls) {
  const requests = Math.round(rps * window);
  const failed = Math.round(requests * bad);
  if (requests === 0) return { requests: 0, bad: 0, rps: 0, connections: 0, received: 0, sent: 0 };
  return { requests, bad: failed, rps: requests / window, ok: (100 * (requests - failed)) / requests, p50: slow, p95: slow * 3, p99: slow * 6, attempts: 1 + bad, connections: 0, received: 0, sent: 0, mtls, ...(failed > 0 ? { badBy: [{ reason, requests: failed }] } : {}) };
}

/** What the control plane would answer at second `at`; undefined: it does not know the path. */
export function answers(mesh, url, at) {
  const query = url.searchParams;
  const window = Number(query.get('window') ?? 60);
  const [namespace, name] = [query.get('namespace'), query.get('name')];
  const is = (end) => (!namespace || end.namespace === namespace) && (!name || end.name === name);
  const view = (items) => ({ window, whole: 7200, items, unheard: [], shortened: false });
  const edges = () => mesh.calls.map(({ from, to, rps, security }, i) => ({ from: { namespace: from.namespace, name: from.name }, to: { namespace: to.namespace, name: to.name }, service: `${to.name}.${to.namespace}.svc.cluster.local:80`, security, signals: signals(rps * wave(at, i), window, to.bad, to.reason, to.slow, security === 'mtls' ? 100 : 0) }));
  const outside = () => [
    { from: { namespace: '', name: 'internet' }, to: { namespace: 'shop', name: 'gateway' }, security: 'plaintext', signals: signals(80 * wave(at, 1), window, 0, '', 0.02, 0) },
    { from: { namespace: 'pay', name: 'export' }, to: { namespace: '', name: 'unknown' }, service: 'exchange.pay.svc.cluster.local:80', signals: signals(0.7, window, 1, 'no_endpoint', 0.001) },
  ];
  const all = () => [...edges(), ...outside()];
  switch (url.pathname.replace('/telemetry/', '')) {
    case 'me':
      return { user: null, namespaces: null, tap: true, version: '0.1.0', cluster: 'production' };
    case 'edges':
      return view(all().filter((one) => is(one.from) || is(one.to)));
    case 'stat': {
      const into = new Map();
      const [callers, callees] = [new Map(), new Map()];
      mesh.calls.forEach(({ from, to, rps }, i) => {
        into.set(to, (into.get(to) ?? 0) + rps * wave(at, i));
        callers.set(to, (callers.get(to) ?? 0) + 1);
        callees.set(from, (callees.get(from) ?? 0) + 1);
      });
      return view(mesh.nodes.filter(is).map((node, i) => ({ namespace: node.namespace, kind: node.name === 'store' ? 'StatefulSet' : 'Deployment', name: node.name, signals: signals(into.get(node) ?? 0, window, node.bad, node.reason, node.slow, 100), callers: callers.get(node) ?? 0, callees: callees.get(node) ?? 0, pods: node.pods, reporting: node.mute ? 0 : node.pods, trend: Array.from({ length: 15 }, (_, minute) => (into.get(node) ?? 0) * wave(at + minute * 60, i)) })));
    }
    case 'routes':
      return view(all().filter((one) => is(one.to)).map((one) => ({ route: `HTTPRoute/${one.to.namespace}/${one.to.name}#0`, caller: one.from, service: one.service, signals: one.signals, backends: [{ to: one.to, signals: one.signals }] })));
    case 'chart': {
      const step = Number(query.get('step') ?? (window > 900 ? 60 : 10));
      const begin = Math.floor(at / step) * step - window;
      const points = Array.from({ length: Math.floor(window / step) }, (_, i) => {
        const rps = 40 * wave(begin + i * step, 2);
        return { rps, bad: rps * 0.01, p50: 0.01, p95: 0.03, p99: 0.06, heat: Array.from({ length: 12 }, (_, b) => [0.001 * 2 ** b, Math.round(rps * Math.exp(-((b - 4) ** 2) / 4))]) };
      });
      return { begin, step, points, unheard: [], shortened: false };
    }
    case 'mesh':
      return {
        replicas: [{ name: 'tulle-system/tulle-control-plane-0', heard: true, version: '0.1.0', proxies: mesh.nodes.length }],
        proxies: mesh.nodes.filter((node) => !node.mute).flatMap((node) => Array.from({ length: node.pods }, (_, i) => ({ namespace: node.namespace, pod: `${node.name}-${i}`, workload: node.name, dataPlane: 'tulle', version: '0.1.0', state: 'synced', rejects: [], certificateEnds: at + 40_000, reporting: true }))),
        unheard: [],
      };
    case 'policies':
      return { items: [{ kind: 'HTTPRoute', namespace: 'shop', name: 'web', targets: ['Service/shop/web'], accepted: true, problem: null, inForce: 3, of: 3 }].filter((one) => !namespace || one.namespace === namespace) };
    case 'tap': {
      const last = Math.floor(at);
      const record = (i) => ({ time: at - i, durationSeconds: 0.01 * (1 + (i % 5)), caller: 'shop/web', workload: `${namespace ?? 'shop'}/${name ?? 'cart'}`, method: 'GET', host: 'cart', path: `/items/${last - i}`, status: i % 7 === 3 ? 503 : 200, reason: i % 7 === 3 ? 'timeout' : undefined, attempts: 1, route: 'HTTPRoute/shop/cart#0', security: 'mtls' });
      return { records: query.get('cursor') === String(last) ? [] : Array.from({ length: query.get('cursor') ? 1 : 20 }, (_, i) => record(i)), cursor: String(last), missed: 0, unheard: [] };
    }
    default:
      return undefined;
  }
}
