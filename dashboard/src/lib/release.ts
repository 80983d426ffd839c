/** What the control plane says of releases: see control-plane/src/steer/view.rs. And what a reader can want of one. Pure. */
import { count, few } from './units';

export type Phase = 'Idle' | 'Waiting' | 'Progressing' | 'Paused' | 'Promoting' | 'Promoted' | 'Held' | 'RolledBack';

export interface Releases {
  items: Release[];
}

export interface Release {
  namespace: string;
  name: string;
  /** `Deployment reviews`, `Deployment reviews-v1 and StatefulSet reviews-v2`. */
  target: string;
  /** NAMESPACE/NAME. */
  services: string[];
  phase: Phase;
  reason: string;
  /** The older Release about the same workload: this one does nothing. */
  before?: string;
  /** What of the object is wrong: what is refused changes nothing. */
  problems?: string[];
  stable: string;
  /** Empty: none. */
  canary: string;
  steps: Step[];
  /** From 1 on; 0: before the first. */
  step: number;
  /** Percent that it shall get, and that it gets by the pods that there are. */
  weight: number;
  share: number;
  capped: boolean;
  /** All of the canary's pods may be ready. */
  lifted: boolean;
  /** Unix seconds. */
  began: number;
  since: number;
  /** Seconds of the step in which it was known what happens. */
  spent: number;
  /** Proxies that do what is wanted now, of those that use it. */
  on: number;
  of: number;
  inForce: boolean;
  laggards: string[];
  /** What is slow, in seconds. */
  slowerThan?: number;
  gates: Gate[];
  /** Requests to the canary in this step, and so many before it may end. */
  requests: number;
  minRequests: number;
  /** In this step. */
  errors: Pair;
  slow: Pair;
  errorsInAll: Pair;
  pods: { canary: Pods; stable: Pods };
  callers: { name: string; errors: Pair }[];
  /** The oldest first. */
  curve: Second[];
  /** The newest first. */
  history: Entry[];
}

export interface Step {
  weight: number;
  /** Seconds. */
  lasts: number;
  approve: boolean;
  webhook: boolean;
  matches: number;
  /** Percent. */
  mirror: number;
}

export interface Gate {
  gate: string;
  state: 'Green' | 'Amber' | 'Red';
  why: string;
  /** Shares of bad requests, 0 to 1. */
  canary?: number;
  stable?: number;
  evidence: number;
  /** From where it is proof. */
  proof: number;
}

export interface Arm {
  all: number;
  bad: number;
}

export interface Pair {
  canary: Arm;
  stable: Arm;
}

export interface Pods {
  wanted: number;
  serving: number;
}

export interface Second {
  at: number;
  /** It is known what happened. */
  told: boolean;
  errors: Pair;
  slow: Pair;
  /** By gate. */
  evidence: Record<string, number>;
}

export interface Entry {
  at: number;
  /** Absent: nobody wanted it, it came so. */
  who?: string;
  did: string;
  why?: string;
}

/** A phase in a word, its sign, and what it is to whoever reads it. */
export const PHASES: Record<Phase, { word: string; sign: 'good' | 'warn' | 'bad' | 'quiet' | 'play' | 'pause' | 'up'; tone: 'good' | 'warn' | 'bad' | 'quiet' | 'accent' }> = {
  Idle: { word: 'Idle', sign: 'quiet', tone: 'quiet' },
  Waiting: { word: 'Waiting', sign: 'pause', tone: 'accent' },
  Progressing: { word: 'Progressing', sign: 'play', tone: 'accent' },
  Paused: { word: 'Paused', sign: 'pause', tone: 'warn' },
  Promoting: { word: 'Promoting', sign: 'up', tone: 'accent' },
  Promoted: { word: 'Promoted', sign: 'good', tone: 'good' },
  Held: { word: 'Held', sign: 'bad', tone: 'bad' },
  RolledBack: { word: 'Rolled back', sign: 'quiet', tone: 'quiet' },
};

/** Whether there is something to judge. */
export const isUnderWay = ({ phase }: Pick<Release, 'phase'>) => phase === 'Waiting' || phase === 'Progressing' || phase === 'Paused' || phase === 'Promoting';

/** Whether the canary takes over, also if that is paused. */
export const isLetIn = (release: Pick<Release, 'phase' | 'lifted'>) => isUnderWay(release) && release.lifted;

/** Gates that do not say that it is good. */
export const doubts = ({ gates }: Pick<Release, 'gates'>) => gates.filter(({ state }) => state !== 'Green');

/** The one Deployment that is released in place; absent where there are two workloads. */
export const deploymentOf = ({ target }: Pick<Release, 'target'>): string | undefined => (target.includes(' and ') ? undefined : target.replace(/^Deployment /, ''));

/** Whether a release is about a workload. */
export function isOf(release: Pick<Release, 'namespace' | 'target'>, workload: { namespace: string; kind?: string; name: string }): boolean {
  const named = release.target.split(' and ').map((one) => one.split(' '));
  return release.namespace === workload.namespace && named.some(([kind, name]) => name === workload.name && (!workload.kind || kind === workload.kind));
}

export type Verb = 'start' | 'pause' | 'resume' | 'step' | 'promote' | 'rollback';

/** Something that a reader can want where a release is. */
export interface Offer {
  verb: Verb;
  name: string;
  /** What is said beside the verb. */
  query: Record<string, string>;
  look: 'plain' | 'primary' | 'doubt' | 'danger';
  /** It is asked back before it is done. */
  asks?: { title: string; text: string; reason: boolean };
}

/** What makes sense now; the control plane refuses the rest as well. */
export function offers(release: Release): Offer[] {
  const { phase, canary, stable, step, steps, gates } = release;
  if (release.before || !canary) return [];
  const inPlace = deploymentOf(release) !== undefined;
  const again: Offer = { verb: 'start', name: 'Try again', query: {}, look: 'plain', asks: { title: `Try ${canary} once more?`, text: `It failed before. It begins at the first step, and what spoke against it is forgotten.`, reason: false } };
  if (phase === 'Held') return [again];
  if (!isUnderWay(release)) return [];

  const letIn = isLetIn(release);
  const back = letIn ? `Requests go back to ${stable} as far as its pods can carry them. Pods of ${canary} that were let in stay.` : `${canary} gets nothing more${inPlace ? ', and its pods stay held' : ''}.`;
  const rollback: Offer = { verb: 'rollback', name: 'Roll back', query: {}, look: 'danger', asks: { title: `Roll back ${canary}?`, text: `${back} ${inPlace ? 'The Deployment is not changed: undo it there, or in Git.' : ''}`.trim(), reason: true } };
  const resume: Offer = { verb: 'resume', name: 'Go on', query: {}, look: 'primary' };
  if (letIn) return phase === 'Paused' ? [resume, rollback] : [rollback];

  const doubtful = doubts(release);
  const spite = doubtful.map(({ gate, state, why }) => `${gate} is ${state.toLowerCase()} (${why})`).join('; ');
  const all: Offer[] = [phase === 'Paused' ? resume : { verb: 'pause', name: 'Pause', query: {}, look: 'plain' }];
  const next = steps[step];
  // Before its pods serve no step makes sense; after the last one there is only promotion.
  if (next && phase !== 'Waiting') {
    const asks = { title: `Step ${step + 1} in spite of doubts?`, text: `${canary} gets ${next.weight} % although ${spite}.`, reason: false };
    // The weight is said, so that it is this step and no other one if meanwhile the release goes on by itself.
    all.push({ verb: 'step', name: `Next step (${next.weight} %)`, query: { to: String(next.weight) }, look: 'plain', ...(doubtful.length > 0 ? { asks } : {}) });
  }
  const skipped = steps.slice(step).map(({ weight }) => `${weight} %`);
  const left = skipped.length > 0 ? ` ${skipped.length === 1 ? 'A step is' : 'Steps are'} skipped: ${skipped.join(', ')}.` : '';
  const unknown = gates.length > 0 && release.requests < release.minRequests ? ` Little is known of it: ${count(release.requests, 'request')} of ${release.minRequests}.` : '';
  const what = `${canary} replaces ${stable}${inPlace ? ', as fast as the Deployment does it' : ''}.${left}${unknown}`;
  if (doubtful.length > 0) all.push({ verb: 'promote', name: 'Promote in spite of doubts', query: { now: 'true' }, look: 'doubt', asks: { title: `Promote ${canary} in spite of doubts?`, text: `${what} But ${spite}.`, reason: false } });
  else all.push({ verb: 'promote', name: 'Promote', query: {}, look: 'plain', asks: { title: `Promote ${canary}?`, text: what, reason: false } });
  return [...all, rollback];
}

/** Where a wish is sent, below /telemetry/ as all that is asked. It is about the version that the reader saw. */
export function wishOf({ namespace, name, canary }: Pick<Release, 'namespace' | 'name' | 'canary'>, { verb, query }: Pick<Offer, 'verb' | 'query'>, reason = ''): string {
  const said = new URLSearchParams({ namespace, name, revision: canary, ...query, ...(reason ? { reason } : {}) });
  return `../releases/${verb}?${said}`;
}

/** A part of the way. */
export interface Mark {
  name: string;
  /** Seconds; 0: as long as it takes. */
  lasts: number;
  state: 'done' | 'now' | 'next' | 'skipped' | 'plan';
  /** Of it, 0 to 1. */
  filled: number;
  notes: string[];
}

/** The way from the first step to the promotion. */
export function track(release: Pick<Release, 'phase' | 'lifted' | 'steps' | 'step' | 'spent' | 'share'>): Mark[] {
  const { step, spent } = release;
  const [underWay, letIn] = [isUnderWay(release), isLetIn(release)];
  const marks = release.steps.map(({ weight, lasts, approve, webhook, matches, mirror }, at): Mark => {
    const state = !underWay ? 'plan' : letIn ? (at < step ? 'done' : 'skipped') : at + 1 < step ? 'done' : at + 1 === step ? 'now' : 'next';
    const filled = state === 'done' ? 1 : state === 'now' ? (lasts > 0 ? Math.min(1, spent / lasts) : 1) : 0;
    const notes = [...(approve ? ['wants approval'] : []), ...(webhook ? ['asks a webhook'] : []), ...(matches > 0 ? [`and ${count(matches, 'match', 'matches')}`] : []), ...(mirror > 0 ? [`a copy of ${mirror} %`] : [])];
    return { name: `${weight} %`, lasts, state, filled, notes };
  });
  const last: Mark = { name: 'promotion', lasts: 0, state: !underWay ? 'plan' : letIn ? 'now' : 'next', filled: letIn ? Math.min(1, release.share / 100) : 0, notes: [] };
  return [...marks, last];
}

/** Whether it is judged by chance: else what speaks against the canary is counted, as restarts are, or bad answers of whoever is asked. */
export const isOfChance = ({ gate }: Pick<Gate, 'gate'>) => gate === 'errors' || gate === 'latency';

/** How far evidence is on the way to proof, 0 to 1: by powers of ten where it is what chance is judged by. */
export function towards(gate: Pick<Gate, 'gate' | 'evidence' | 'proof'>): number {
  const { evidence, proof } = gate;
  if (proof <= 0) return 0;
  const way = isOfChance(gate) ? Math.log10(Math.max(evidence, LEAST) / LEAST) / Math.log10(proof / LEAST) : evidence / proof;
  return Math.min(1, Math.max(0, way));
}

/** Evidence below this is none. */
export const LEAST = 0.1;

/** `0.4`, `31`, `3,000`. */
export const evidence = (value: number) => (value < LEAST ? `<${LEAST}` : value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en'));

/** A share that somebody set, or that comes of pods. */
export const part = (percent: number) => `${Number(percent.toFixed(1))} %`;

/** The share of bad ones in percent. */
export const shareOf = ({ all, bad }: Arm): number | undefined => (all > 0 ? (100 * bad) / all : undefined);

/** The same with its sign. */
export const share = (percent: number | undefined) => (percent === undefined ? '–' : `${few(percent)} %`);

/** What the canary got of all requests in this step, in percent. */
export const measured = ({ errors: { canary, stable } }: Pick<Release, 'errors'>): number | undefined => shareOf({ all: canary.all + stable.all, bad: canary.all });
