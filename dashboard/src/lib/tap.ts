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

/** Unix seconds, or as RFC 3339 has it. */
export function millis(time: number | string): number {
  const found = typeof time === 'number' ? time * 1000 : Date.parse(time);
  return Number.isFinite(found) ? found : 0;
}

/** With thousandths of a second, as the terminal has it. */
export function moment(at: number): string {
  const date = new Date(at);
  return `${date.toLocaleTimeString('en-GB')}.${String(date.getMilliseconds()).padStart(3, '0')}`;
}

export function ill(record: TapRecord): 'bad' | 'warn' | 'good' {
  const grpc = record.grpcStatus !== undefined && !['0', 'OK'].includes(String(record.grpcStatus));
  if ((record.status ?? 0) >= 500 || (record.reason !== undefined && record.reason !== '' && record.reason !== 'denied')) return 'bad';
  return (record.status ?? 0) >= 400 || grpc || record.reason ? 'warn' : 'good';
}
