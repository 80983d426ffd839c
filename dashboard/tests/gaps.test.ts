import { expect, test } from 'vitest';

import { partialOf, partialUntil } from '../src/lib/partial';
import { stretches } from '../src/lib/stretches';
import { added } from '../src/views/now';
import { tells } from '../src/lib/sums';

test('what is not known is a gap, and not nothing', () => {
  expect(stretches([null, null, 0, 3, null, 5])).toEqual([
    { from: 2, values: [0, 3] },
    { from: 5, values: [5] },
  ]);
  expect(stretches([null, null])).toEqual([]);
});

test('a sum is of what is known', () => {
  expect(added([[null, 1, 2], [null, 0, 3], []])).toEqual([null, 1, 5]);
  expect(added([])).toEqual([]);
});

test('what not all replicas were there for is said', () => {
  expect(partialOf({ window: 60, whole: 60 }, { window: 60, whole: 600 })).toBeUndefined();
  expect(partialOf({ window: 60, whole: 30 }, { window: 60, whole: 25 })).toBe(25);
  const point = { rps: 1, bad: 0 };
  const chart = (...points: (typeof point | null)[]) => ({ begin: 1000, step: 10, points });
  expect(partialUntil(chart(null, point, point))).toBeUndefined();
  expect(partialUntil(chart(null, { ...point, partial: true } as typeof point, point))).toBe(1020);
});

test('who reports and counts nothing tells nothing', () => {
  expect(tells({ reporting: 2 })).toBe(true);
  expect(tells({ reporting: 2, known: true, uncounted: 1 })).toBe(true);
  expect([tells({ reporting: 0 }), tells({ reporting: 2, known: false }), tells({ reporting: 2, known: true, uncounted: 2 })]).toEqual([false, false, false]);
});
