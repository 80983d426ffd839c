import { expect, test } from 'vitest';

import { readFilter, type Fields } from '../src/lib/filter';
import { fields as ofProxy, FILTER as PROXIES } from '../src/pages/mesh';
import { fields, FILTER } from '../src/views/columns';
import type { WorkloadRow } from '../src/views/workloads';

const row = (more: Partial<WorkloadRow> = {}): Fields => {
  const base: WorkloadRow = { key: '', namespace: 'shop', name: 'reviews', kind: 'Deployment', rps: 12, bad: 0, ok: 99.5, seen: 98, p50: 0.01, p99: 0.25, mtls: 94, connections: 0, callers: 2, callees: 1, pods: 3, reporting: 2, trend: [] };
  const all = { ...base, ...more };
  return fields({ ...all, key: `${all.namespace}/${all.name}` });
};

test.each([
  ['', true],
  ['view', true],
  ['VIEW', true],
  ['shop/rev', true],
  ['cart', false],
  ['ns:shop', true],
  ['ns:sho', false],
  ['ns:sho*', true],
  ['ns:*op', true],
  ['ns:s*o*p', true],
  ['ns:sh*hop', false],
  ['-ns:shop', false],
  ['-cart', true],
  ['ns:', true],
  ['kind:deployment name:reviews', true],
  ['p99>200ms', true],
  ['p99>0.2', true],
  ['p99>250ms', false],
  ['p99>=250ms', true],
  ['p99>1s', false],
  ['ok<99.9', true],
  ['ok<99.9% seen<=98', true],
  ['ok>=99.9', false],
  ['-ok>=99.9', true],
  ['rps>0.01k', true],
  ['rps>1k', false],
  ['silent>0', true],
  ['ns:shop p99>200ms ok<99.9 rev', true],
  ['ns:shop p99>200ms ok<99.9 cart', false],
])('%s: %s', (text, matches) => {
  const filter = readFilter(text, FILTER);
  expect(filter.problems).toEqual([]);
  expect(filter.matches(row())).toBe(matches);
});

test('what is not known fulfils no comparison', () => {
  const unknown = row({ p99: undefined, ok: undefined });
  for (const text of ['p99>0', 'p99<1s', 'ok<100', 'ok>=0']) expect(readFilter(text, FILTER).matches(unknown), text).toBe(false);
});

test('what is not understood is said, and does not count', () => {
  const filter = readFilter('p98>1s colour:red ok<much p99> __proto__:x constructor>1 review', FILTER);
  expect(filter.problems).toHaveLength(6);
  expect(filter.problems[0]).toContain('p98: there is no such figure; there are rps, bad, ok');
  expect(filter.problems[1]).toContain('colour: there is no such word; there are ns, kind, name');
  expect(filter.problems[2]).toBe('ok<much: write it as ok<99.9');
  expect(filter.problems[3]).toBe('p99> what? For example p99>200ms');
  expect([filter.matches(row()), filter.matches(row({ name: 'cart' }))]).toEqual([true, false]);
});

test('proxies have words of their own', () => {
  const proxy = { namespace: 'shop', pod: 'web-1', workload: 'web', dataPlane: 'tulle', version: '0.1.0', state: 'rejecting' as const, rejects: [], certificateEnds: 1800, reporting: false };
  for (const text of ['state:rejecting', 'cert<1h', '-cert<10m', 'report:no plane:tulle', 'version:0.1.*']) expect(readFilter(text, PROXIES).matches(ofProxy(proxy, 0)), text).toBe(true);
});
