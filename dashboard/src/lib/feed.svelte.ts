import { fetchAnswer, type Answer, type Problem } from './api';
import type { ParamsOf, ValueOf, ViewName } from '../views';

export type ToWorker = { base: string } | { token: string | null } | { paused: boolean } | { stop: number } | { id: number; view: string; params: unknown };
export interface FromWorker {
  id: number;
  answer: Answer<unknown>;
}

/** Where the control plane's answers are, from wherever the page is. */
export const base = () => new URL('../telemetry/', document.baseURI).href;

/** What a view says, once a second while the page can be seen. */
export class Feed<T> {
  /** The last that was known; it stays while the control plane cannot be reached. */
  value = $state.raw<T>();
  /** Why the last answer did not come. */
  problem = $state.raw<Problem>();
  /** When the value came, by `Date.now()`. */
  at = $state(0);
}

const KEY = 'tulle.token';

/** Who is signed in, and whether the control plane can be reached. */
class Session {
  token = $state<string | null>(sessionStorage.getItem(KEY));
  /** Why a token is needed; it is asked for. */
  wanted = $state.raw<string>();
  /** Why nothing is heard, and when something was last. */
  lost = $state.raw<{ text: string; since: number }>();
  heard = $state(0);

  signIn(token: string) {
    sessionStorage.setItem(KEY, token);
    this.token = token;
    this.wanted = undefined;
    send({ token });
  }

  signOut() {
    sessionStorage.removeItem(KEY);
    this.token = null;
    send({ token: null });
  }

  hear(problem: Problem | undefined) {
    if (problem?.kind === 'signIn') this.wanted ??= problem.text;
    else if (problem?.kind === 'unreachable') this.lost = { text: problem.text, since: this.lost?.since ?? this.heard };
    else {
      this.wanted = undefined;
      this.lost = undefined;
      this.heard = Date.now();
    }
  }
}

export const session = new Session();

let worker: Worker | undefined;
let last = 0;
const feeds = new Map<number, (answer: Answer<unknown>) => void>();

function send(message: ToWorker) {
  worker?.postMessage(message);
}

/** Once, before anything is drawn. */
export function start() {
  worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => feeds.get(data.id)?.(data.answer);
  send({ base: base() });
  send({ token: session.token });
  const pause = () => send({ paused: document.visibilityState === 'hidden' });
  document.addEventListener('visibilitychange', pause);
  pause();
}

/**
 * Follows a view while the component lives. With other parameters the old value stays until the new one is there; without
 * parameters nothing is asked.
 */
export function feed<N extends ViewName>(view: N, params: () => ParamsOf<N> | undefined): Feed<ValueOf<N>> {
  const feed = new Feed<ValueOf<N>>();
  const asked = $derived(JSON.stringify(params()));
  $effect(() => {
    if (asked === undefined) return;
    const id = ++last;
    feeds.set(id, (answer) => {
      if ('value' in answer) {
        feed.value = answer.value as ValueOf<N>;
        feed.at = Date.now();
        feed.problem = undefined;
        session.hear(undefined);
      } else {
        feed.problem = answer.problem;
        session.hear(answer.problem);
      }
    });
    send({ id, view, params: JSON.parse(asked) });
    return () => {
      feeds.delete(id);
      send({ stop: id });
    };
  });
  return feed;
}

/** What a reader wants done, once, with the token that all is asked with. */
export async function wish<T>(path: string): Promise<Answer<T>> {
  const answer = await fetchAnswer<T>(base(), path, session.token, 'POST');
  if ('problem' in answer && answer.problem.kind === 'signIn') session.hear(answer.problem);
  return answer;
}
