import { expect, test } from 'vitest';

import { bytes, count, few, moment, tick, percent, rate, span, time } from '../src/lib/units';

test('figures are those of the terminal', () => {
  const rates = [0, 0.004, 0.5, 38.04, 412.4, 9_999.4, 12_345, 999_949, 3.2e6].map(rate);
  expect(rates).toEqual(['0', '<0.01', '0.50', '38.0', '412', '9999', '12.3k', '999.9k', '3.2M']);
  expect([undefined, 100, 99.999, 0].map(percent)).toEqual(['–', '100', '99.99', '0.00']);
  expect([0.0005, 0.0015, 0.061, 0.9999, 1.94, 300].map(time)).toEqual(['500us', '1.5ms', '61ms', '1.0s', '1.9s', '300s']);
  expect([bytes(0), bytes(1500), rate(undefined), time(undefined)]).toEqual(['0', '1500B/s', '–', '–']);
});

test('what failed is never rounded to none or all', () => {
  expect([undefined, 0, 0.001, 0.37, 4.26, 42.4, 99.7, 100].map(few)).toEqual(['–', '0', '<0.01', '0.37', '4.3', '42', '99', '100']);
});

test('times of more than a day have their day', () => {
  const [at, day] = [Date.parse('2026-03-04T12:34:56'), 86_400_000];
  expect([moment(at, day / 2), moment(at, 2 * day), tick(at, day), tick(at, 7 * day)]).toEqual(['12:34:56', '4 Mar 12:34', '12:34', '4 Mar']);
});

test('spans and counts are words', () => {
  expect([-3, 60, 300, 7200, 864_000].map(span)).toEqual(['0 s', '60 s', '5 min', '2 h', '10 days']);
  expect([count(1, 'proxy', 'proxies'), count(2000, 'proxy', 'proxies'), count(0, 'pod')]).toEqual(['1 proxy', '2,000 proxies', '0 pods']);
});
