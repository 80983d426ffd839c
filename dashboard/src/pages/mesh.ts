import type { Columns, Fields } from '../lib/filter';
import type { Value } from '../lib/order';
import type { Mesh, Proxy, ProxyState } from '../lib/types';
import { span } from '../lib/units';

const RANK: Record<ProxyState, number> = { rejecting: 0, behind: 1, synced: 2 };

/** What a proxy's state means. */
export const STATES: Record<ProxyState, string> = { synced: 'in sync', behind: 'behind', rejecting: 'rejecting' };

export const COLUMNS: { id: string; name: string; what: string; width: number; text?: boolean; hide?: string; value(proxy: Proxy): Value }[] = [
  { id: 'pod', name: 'Pod', what: 'namespace and name', width: 0, text: true, value: (proxy) => `${proxy.namespace}/${proxy.pod}` },
  { id: 'state', name: 'Configuration', what: 'whether it has applied what it was sent', width: 9, text: true, value: (proxy) => RANK[proxy.state] },
  { id: 'version', name: 'Version', what: 'of its proxy', width: 7, text: true, hide: 'wide', value: (proxy) => proxy.version },
  { id: 'plane', name: 'Data plane', what: 'tulle, envoy, or gRPC without a proxy', width: 7.5, text: true, hide: 'wide', value: (proxy) => proxy.dataPlane },
  { id: 'cert', name: 'Certificate', what: 'when it ends, unless it is renewed', width: 8, value: (proxy) => proxy.certificateEnds ?? undefined },
  { id: 'report', name: 'Reports', what: 'whether it tells what it does', width: 7, text: true, hide: 'wide', value: (proxy) => Number(proxy.reporting) },
];

export const FILTER: Columns = {
  texts: { ns: 'namespace', workload: 'whole name', state: 'synced, behind, rejecting', version: 'of the proxy', plane: 'tulle, envoy, grpc', report: 'yes, no' },
  figures: { cert: { unit: 'seconds', what: 'until its certificate ends: cert<1h' } },
};

/** `now`: unix seconds. */
export function fields(proxy: Proxy, now: number): Fields {
  const { namespace, pod, workload, state, version, dataPlane, certificateEnds, reporting } = proxy;
  return {
    name: `${namespace}/${pod}`,
    texts: { ns: namespace, workload, state, version, plane: dataPlane, report: reporting ? 'yes' : 'no' },
    figures: { cert: typeof certificateEnds === 'number' ? certificateEnds - now : undefined },
  };
}

export interface VersionRow {
  version: string;
  dataPlane: string;
  all: number;
  states: Record<ProxyState, number>;
}

export function byVersion(proxies: readonly Proxy[]): VersionRow[] {
  const found = new Map<string, VersionRow>();
  for (const { version, dataPlane, state } of proxies) {
    const key = `${version} ${dataPlane}`;
    const row = found.get(key) ?? { version, dataPlane, all: 0, states: { synced: 0, behind: 0, rejecting: 0 } };
    row.all += 1;
    row.states[state] += 1;
    found.set(key, row);
  }
  return [...found.values()].sort((a, b) => b.all - a.all || (a.version < b.version ? -1 : 1));
}

/** What is rejected and why, with the pods that do. */
export function rejected(mesh: Mesh): { key: string; resource: string; reason: string; pods: string[] }[] {
  const found = new Map<string, { key: string; resource: string; reason: string; pods: string[] }>();
  for (const proxy of mesh.proxies) {
    for (const { resource, reason } of proxy.rejects) {
      const key = `${resource} ${reason}`;
      const one = found.get(key) ?? { key, resource, reason, pods: [] };
      one.pods.push(`${proxy.namespace}/${proxy.pod}`);
      found.set(key, one);
    }
  }
  return [...found.values()].sort((a, b) => b.pods.length - a.pods.length);
}

/** When a certificate ends, in words; it is renewed at half of its life, so that little time left is a sign. */
export function certificate(ends: number | null | undefined, now: number): { text: string; state: 'good' | 'warn' | 'bad' | 'unknown' } {
  if (typeof ends !== 'number') return { text: '–', state: 'unknown' };
  if (ends <= now) return { text: `ended ${span(now - ends)} ago`, state: 'bad' };
  return { text: `in ${span(ends - now)}`, state: ends - now < 3600 ? 'warn' : 'good' };
}
