/** Where one is, and links to elsewhere. */
import { hashOf, readHash, type Place } from './hash';

export const WINDOWS: [seconds: number, name: string][] = [[60, '1 min'], [300, '5 min'], [900, '15 min'], [3600, '1 h']];

class Here {
  #at = $state.raw<Place>(readHash(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.#at = readHash(location.hash)));
  }

  get page() {
    return this.#at.page;
  }

  get rest() {
    return this.#at.rest;
  }

  get query() {
    return this.#at.query;
  }

  /** Seconds that figures are of. */
  get window(): number {
    const asked = Number(this.#at.query.window);
    return WINDOWS.some(([seconds]) => seconds === asked) ? asked : 60;
  }

  /** A link to another page; the window goes along. */
  to(page: string, rest: string[] = [], query: Record<string, string | undefined> = {}): string {
    return hashOf(page, rest, { window: this.#at.query.window, ...query });
  }

  workload(end: { namespace: string; name: string }, query: Record<string, string | undefined> = {}): string {
    return this.to('service', [end.namespace, end.name], query);
  }

  /** Changes the query of this page, without a step that "back" would undo. */
  say(query: Record<string, string | undefined>) {
    const { page, rest } = this.#at;
    const next = hashOf(page, rest, { ...this.#at.query, ...query });
    if (next === location.hash) return;
    history.replaceState(null, '', next);
    this.#at = readHash(next);
  }
}

export const place = new Here();
