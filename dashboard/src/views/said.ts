import { count } from '../lib/units';
import type { Now } from './now';
import type { Trouble } from '../lib/troubles';

/** All in one sentence, and the sign for it. */
export function said(counts: Now['counts'], troubles: readonly Trouble[], more = 0): { text: string; state: 'good' | 'bad' | 'warn' | 'quiet' | 'unknown' } {
  const { all, fine, quiet, unknown } = counts;
  const rest = [
    ...(fine > 0 ? [`${count(fine, 'workload')} fine`] : []),
    ...(quiet > 0 ? [`${quiet} without traffic`] : []),
    ...(unknown > 0 ? [`${unknown} unknown`] : []),
  ];
  const problems = troubles.length + more;
  const state = troubles.some((one) => one.severity === 'bad') ? 'bad' : 'warn';
  if (problems > 0) return { text: [count(problems, 'problem'), ...rest].join(', '), state };
  if (fine === all) return { text: all === 1 ? 'The workload is fine' : `All ${count(all, 'workload')} are fine`, state: 'good' };
  if (fine > 0) return { text: `No problems, ${rest.join(', ')}`, state: 'good' };
  if (quiet > 0) return { text: `No traffic, ${count(all, 'workload')}`, state: 'quiet' };
  return { text: `Nothing is known of ${count(all, 'workload')}`, state: 'unknown' };
}
