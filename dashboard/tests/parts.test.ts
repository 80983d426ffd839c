import { expect, test } from 'vitest';

import { heat, shade } from '../src/lib/heat';
import { objectOf, serviceOf } from '../src/lib/names';
import { ill, LISTED, listed, millis, seconds } from '../src/lib/tap';
import type { TapRecord } from '../src/lib/types';
import { hashOf, readHash } from '../src/lib/hash';
import { inForce } from '../src/views/force';

test('a heatmap counts each request once, and a gap is no zero', () => {
  const points = [{ heat: [[0.01, 5], [0.02, 3]] as [number, number][] }, null, { heat: [] }, { heat: [[10.24, 1]] as [number, number][] }];
  const { bounds, columns, most } = heat(points);
  expect(columns[1]).toBeNull();
  expect(columns.map((column) => column?.reduce((sum, one) => sum + one, 0))).toEqual([8, undefined, 0, 1]);
  expect(most).toBe(5);
  expect(bounds.length).toBe((columns[0]?.length ?? 0) + 1);
  expect(bounds.length).toBeLessThanOrEqual(30);
  // 10.24 s is within the last row, and 10 ms within the first.
  expect((bounds.at(-2) ?? 0) < 10.24 && 10.24 <= (bounds.at(-1) ?? 0) * 1.0001).toBe(true);
  expect((bounds[0] ?? 1) < 0.01 && 0.01 <= (bounds[1] ?? 0) * 1.0001).toBe(true);
});

test('a heatmap of nothing is empty, of one value has one row; bounds may be endless', () => {
  expect(heat([null, { heat: [] }])).toEqual({ bounds: [], columns: [null, []], most: 0 });
  expect(heat([{ heat: [[0.5, 2]] }]).columns).toEqual([[2]]);
  expect(heat([{ heat: [[0.5, 2], [Infinity, 1]] }]).columns).toEqual([[3]]);
  expect([shade(0, 9), shade(9, 9), shade(1, 10_000) > 0.1]).toEqual([0, 1, true]);
});

test('records stand newest first, and not endlessly', () => {
  const record = (at: number): TapRecord => ({ time: new Date(at * 1000).toISOString(), durationSeconds: 1, direction: 'inbound', pod: 'shop/web-1', caller: { namespace: '', name: 'internet' }, workload: { namespace: 'shop', name: 'web' }, protocol: 'http/2', failed: false, attempts: 1, bytesReceived: 0, bytesSent: 0 });
  const all = listed(listed([], [record(1), record(2)], 0), [record(3)], 2);
  expect(all.map((one) => one.id)).toEqual([2, 1, 0]);
  expect(listed(all, Array.from({ length: 500 }, (_, at) => record(at)), 3)).toHaveLength(LISTED);
  expect([millis('1970-01-01T00:00:02Z'), millis('soon')]).toEqual([2000, 0]);
  expect([seconds('200ms'), seconds('500us'), seconds('1.5s'), seconds('1'), seconds('')]).toEqual([0.2, 0.0005, 1.5, undefined, undefined]);
  const some = [{ status: 200, failed: false }, { status: 404, failed: false }, { status: 503, failed: true }, { status: 403, failed: true, fault: 'policy' }, { status: 200, failed: true, fault: 'upstream' }, { failed: true, fault: 'downstream' }];
  expect(some.map(ill)).toEqual(['good', 'warn', 'bad', 'warn', 'bad', 'warn']);
});

test('names are written as people write them', () => {
  expect([serviceOf('reviews.shop.svc.cluster.local:80'), serviceOf('example.com:443')]).toEqual(['reviews.shop:80', 'example.com:443']);
  expect([objectOf('HTTPRoute/shop/web#0'), objectOf('AccessPolicy/shop/callers'), objectOf('Mesh')]).toEqual(['HTTPRoute shop/web rule 0', 'AccessPolicy shop/callers', 'Mesh']);
});

test('a place is read as it is written', () => {
  const hash = hashOf('service', ['shop', 'a/b %'], { q: 'p99>200ms ok<99.9', none: undefined, empty: '' });
  expect(readHash(hash)).toEqual({ page: 'service', rest: ['shop', 'a/b %'], query: { q: 'p99>200ms ok<99.9' } });
  expect([readHash(''), readHash('#/%E0%A4%A').page]).toEqual([{ page: 'now', rest: [], query: {} }, '%E0%A4%A']);
});

test('policies are in force where it was seen, and others are listed apart', () => {
  const policy = (kind: string, name: string, target: string) => ({ kind, namespace: 'shop', name, targets: [target], accepted: true, problem: null, inForce: 1, of: 1 });
  const all = [policy('TrafficPolicy', 'a', 'Service/shop/reviews'), policy('HTTPRoute', 'b', 'Service/shop/other'), policy('MeshTLS', 'c', 'Namespace/shop'), policy('AccessPolicy', 'd', 'Pods/shop/app=x'), policy('TrafficPolicy', 'e', 'Service/shop/reviews-v1-not')];
  const signals = { requests: 1, bad: 0, rps: 1, connections: 0, received: 0, sent: 0, deniedBy: [{ policy: 'AccessPolicy/shop/d', audit: false, requests: 1 }] };
  const end = { namespace: 'shop', name: 'x' };
  const callers = [{ from: end, to: end, service: 'reviews.shop.svc.cluster.local:80', signals }];
  const routes = [{ route: 'HTTPRoute/shop/b#0', caller: end, signals, backends: [] }];
  const { about, others } = inForce(all, { namespace: 'shop', name: 'reviews-v1' }, { callers }, routes, signals);
  expect(about.map(({ policy, why }) => `${policy.name}: ${why}`)).toEqual(['a: is about Service shop/reviews', 'b: requests went by its rules', 'c: is about namespace shop', 'd: denied requests to it']);
  expect(others.map((one) => one.name)).toEqual(['e']);
});
