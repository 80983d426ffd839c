import type { Answer, Ask, Problem } from './api';

/**
 * What a page shows, worked out of what the control plane answers. It is done in a worker, because answers of a large mesh are
 * megabytes: the page gets only what it draws. Pure.
 */
export interface ViewOf<P, T> {
  /** `size` is how many workloads there were when last asked; null until then. */
  asks(params: P, size: number | null): Ask<unknown>[];
  /** Answers come in the order of `asks`. */
  of(answers: Answer<unknown>[], params: P): Answer<T>;
}

type Asks<A extends unknown[]> = { [K in keyof A]: Ask<A[K]> };
type Answers<A extends unknown[]> = { [K in keyof A]: Answer<A[K]> };

/** A view of answers of these types. */
export function view<P, A extends unknown[], T>(asks: (params: P, size: number | null) => [...Asks<A>], of: (answers: Answers<A>, params: P) => Answer<T>): ViewOf<P, T> {
  return { asks, of: (answers, params) => of(answers as Answers<A>, params) };
}

/** A view that is the answer itself. */
export function as<P, T>(ask: (params: P, size: number | null) => Ask<T>): ViewOf<P, T> {
  return view<P, [T], T>((params, size) => [ask(params, size)], ([answer]) => answer);
}

/** The value, or undefined where there is none: that is unknown, not nothing. */
export function known<T>(answer: Answer<T>): T | undefined {
  return 'value' in answer ? answer.value : undefined;
}

export function problemOf(answer: Answer<unknown>): Problem | undefined {
  return 'problem' in answer ? answer.problem : undefined;
}

/** Whether all sidecars should report every second while a page is open: only where they are few. */
export function few(size: number | null): boolean {
  return size !== null && size <= 100;
}
