import type { TapRecord } from './types';

/** A record as it is listed: with a number of its own, because two can be alike. */
export interface Shown extends TapRecord {
  id: number;
  /** Unix milliseconds. */
  at: number;
}

/** Records that are listed, at most. */
export const LISTED = 200;

/** The newest first, and no more than LISTED. */
export function listed(before: readonly Shown[], records: readonly TapRecord[], from: number): Shown[] {
  const fresh = records.map((record, i) => ({ ...record, id: from + i, at: millis(record.time) }));
  fresh.sort((a, b) => b.at - a.at || b.id - a.id);
  return [...fresh, ...before].slice(0, LISTED);
}

/** Of a time as RFC 3339 has it. */
export function millis(time: string): number {
  const found = Date.parse(time);
  return Number.isFinite(found) ? found : 0;
}

/** With thousandths of a second, as the terminal has it. */
export function moment(at: number): string {
  const date = new Date(at);
  return `${date.toLocaleTimeString('en-GB')}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

/** Whether it is the caller's or a policy's doing, or worse. */
export function ill(record: Pick<TapRecord, 'status' | 'failed' | 'fault'>): 'bad' | 'warn' | 'good' {
  const theirs = record.fault === 'policy' || record.fault === 'downstream';
  if ((record.status ?? 0) >= 500 || (record.failed && !theirs)) return 'bad';
  return (record.status ?? 0) >= 400 || record.failed ? 'warn' : 'good';
}

/** `200ms` in seconds, as the control plane wants it; undefined if it is no time. */
export function seconds(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)(us|ms|s)$/.exec(text) ?? [];
  const scale = { us: 1e-6, ms: 1e-3, s: 1 }[unit];
  return scale === undefined ? undefined : Number((Number(number) * scale).toPrecision(6));
}
