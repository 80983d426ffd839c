import type { Columns, Fields } from '../lib/filter';
import type { Value } from '../lib/order';
import type { WorkloadRow } from './workloads';

/** A column of the table: its name in the hash, and the width that it always has. */
export interface Column {
  id: string;
  name: string;
  /** What it means, for whoever points at it. */
  what: string;
  /** In rem; the name takes what is left. */
  width: number;
  text?: boolean;
  /** Only on a wide or a wider screen: its page has it, too. */
  hide?: 'wide' | 'wider';
  value(row: WorkloadRow): Value;
}

export const COLUMNS: Column[] = [
  { id: 'name', name: 'Workload', what: 'namespace and name', width: 0, text: true, value: (row) => row.key },
  { id: 'rps', name: 'Req/s', what: 'requests that it was asked, per second', width: 5.2, value: (row) => row.rps },
  { id: 'bad', name: 'Bad/s', what: 'requests that failed, per second: as it or its callers saw it, whichever saw more', width: 5.2, hide: 'wide', value: (row) => row.bad },
  { id: 'ok', name: 'OK %', what: 'percent that ended well, by its own sidecars', width: 6.4, value: (row) => row.ok },
  { id: 'seen', name: 'Seen OK %', what: 'percent that ended well as callers saw it: with time-outs and what never arrived', width: 7.4, hide: 'wider', value: (row) => row.seen },
  { id: 'p50', name: 'p50', what: 'half of all requests end within', width: 5.6, hide: 'wider', value: (row) => row.p50 },
  { id: 'p99', name: 'p99', what: '99 of 100 requests end within', width: 5.6, value: (row) => row.p99 },
  { id: 'mtls', name: 'mTLS %', what: 'percent of requests and connections that came by mTLS', width: 6.8, hide: 'wide', value: (row) => row.mtls },
  { id: 'callers', name: 'Callers', what: 'who calls it', width: 5.4, hide: 'wider', value: (row) => row.callers },
  { id: 'callees', name: 'Calls', what: 'whom it calls', width: 4.8, hide: 'wider', value: (row) => row.callees },
  { id: 'reporting', name: 'Report', what: 'pods whose sidecars report, of all', width: 5.8, hide: 'wide', value: (row) => (row.pods > 0 ? row.reporting / row.pods : undefined) },
];

export const FILTER: Columns = {
  texts: { ns: 'namespace', kind: 'Deployment, StatefulSet, …', name: 'whole name' },
  figures: {
    rps: { unit: 'number', what: 'requests per second' },
    bad: { unit: 'number', what: 'failed per second' },
    ok: { unit: 'percent', what: 'ended well' },
    seen: { unit: 'percent', what: 'ended well as callers saw it' },
    p50: { unit: 'seconds', what: 'half end within' },
    p99: { unit: 'seconds', what: '99 of 100 end within' },
    mtls: { unit: 'percent', what: 'came by mTLS' },
    conns: { unit: 'number', what: 'opaque connections per second' },
    callers: { unit: 'number', what: 'who call it' },
    calls: { unit: 'number', what: 'whom it calls' },
    pods: { unit: 'number', what: 'pods' },
    silent: { unit: 'number', what: 'pods that do not report' },
  },
};

export function fields(row: WorkloadRow): Fields {
  const { rps, bad, ok, seen, p50, p99, mtls, callers, pods } = row;
  return {
    name: row.key,
    texts: { ns: row.namespace, kind: row.kind, name: row.name },
    figures: { rps, bad, ok, seen, p50, p99, mtls, conns: row.connections, callers, calls: row.callees, pods, silent: pods - row.reporting },
  };
}
