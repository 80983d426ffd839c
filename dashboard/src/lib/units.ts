/** Figures as people read them: the same as in the terminal (cli/src/observe/units.rs). */

/** What is not known. */
export const UNKNOWN = '–';

/** Per second, with as many digits as say something. */
export function rate(value: number | undefined): string {
  if (value === undefined) return UNKNOWN;
  if (value === 0) return '0';
  if (value < 1) return value < 0.005 ? '<0.01' : value.toFixed(2);
  return value < 100 ? value.toFixed(1) : short(value);
}

/** Bytes per second. */
export function bytes(value: number): string {
  return value === 0 ? '0' : `${short(value)}B/s`;
}

/** With a letter for thousands. */
export function short(value: number): string {
  if (value < 9_999.5) return value.toFixed(0);
  if (value < 999_950) return `${(value / 1e3).toFixed(1)}k`;
  if (value < 999_950_000) return `${(value / 1e6).toFixed(1)}M`;
  return `${(value / 1e9).toFixed(1)}G`;
}

/** Percent, of which 100 means all. */
export function percent(value: number | undefined): string {
  if (value === undefined) return UNKNOWN;
  if (value >= 100) return '100';
  // Rounded it would be all.
  return value > 99.99 ? '99.99' : value.toFixed(2);
}

/** Percent of what should not be at all: never rounded down to none, nor up to all. */
export function few(value: number | undefined): string {
  if (value === undefined) return UNKNOWN;
  if (value <= 0 || value >= 100) return value.toFixed(0);
  if (value < 0.01) return '<0.01';
  if (value < 1) return value.toFixed(2);
  return value < 10 ? value.toFixed(1) : Math.min(99, value).toFixed(0);
}

/** A time in seconds. */
export function time(seconds: number | undefined): string {
  if (seconds === undefined) return UNKNOWN;
  if (seconds < 0.0009995) return `${(seconds * 1e6).toFixed(0)}us`;
  if (seconds < 0.00995) return `${(seconds * 1e3).toFixed(1)}ms`;
  if (seconds < 0.9995) return `${(seconds * 1e3).toFixed(0)}ms`;
  return seconds < 99.95 ? `${seconds.toFixed(1)}s` : `${seconds.toFixed(0)}s`;
}

/** How long until or since, roughly: `4 h`. */
export function span(seconds: number): string {
  const all = Math.max(0, Math.round(seconds));
  if (all < 90) return `${all} s`;
  if (all < 90 * 60) return `${Math.round(all / 60)} min`;
  return all < 48 * 3600 ? `${Math.round(all / 3600)} h` : `${Math.round(all / 86400)} days`;
}

/** `1 workload`, `2 workloads`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`;
}

/** A time of day, of more than a day with the day; times as of `Date.now()`. */
export function moment(at: number, within: number): string {
  const day = new Date(at).toLocaleDateString('en-GB', { day: 'numeric', month: 'short' });
  return within > 86_400_000 ? `${day} ${clock(at).slice(0, 5)}` : clock(at);
}

/** The same for an axis, where there is less room. */
export function tick(at: number, within: number): string {
  return within > 2 * 86_400_000 ? moment(at, within).replace(/ \d+:\d+$/, '') : clock(at).slice(0, 5);
}

/** A time of day, by `Date.now()`. */
export function clock(at: number): string {
  return new Date(at).toLocaleTimeString('en-GB');
}
