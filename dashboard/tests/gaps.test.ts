import { expect, test } from 'vitest';

import { stretches } from '../src/lib/stretches';
import { added } from '../src/views/now';

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
