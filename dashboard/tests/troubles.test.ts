import { expect, test } from 'vitest';

import { steady, troubles, type Said } from '../src/lib/troubles';
import type { Edge, Mesh, Policy, Proxy, Signals, View, Workload } from '../src/lib/types';
import { summary } from '../src/views/now';
import { said } from '../src/views/said';
import { row } from '../src/views/workloads';

const NOW = 1_764_288_000;

const signals = (requests: number, bad = 0, more: Partial<Signals> = {}): Signals => ({ requests, bad, rps: requests / 60, connections: 0, received: 0, sent: 0, ...(requests > 0 ? { ok: (100 * (requests - bad)) / requests } : {}), ...more });
const workload = (name: string, of: Signals, more: Partial<Workload> = {}): Workload => ({ namespace: 'shop', kind: 'Deployment', name, signals: of, callers: 1, callees: 0, pods: 2, reporting: 2, trend: [], ...more });
const edge = (from: string, to: string, of: Signals, more: Partial<Edge> = {}): Edge => ({ from: { namespace: 'shop', name: from }, to: { namespace: 'shop', name: to }, service: `${to}.shop.svc.cluster.local:80`, security: 'mtls', signals: of, ...more });
const view = <T>(items: T[], more: Partial<View<T>> = {}): View<T> => ({ window: 60, whole: 7200, items, unheard: [], shortened: false, ...more });
const proxy = (workload: string, more: Partial<Proxy> = {}): Proxy => ({ namespace: 'shop', pod: `${workload}-1`, workload, dataPlane: 'tulle', version: '0.1.0', state: 'synced', rejects: [], certificateEnds: NOW + 40_000, reporting: true, ...more });
const mesh = (proxies: Proxy[], more: Partial<Mesh> = {}): Mesh => ({ replicas: [], proxies, unheard: [], ...more });
const policy = (more: Partial<Policy>): Policy => ({ kind: 'HTTPRoute', namespace: 'shop', name: 'web', targets: [], accepted: true, problem: null, inForce: 1, of: 1, ...more });
const find = (more: Partial<Said>) => troubles({ stat: view([]), edges: view([]), mesh: undefined, policies: undefined, now: NOW, ...more });

test('those who hit the most users come first, then what policies deny, then the rest', () => {
  const deniedBy = [{ policy: 'AccessPolicy/shop/callers', audit: false, requests: 600 }];
  const found = find({
    stat: view([workload('few', signals(600, 60)), workload('many', signals(60_000, 120)), workload('shut', signals(0, 0, { deniedBy }))]),
    mesh: mesh([proxy('few', { state: 'rejecting', rejects: [{ resource: 'Listener x', reason: 'no' }] }), proxy('few', { state: 'behind' })]),
  });
  expect(found.map((one) => [one.kind, one.severity, one.hits])).toEqual([
    ['failing', 'warn', 2],
    ['failing', 'bad', 1],
    ['denied', 'warn', 10],
    ['rejecting', 'bad', 0],
    ['behind', 'warn', 0],
  ]);
  expect(found[1]?.title).toBe('10 % of requests to shop/few fail');
});

test('two of one name and of two kinds are two problems', () => {
  const failing = [workload('db', signals(60, 60), { reporting: 1 }), workload('db', signals(60, 30), { kind: 'StatefulSet', reporting: 1 })];
  const found = find({ stat: view(failing) });
  expect(found.map((one) => one.kind)).toEqual(['failing', 'failing', 'silent', 'silent']);
  expect(new Set(found.map((one) => one.key)).size).toBe(4);
});

test('what never arrived only callers know', () => {
  const badBy = [{ reason: 'timeout', requests: 400 }];
  const [first, ...rest] = find({ stat: view([workload('slow', signals(400))]), edges: view([edge('web', 'slow', signals(400, 400, { badBy }))]) });
  expect(rest).toEqual([]);
  expect([first?.title, first?.page, first?.rest]).toEqual(['100 % of requests to shop/slow fail', 'service', ['shop', 'slow']]);
  expect(first?.details).toContain('timeout 400 times');
});

test('calls that reach nobody are told at their caller', () => {
  const to = { namespace: '', name: 'unknown' };
  const [first] = find({ stat: view([workload('web', signals(60))]), edges: view([edge('web', 'exchange', signals(24, 24), { to })]) });
  expect([first?.title, first?.rest]).toEqual(['Calls to exchange.shop:80 reach nobody', ['shop', 'web']]);
  const nowhere = { from: { namespace: 'shop', name: 'web' }, to, signals: signals(24, 24) };
  expect(find({ edges: view([nowhere]) }).map((one) => one.title)).toEqual(['Calls from shop/web reach nobody']);
  // A few of very many are none, and neither is what nobody asked.
  expect(find({ stat: view([workload('web', signals(100_000, 50)), workload('idle', signals(0))]) })).toEqual([]);
});

test('who does not report is told of, if it is known that it should', () => {
  const partly = workload('partly', signals(1), { reporting: 1 });
  const without = workload('without', signals(0), { reporting: 0 });
  expect(find({ stat: view([partly, without]) }).map((one) => one.title)).toEqual(['1 of 2 pods of shop/partly does not report']);
  const known = mesh([proxy('without', { reporting: false }), proxy('without', { reporting: false }), proxy('without', { dataPlane: 'envoy', reporting: false })]);
  expect(find({ stat: view([without]), mesh: known }).map((one) => one.title)).toEqual(['2 of 2 pods of shop/without do not report']);
});

test('certificates, replicas and policies that are not well', () => {
  const titles = (more: Partial<Said>) => find(more).map((one) => `${one.severity}: ${one.title}`);
  expect(titles({ mesh: mesh([proxy('a', { certificateEnds: NOW + 600 }), proxy('b', { certificateEnds: null })]) })).toEqual(['warn: 1 certificate not renewed: the first will end in 10 min']);
  expect(titles({ mesh: mesh([proxy('a', { certificateEnds: NOW - 600 })]) })).toEqual(['bad: 1 certificate not renewed: the first ended 10 min ago']);
  const replicas = [{ name: 'tulle-system/b', heard: false }];
  expect(titles({ stat: view<Workload>([], { unheard: ['tulle-system/b'] }), mesh: mesh([], { replicas }) })).toEqual(['warn: Control-plane replica tulle-system/b is not heard']);
  expect(titles({ policies: { items: [policy({}), policy({ accepted: false, problem: 'no such Service', inForce: 0 })], problems: ['web.yaml:3: half a file'] } })).toEqual(['warn: web.yaml:3: half a file', 'warn: HTTPRoute shop/web is not accepted']);
});

test('an audit hits nobody', () => {
  const deniedBy = [{ policy: 'AccessPolicy/shop/callers', audit: true, requests: 600 }];
  const [first] = find({ stat: view([workload('web', signals(600, 0, { deniedBy }))]) });
  expect([first?.title, first?.hits]).toEqual(['AccessPolicy shop/callers would deny calls to shop/web', 0]);
});

test('what hits about as many keeps its place, and what hits clearly more comes first', () => {
  const order = (bad: Record<string, number>, before: string[]) => {
    const found = find({ stat: view(Object.entries(bad).map(([name, times]) => workload(name, signals(600, times)))) });
    return steady(found, before.map((name) => `failing shop/${name} Deployment`)).map((one) => one.rest[1]);
  };
  expect(order({ a: 100, b: 120, c: 140 }, [])).toEqual(['c', 'b', 'a']);
  expect(order({ a: 100, b: 120, c: 140 }, ['a', 'b', 'c'])).toEqual(['a', 'b', 'c']);
  expect(order({ a: 100, b: 120, c: 200 }, ['a', 'b', 'c'])).toEqual(['c', 'a', 'b']);
  expect(order({ a: 100, b: 120, new: 110 }, ['a', 'b'])).toEqual(['a', 'b', 'new']);
  expect(order({ a: 100, b: 300, new: 110 }, ['a', 'b'])).toEqual(['b', 'new', 'a']);
});

test('all in one sentence: what has no traffic and what is unknown is not fine', () => {
  const stat = view([workload('web', signals(60)), workload('slow', signals(60, 30)), workload('idle', signals(0)), workload('mute', signals(0), { reporting: 0 }), workload('opaque', signals(0, 0, { connections: 2 }))]);
  const found = find({ stat });
  const { counts, totals } = summary(stat, view<Edge>([]), found);
  expect(counts).toEqual({ all: 5, troubled: 1, fine: 2, quiet: 1, unknown: 1 });
  expect([totals.rps, totals.badRate, totals.ok]).toEqual([2, 0.5, 75]);
  expect(said(counts, found).text).toBe('1 problem, 2 workloads fine, 1 without traffic, 1 unknown');
  expect(said({ all: 2, troubled: 0, fine: 2, quiet: 0, unknown: 0 }, [])).toEqual({ text: 'All 2 workloads are fine', state: 'good' });
  expect(said({ all: 2, troubled: 0, fine: 0, quiet: 0, unknown: 2 }, []).state).toBe('unknown');
});

test('a row tells nothing of what is not known', () => {
  expect(row(workload('mute', signals(0), { reporting: 0 }), undefined)).toMatchObject({ rps: undefined, bad: undefined, ok: undefined, seen: undefined });
  expect(row(workload('slow', signals(300)), [edge('web', 'slow', signals(300, 60))])).toMatchObject({ ok: 100, seen: 80, bad: 1 });
});
