/** Meshes for tests: the same for the same seed. */
import type { Edge, Signals, View, Workload } from '../../src/lib/types';

export function dice(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

export const signals = (rps: number, bad = 0, more: Partial<Signals> = {}): Signals => {
  const requests = Math.round(rps * 60);
  const failed = Math.round(requests * bad);
  return { requests, bad: failed, rps, connections: 0, received: 0, sent: 0, ...(requests > 0 ? { ok: (100 * (requests - failed)) / requests, p99: 0.02 } : {}), ...more };
};

export const workload = (key: string, of: Signals = signals(1), more: Partial<Workload> = {}): Workload => {
  const [namespace = '', name = ''] = key.split('/');
  return { namespace, kind: 'Deployment', name, signals: of, callers: 0, callees: 0, pods: 1, reporting: 1, trend: [], ...more };
};

export const edge = (from: string, to: string, of: Signals = signals(1), security: Edge['security'] = 'mtls'): Edge => {
  const end = (key: string) => ({ namespace: key.slice(0, key.indexOf('/')), name: key.slice(key.indexOf('/') + 1) });
  return { from: end(from), to: end(to), service: `${to}:80`, ...(security ? { security } : {}), signals: of };
};

export const seen = <T>(items: T[]): View<T> => ({ window: 60, whole: 7200, items, unheard: [], shortened: false });

/** Figures are of `round`: who there is and who calls whom is the same in all rounds. */
export function mesh(seed: number, round = 0): { workloads: Workload[]; edges: Edge[]; spaces: string[] } {
  const roll = dice(seed);
  const figures = dice(seed * 31 + round);
  const spaces = Array.from({ length: 1 + roll(roll(3) === 0 ? 260 : 12) }, (_, i) => `ns-${i}`);
  const names = Array.from({ length: 1 + roll(400) }, (_, i) => `${spaces[roll(spaces.length)]}/w-${i}`);
  const workloads = names.map((key) => workload(key, signals(roll(8) === 0 ? 0 : 1 + figures(500), roll(20) === 0 ? 0.02 : 0), { reporting: roll(15) === 0 ? 0 : 1 }));
  const ends = [...names, '/internet', '/unknown', 'gone/away'];
  const edges = Array.from({ length: roll(1500) }, () => edge(ends[roll(ends.length)] ?? '', names[roll(names.length)] ?? '', signals(figures(90), roll(40) === 0 ? 0.05 : 0), roll(50) === 0 ? 'plaintext' : 'mtls'));
  return { workloads, edges, spaces };
}
