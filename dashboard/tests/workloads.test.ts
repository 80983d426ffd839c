import { expect, test } from 'vitest';

import type { Answer } from '../src/lib/api';
import type { Edge, View, Workload } from '../src/lib/types';
import { idOf, inOrder, row, workloads, type WorkloadsAsked } from '../src/views/workloads';

const workload = (name: string, rps: number, kind = 'Deployment'): Workload => ({ namespace: 'shop', kind, name, signals: { requests: rps * 60, bad: 0, rps, ok: 100, connections: 0, received: 0, sent: 0 }, callers: 0, callees: 0, pods: 1, reporting: 1, trend: [] });
const answer = <T>(items: T[]): Answer<View<T>> => ({ value: { window: 60, whole: 7200, items, unheard: [], shortened: false } });
const edges = answer<Edge>([]);
const asked: WorkloadsAsked = { window: 60, q: '', sort: { column: 'rps', descending: true }, held: false, from: 0, to: 100 };
const seen = (items: Workload[], more: Partial<WorkloadsAsked>) => {
  const said = workloads.of([answer(items), edges], { ...asked, ...more });
  if (!('value' in said)) throw new Error('no answer');
  return { ...said.value, names: said.value.rows.map((one) => one.name).join('') };
};

test('the page gets the rows that can be seen, and how many there are', () => {
  const items = [...'abcdefghij'].map((name, at) => workload(name, 100 - at));
  const { names, from, found, all } = seen(items, { from: 2, to: 5 });
  expect([names, from, found, all]).toEqual(['cde', 2, 10, 10]);
  // The filter leaves fewer than where somebody was: the last of them.
  const fewer = seen(items, { q: 'rps<94', from: 5, to: 8 });
  expect([fewer.names, fewer.from, fewer.found, fewer.all]).toEqual(['hij', 0, 3, 10]);
  expect(seen(items, { q: 'none', from: 5, to: 8 })).toMatchObject({ names: '', from: 0, found: 0, all: 10 });
});

test('the order stays for some seconds, and as long as somebody is at a row', () => {
  const rows = (a: number, b: number) => [workload('a', a), workload('b', b)].map((one) => row(one, undefined));
  const names = ({ rows }: ReturnType<typeof inOrder>) => rows.map((one) => one.name).join('');
  const first = inOrder(rows(2, 1), asked, { by: '', at: 0, ids: [] }, 10_000);
  expect(names(first)).toBe('ab');
  expect(names(inOrder(rows(1, 2), asked, first.stood, 14_000))).toBe('ab');
  expect(names(inOrder(rows(1, 2), { ...asked, held: true }, first.stood, 60_000))).toBe('ab');
  expect(names(inOrder(rows(1, 2), asked, first.stood, 16_000))).toBe('ba');
  expect(names(inOrder(rows(1, 2), { ...asked, q: 'b' }, first.stood, 11_000))).toBe('ba');
  // Shown as equal: by name, however they change.
  expect(names(inOrder(rows(1.0001, 1.0002), { ...asked, q: 'x' }, first.stood, 11_000))).toBe('ab');
});

test('two of one name and of two kinds are two rows', () => {
  const { rows } = seen([workload('db', 1), workload('db', 2, 'StatefulSet')], {});
  expect(new Set(rows.map(idOf)).size).toBe(2);
});
