import type { Releases } from './release';
import type { Chart, Edge, Me, Mesh, Policies, Route, Tap, View, Workload } from './types';

/** Why there is no answer. The text says what to do, and is shown as it is. */
export interface Problem {
  kind: 'signIn' | 'forbidden' | 'missing' | 'unreachable' | 'refused';
  text: string;
}

/** An answer, or why there is none. */
export type Answer<T> = { value: T } | { problem: Problem };

/** A path below /telemetry/ and what it answers; `every` seconds it is worth asking again. */
export interface Ask<T> {
  path: string;
  every: number;
  /** Only for the type. */
  of?: T;
}

/** Whose figures: all, a namespace's, or one workload's. */
export interface Of {
  namespace?: string | undefined;
  name?: string | undefined;
  /** Seconds. */
  window?: number | undefined;
  /** Sidecars then report every second for half a minute. */
  watch?: boolean | undefined;
}

const ask = <T>(path: string, every: number, query: Record<string, unknown> = {}): Ask<T> => {
  const said = Object.entries(query).filter(([, value]) => value !== undefined && value !== '' && value !== false);
  const text = said.map(([key, value]) => `${key}=${encodeURIComponent(String(value))}`).join('&');
  return { path: text ? `${path}?${text}` : path, every };
};

export const asks = {
  me: () => ask<Me>('me', 30),
  stat: (of: Of) => ask<View<Workload>>('stat', 1, { ...of }),
  edges: (of: Of) => ask<View<Edge>>('edges', 1, { ...of }),
  routes: (of: Of) => ask<View<Route>>('routes', 1, { ...of }),
  chart: (of: Of & { step?: number }) => ask<Chart>('chart', (of.window ?? 0) > 7200 ? 60 : 5, { ...of }),
  mesh: () => ask<Mesh>('mesh', 5),
  policies: (namespace?: string) => ask<Policies>('policies', 10, { namespace }),
  tap: (query: Record<string, unknown>) => ask<Tap>('tap', 1, query),
  /** Each brings ten minutes of seconds along: all of them are not asked for too often. */
  releases: (of: { namespace?: string; name?: string }, every: number) => ask<Releases>('../releases', every, { ...of }),
};

/** Longest that one answer may take. */
const PATIENCE = 20_000;

/** Asks once; `POST`: for something to be done. Never throws. */
export async function fetchAnswer<T>(base: string, path: string, token: string | null, method: 'GET' | 'POST' = 'GET'): Promise<Answer<T>> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (token) headers.authorization = `Bearer ${token}`;
  try {
    const response = await fetch(new URL(path, base), { method, headers, cache: 'no-store', credentials: 'omit', signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) return { problem: problem(response.status, (await response.text()).trim()) };
    return { value: (await response.json()) as T };
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    const text = late
      ? `The control plane took longer than ${PATIENCE / 1000} s to answer.`
      : 'The control plane cannot be reached. Does it run, and does `tulle dashboard` or `tulle local up` still?';
    return { problem: { kind: 'unreachable', text } };
  }
}

export function problem(status: number, text: string): Problem {
  const kinds: Record<number, Problem['kind']> = { 401: 'signIn', 403: 'forbidden', 404: 'missing', 502: 'unreachable', 503: 'unreachable', 504: 'unreachable' };
  return { kind: kinds[status] ?? 'refused', text: text.slice(0, 500) || `The control plane answered ${status} without a word.` };
}
