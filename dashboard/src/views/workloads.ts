import { asks, type Answer } from '../lib/api';
import { readFilter } from '../lib/filter';
import { keyOf } from '../lib/names';
import { kept, sorted, sortText, type Sort, type Value } from '../lib/order';
import { badRate, ended, tells } from '../lib/sums';
import { byCallee } from '../lib/troubles';
import type { Edge, View, Workload } from '../lib/types';
import { partialOf } from '../lib/partial';
import { few, known, problemOf, view } from '../lib/view';
import { COLUMNS, fields, FILTER } from './columns';

/** A row of the table: plain figures only, because they are handed from the worker once a second. */
export interface WorkloadRow {
  key: string;
  namespace: string;
  name: string;
  kind: string;
  rps: number | undefined;
  /** Requests per second that failed, as the workload or its callers saw it: whichever saw more. */
  bad: number | undefined;
  /** Percent, by its own sidecars. */
  ok: number | undefined;
  /** Percent, as callers saw it: with what never arrived. */
  seen: number | undefined;
  p50: number | undefined;
  p99: number | undefined;
  mtls: number | undefined;
  connections: number | undefined;
  callers: number;
  callees: number;
  pods: number;
  reporting: number;
  trend: (number | null)[];
}

export interface WorkloadsAsked {
  window: number;
  /** What is typed above the table. */
  q: string;
  sort: Sort;
  /** Somebody is at a row: it stays where it is. */
  held: boolean;
  /** Rows of the table that are wanted: of a thousand one sees twenty. */
  from: number;
  to: number;
}

export interface Workloads {
  window: number;
  rows: WorkloadRow[];
  /** The place of the first of these rows, among how many that the filter asks for; and how many there are. */
  from: number;
  found: number;
  all: number;
  unheard: string[];
  shortened: boolean;
  partial: number | undefined;
  /** Why it is not known what callers saw. */
  unseen: string | undefined;
}

/** How rows stood, for which question, and since when by `performance.now()`. */
export interface Stood {
  by: string;
  at: number;
  ids: string[];
}

/** Between two looks at the order, while nobody points at a row. Milliseconds. */
const SETTLED = 5000;

let stood: Stood = { by: '', at: 0, ids: [] };

export const workloads = view<WorkloadsAsked, [View<Workload>, View<Edge>], Workloads>(
  ({ window }, size) => [asks.stat({ window, watch: few(size) }), asks.edges({ window })],
  ([stat, edges], asked): Answer<Workloads> => {
    if ('problem' in stat) return stat;
    const { window, unheard, shortened } = stat.value;
    const filter = readFilter(asked.q, FILTER);
    const all = allRows(stat.value.items, known(edges)?.items);
    const found = filter.all ? all : all.filter((one) => filter.matches(fields(one)));
    const ordered = inOrder(found, asked, stood, performance.now());
    stood = ordered.stood;
    // Where there are fewer than that, the last of them.
    const from = Math.max(0, Math.min(asked.from, found.length - (asked.to - asked.from)));
    const rows = ordered.rows.slice(from, asked.to);
    return { value: { window, unheard, shortened, partial: partialOf(stat.value), unseen: problemOf(edges)?.text, rows, from, found: found.length, all: all.length } };
  },
);

/** Of the same answers the same rows: whoever scrolls fast asks for others many times a second. */
let made: { items: readonly Workload[]; edges: readonly Edge[] | undefined; rows: WorkloadRow[] } | undefined;
function allRows(items: readonly Workload[], edges: readonly Edge[] | undefined): WorkloadRow[] {
  if (made?.items === items && made.edges === edges) return made.rows;
  const calls = byCallee(edges ?? []);
  made = { items, edges, rows: items.map((one) => row(one, calls.get(keyOf(one)))) };
  return made.rows;
}

/** Two of a namespace may have one name, of two kinds. */
export const idOf = (row: WorkloadRow) => `${row.key} ${row.kind}`;

/** Pure: how rows stood before comes from outside. */
export function inOrder(found: readonly WorkloadRow[], { q, sort, held }: Pick<WorkloadsAsked, 'q' | 'sort' | 'held'>, before: Stood, now: number): { rows: WorkloadRow[]; stood: Stood } {
  const by = `${sortText(sort)} ${q}`;
  if (before.by === by && (held || now - before.at < SETTLED)) return { rows: kept(found, idOf, before.ids), stood: before };
  const column = COLUMNS.find((one) => one.id === sort.column);
  const rows = sorted(found, (one) => round(column?.value(one)), idOf, sort.descending);
  return { rows, stood: { by, at: rows.length > 0 ? now : 0, ids: rows.map(idOf) } };
}

/** Figures that are shown as equal are equal. */
const round = (value: Value) => (typeof value === 'number' ? Number(value.toPrecision(3)) : value);

/** Where nobody reports and nobody calls, nothing is known: no figure, not none. */
export function row(workload: Workload, calls: readonly Edge[] | undefined): WorkloadRow {
  const { namespace, name, kind, signals, callers, callees, pods, reporting, trend } = workload;
  const seen = calls ? ended(calls.map((edge) => edge.signals)) : undefined;
  const known = tells(workload) || signals.requests > 0 || signals.connections > 0 || calls !== undefined;
  return {
    key: keyOf(workload),
    namespace,
    name,
    kind,
    rps: known ? signals.rps : undefined,
    bad: known ? Math.max(badRate(signals), seen?.badRate ?? 0) : undefined,
    ok: signals.ok,
    seen: seen?.ok,
    p50: signals.p50,
    p99: signals.p99,
    mtls: signals.mtls,
    connections: known ? signals.connections : undefined,
    callers,
    callees,
    pods,
    reporting,
    trend,
  };
}
