/** What the control plane answers below /telemetry/: see control-plane/src/telemetry/view. Rates are per second, times seconds. */

/** Rows, and how much they can be believed. */
export interface View<T> {
  /** Seconds that rates are of, at most. */
  window: number;
  /** Seconds for which all replicas of the control plane have been there: what was before is known in part. */
  whole: number;
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
  /** False: nobody counts what it does, whoever reports. An older control plane does not say it. */
  known?: boolean;
  /** Pods whose sidecars count nothing, and the Telemetries by which. */
  uncounted?: number;
  uncountedBy?: string[];
  /** Requests per second in the minutes of the last quarter of an hour, the oldest first; empty if nothing is known of it, null where nothing is known of that minute. */
  trend: (number | null)[];
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
  version: string;
  cluster?: string | null;
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
  heat?: [number, number][];
  /** Known in part: not all replicas of the control plane were there then. */
  partial?: boolean;
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
  /** Resources that it uses, and those of them of which it has accepted the latest version. */
  resources?: number;
  accepted?: number;
  rejects: { resource: string; reason: string }[];
  /** Unix seconds; not known of a proxy that does not say. */
  certificateEnds?: number | null;
  /** Only Tulle's own proxies do. */
  reporting: boolean;
  /** The replica that tells it. */
  replica?: string;
}

export interface Policies {
  items: Policy[];
  /** What is wrong with documents that are no object: where they come from files. */
  problems?: string[];
  unheard?: string[];
}

export interface Policy {
  kind: string;
  namespace: string;
  name: string;
  targets: string[];
  accepted: boolean;
  /** Why it is not accepted, or not in force everywhere. */
  problem?: string | null;
  /** Proxies on which it is in force, of those that use it. */
  inForce: number;
  of: number;
}

export interface Tap {
  /** The earliest first. */
  records: TapRecord[];
  /** To be given back with the next question. */
  cursor: string;
  /** Records that sidecars forgot before anybody asked. */
  missed: number;
  /** Records that are not here because they were too many. */
  leftOut?: number;
  /** Replicas of the control plane that did not say what their sidecars know. */
  unheard: string[];
  /** Pods of which no sidecar answered. */
  silent?: string[];
  asked?: number;
  notAsked?: number;
}

/** A request or connection, as one sidecar saw it. What is not known is absent. */
export interface TapRecord {
  /** When it ended, RFC 3339. */
  time: string;
  durationSeconds: number;
  direction: 'inbound' | 'outbound';
  pod: string;
  caller: End;
  workload: End;
  service?: string;
  protocol: string;
  method?: string;
  host?: string;
  /** Without its query. */
  path?: string;
  status?: number;
  /** The name of a gRPC call's. */
  grpcStatus?: string;
  /** It ended otherwise than it should, whoever is to blame. */
  failed: boolean;
  reason?: string;
  /** `downstream`, `upstream`, `policy` or `proxy`. */
  fault?: string;
  detail?: string;
  policy?: string;
  policyField?: string;
  audit?: string;
  attempts: number;
  route?: string;
  security?: Security;
  peerId?: string;
  peerPod?: string;
  upstream?: string;
  bytesReceived: number;
  bytesSent: number;
  traceId?: string;
  why?: string;
}
