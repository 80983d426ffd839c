/** Asks the control plane and works out what pages show, so that the page's own thread has nothing to do but to draw. */
import { fetchAnswer, type Answer, type Ask } from './api';
import type { FromWorker, ToWorker } from './feed.svelte';
import type { ViewOf } from './view';
import { views } from '../views';

/** Between two looks, at least; and as a multiple of what an answer took, so that a large mesh is not asked all the time. */
const PAUSE = 1000;
const REST = 3;
/** What should be asked again since so long is shown until it has come: whoever scrolls or opens something does not wait. */
const STALE = 5000;

interface Wanted {
  view: string;
  params: unknown;
  timer: number;
  round: number;
  /** Of what the page has already. */
  had: Promise<unknown>[];
}

interface Asked {
  at: number;
  answer: Promise<Answer<unknown>>;
}

let base = '';
let token: string | null = null;
let paused = false;
let size: number | null = null;
const wanted = new Map<number, Wanted>();
/** What was answered, or is being asked, by path. */
const recent = new Map<string, Asked>();
/** The last of these that came well. */
const came = new Map<string, Asked>();

const post = (message: FromWorker) => self.postMessage(message);

function answer(ask: Ask<unknown>): Promise<Answer<unknown>> {
  const [now, before] = [performance.now(), recent.get(ask.path)];
  // A little less than that, because timers are not exact.
  if (before && now - before.at < ask.every * 1000 - 100) return before.answer;
  const answer = fetchAnswer<unknown>(base, ask.path, token);
  recent.set(ask.path, { at: now, answer });
  for (const all of [recent, came]) for (const [path, one] of all) if (now - one.at > 60_000) all.delete(path);
  void answer.then((got) => {
    if ('value' in got && recent.get(ask.path)?.answer === answer) came.set(ask.path, { at: now, answer });
    // What failed is asked again when next wanted.
    if ('problem' in got && recent.get(ask.path)?.answer === answer) recent.set(ask.path, { at: now - (ask.every - 1) * 1000, answer });
    if ('value' in got && /^stat\?(window|watch)=[^&]*(&watch=true)?$/.test(ask.path)) size = (got.value as { items: unknown[] }).items.length;
  });
  return answer;
}

async function look(id: number): Promise<void> {
  const one = wanted.get(id);
  if (!one || paused) return;
  const [began, round] = [performance.now(), ++one.round];
  const view = views[one.view as keyof typeof views] as ViewOf<unknown, unknown>;
  const say = async (asked: Promise<Answer<unknown>>[]) => {
    const answers = await Promise.all(asked);
    // Nobody waits for it any more, or it was asked anew.
    if (wanted.get(id) !== one || one.round !== round) return false;
    if (asked.some((answer, at) => answer !== one.had[at])) post({ id, answer: view.of(answers, one.params) });
    one.had = asked;
    return true;
  };
  const asks = view.asks(one.params, size);
  const known = asks.flatMap(({ path, every }) => {
    const last = came.get(path);
    return last && began - last.at < every * 1000 + STALE ? [last.answer] : [];
  });
  if (round === 1 && known.length === asks.length) await say(known);
  if (!(await say(asks.map(answer)))) return;
  const took = performance.now() - began;
  clearTimeout(one.timer);
  one.timer = self.setTimeout(() => void look(id), Math.max(PAUSE - took, took * REST));
}

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if ('base' in data) base = data.base;
  else if ('token' in data) {
    token = data.token;
    recent.clear();
    came.clear();
    for (const id of wanted.keys()) void look(id);
  } else if ('paused' in data) {
    paused = data.paused;
    if (!paused) for (const id of wanted.keys()) void look(id);
  } else if ('stop' in data) {
    clearTimeout(wanted.get(data.stop)?.timer);
    wanted.delete(data.stop);
  } else {
    wanted.set(data.id, { view: data.view, params: data.params, timer: 0, round: 0, had: [] });
    void look(data.id);
  }
};
