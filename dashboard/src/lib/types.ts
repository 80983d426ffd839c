/** What the control plane answers below /telemetry/: see control-plane/src/telemetry/view. Rates are per second, times seconds. */

/** Rows, and how much they can be believed. */
export interface View<T> {
  /** Seconds that rates are of, at most. */
  window: number;
  items: T[];
  /** Replicas of the control plane that did not say what they know: it is missing. */
  unheard: string[];
  /** Something was forgotten before its time, for want of memory. */
  shortened: boolean;
}

/** Requests, how they ended, how long they took; and opaque connections. What there is nothing to say of is absent. */
export interface Signals {
  requests: number;
  /** Those that ended badly: not by their caller's fault, nor its policy's. */
  bad: number;
  rps: number;
  /** Percent. */
  ok?: number;
  p50?: number;
  p95?: number;
  p99?: number;
  /** For each request. */
  attempts?: number;
  connections: number;
  received: number;
  sent: number;
  /** Percent. */
  mtls?: number;
  /** The most frequent first; also what was the caller's fault. */
  badBy?: Count[];
  deniedBy?: Denied[];
}

export interface Count {
  reason: string;
  requests: number;
}

export interface Denied {
  /** KIND/NAMESPACE/NAME. */
  policy: string;
  /** It would have been, were it not only audited. */
  audit: boolean;
  requests: number;
}

export interface Workload {
  namespace: string;
  kind: string;
  name: string;
  /** What it was asked. */
  signals: Signals;
  callers: number;
  callees: number;
  pods: number;
  /** Pods whose sidecars report. */
  reporting: number;
  /** Requests per second in the minutes of the last quarter of an hour, the oldest first; empty if nothing is known. */
  trend: number[];
}

/** An end of an edge; without namespace it is a class: `internet`, … */
export interface End {
  namespace: string;
  name: string;
}

export type Security = 'mtls' | 'plaintext';

export interface Edge {
  from: End;
  to: End;
  /** HOST:PORT, as far as the caller's proxy told. */
  service?: string;
  security?: Security;
  signals: Signals;
}

export interface Route {
  /** KIND/NAMESPACE/NAME#RULE; absent if no rule matched. */
  route?: string;
  caller: End;
  service?: string;
  signals: Signals;
  backends: { to: End; signals: Signals }[];
}

/** Who asks, and what they may. */
export interface Me {
  user: string | null;
  /** Null: all. */
  namespaces: string[] | null;
  tap: boolean;
  version: string;
  cluster: string | null;
}

export interface Chart {
  /** Unix seconds at which the first point begins. */
  begin: number;
  /** Seconds of each point. */
  step: number;
  /** Null: nothing is known of that time. */
  points: (Point | null)[];
  unheard: string[];
  shortened: boolean;
}

export interface Point {
  rps: number;
  /** Per second. */
  bad: number;
  p50?: number;
  p95?: number;
  p99?: number;
  /** Upper bound in seconds, and how many requests. */
  heat: [number, number][];
}

export interface Mesh {
  replicas: Replica[];
  proxies: Proxy[];
  unheard: string[];
}

export interface Replica {
  name: string;
  heard: boolean;
  version?: string;
  proxies?: number;
}

export type ProxyState = 'synced' | 'behind' | 'rejecting';

export interface Proxy {
  namespace: string;
  pod: string;
  workload: string;
  dataPlane: string;
  version: string;
  state: ProxyState;
  rejects: { resource: string; reason: string }[];
  /** Unix seconds. */
  certificateEnds: number | null;
  reporting: boolean;
}

export interface Policies {
  items: Policy[];
}

export interface Policy {
  kind: string;
  namespace: string;
  name: string;
  targets: string[];
  accepted: boolean;
  problem: string | null;
  /** Proxies on which it is in force, of those that use it. */
  inForce: number;
  of: number;
}

export interface Tap {
  records: TapRecord[];
  cursor: string;
  /** Records that were overwritten before they could be read. */
  missed: number;
  unheard: string[];
}

export interface TapRecord {
  time: number | string;
  durationSeconds: number;
  caller?: string;
  workload?: string;
  method?: string;
  host?: string;
  path?: string;
  status?: number;
  grpcStatus?: number | string;
  reason?: string;
  attempts?: number;
  route?: string;
  policy?: string;
  security?: string;
  traceId?: string;
  why?: string;
}
