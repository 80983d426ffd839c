import { expect, test } from 'vitest';

import { kept, readSort, sorted } from '../src/lib/order';

const rows = [{ key: 'b', value: 2 }, { key: 'a', value: 2 }, { key: 'c', value: undefined }, { key: 'd', value: 7 }];
const key = (row: { key: string }) => row.key;
const keys = (all: { key: string }[]) => all.map(key).join('');

test('what is not known is last both ways, and equals stand by name', () => {
  expect(keys(sorted(rows, (row) => row.value, key, false))).toBe('abdc');
  expect(keys(sorted(rows, (row) => row.value, key, true))).toBe('dabc');
  expect(keys(sorted(rows, key, key, true))).toBe('dcba');
});

test('rows stay where they stood; new ones come last, gone ones go', () => {
  expect(keys(kept(rows, key, ['d', 'gone', 'a']))).toBe('dabc');
});

test('an order is read from the hash', () => {
  const fallback = { column: 'bad', descending: true };
  expect(readSort('-rps', fallback, ['rps'])).toEqual({ column: 'rps', descending: true });
  expect(readSort('rps', fallback, ['rps'])).toEqual({ column: 'rps', descending: false });
  for (const wrong of [undefined, '', '-', 'price']) expect(readSort(wrong, fallback, ['rps'])).toBe(fallback);
});
