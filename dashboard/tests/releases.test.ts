import { afterEach, expect, test, vi } from 'vitest';

import { forget, releases, wish } from '../fixtures/releases.mjs';
import { fetchAnswer } from '../src/lib/api';
import { lately, lines, POINT, SPAN } from '../src/lib/curve';
import { deploymentOf, evidence, isLetIn, isOf, isUnderWay, offers, part, PHASES, towards, track, wishOf, type Phase, type Release, type Second } from '../src/lib/release';
import { listed, release as one, releaseOf, releasesNow } from '../src/views/releases';

afterEach(() => {
  forget();
  vi.unstubAllGlobals();
});

const all = (): Release[] => releases(new URL('http://x/releases'), 1_800_000_000).items;
const named = (name: string): Release => all().find((one) => one.name === name)!;
const verbs = (release: Release) => offers(release).map(({ verb }) => verb).join(' ');

test('there is a release in each phase to look at', () => {
  expect(new Set(all().map(({ phase }) => phase))).toEqual(new Set(Object.keys(PHASES)));
});

test('what is offered makes sense in the phase', () => {
  const offered = Object.fromEntries(all().map((release) => [release.name, verbs(release)]));
  expect(offered).toEqual({
    cart: 'resume step promote rollback',
    catalog: 'start',
    checkout: 'rollback',
    ledger: '',
    payments: 'pause promote rollback',
    prices: '',
    reviews: 'pause step promote rollback',
    // It is in its last step.
    search: 'pause promote rollback',
    stock: '',
    'stock-2': '',
  });
  expect(verbs({ ...named('reviews'), before: 'shop/older' })).toBe('');
  expect(verbs({ ...named('catalog'), canary: '' })).toBe('');
});

test('a promotion that was stopped goes on or back, and has no steps any more', () => {
  const stopped: Release = { ...named('checkout'), phase: 'Paused' };
  expect([isLetIn(stopped), verbs(stopped)]).toEqual([true, 'resume rollback']);
  // What was let in before it was rolled back takes over no more.
  const back: Release = { ...stopped, phase: 'Held' };
  expect([isLetIn(back), isLetIn(named('cart')), isLetIn(named('checkout')), isLetIn(named('reviews'))]).toEqual([false, false, true, false]);
});

test('in doubt it is asked back, and promotion says that it is in spite of that', () => {
  const doubtful = offers(named('reviews'));
  expect(doubtful.map(({ name, asks }) => [name, asks !== undefined])).toEqual([['Pause', false], ['Next step (25 %)', true], ['Promote in spite of doubts', true], ['Roll back', true]]);
  expect(doubtful[2]).toMatchObject({ query: { now: 'true' }, look: 'doubt' });
  expect(doubtful[2]?.asks?.text).toMatch(/A step is skipped: 25 %\. But latency is amber \(/);
  const clear = offers(named('cart'));
  expect(clear.map(({ name, asks, query }) => [name, asks !== undefined, query])).toEqual([['Go on', false, {}], ['Next step (5 %)', false, { to: '5' }], ['Promote', true, {}], ['Roll back', true, {}]]);
  expect([clear, doubtful].map((some) => some.at(-1)?.asks?.reason)).toEqual([true, true]);
  expect(offers({ ...named('cart'), requests: 3 })[2]?.asks?.text).toContain('Little is known of it: 3 requests of 200');
});

test('a wish says of which version it is, and why', () => {
  const cart = named('cart');
  expect(wishOf(cart, { verb: 'step', query: { to: '5' } })).toBe('../releases/step?namespace=shop&name=cart&revision=84f6d9c7b&to=5');
  expect(wishOf(cart, { verb: 'rollback', query: {} }, 'too slow & dear')).toBe('../releases/rollback?namespace=shop&name=cart&revision=84f6d9c7b&reason=too+slow+%26+dear');
  expect(new URL(wishOf(cart, { verb: 'pause', query: {} }), 'http://127.0.0.1:1/key/telemetry/').pathname).toBe('/key/releases/pause');
});

test('a wish is sent with the token that all is asked with, and a refusal is told as it is', async () => {
  const sent: [string, RequestInit][] = [];
  const answers = [new Response('{"name":"cart"}'), new Response('it is paused already\n', { status: 409 }), new Response('anna may not steer releases.tulle.dev: ClusterRole tulle-steer allows it\n', { status: 403 })];
  vi.stubGlobal('fetch', async (url: URL, options: RequestInit) => {
    sent.push([url.href, options]);
    return answers.shift();
  });
  const ask = (method?: 'POST') => fetchAnswer('http://127.0.0.1:1/key/telemetry/', '../releases/pause?name=cart', 'secret', method);
  expect(await ask('POST')).toEqual({ value: { name: 'cart' } });
  expect(await ask('POST')).toEqual({ problem: { kind: 'refused', text: 'it is paused already' } });
  expect(await ask()).toEqual({ problem: { kind: 'forbidden', text: 'anna may not steer releases.tulle.dev: ClusterRole tulle-steer allows it' } });
  expect(sent.map(([url, { method }]) => [url, method])).toEqual(['POST', 'POST', 'GET'].map((method) => ['http://127.0.0.1:1/key/releases/pause?name=cart', method]));
  expect(sent.every(([, { headers, credentials }]) => (headers as Record<string, string>).authorization === 'Bearer secret' && credentials === 'omit')).toBe(true);
});

test('the way says where a release is', () => {
  const states = (name: string) => track(named(name)).map(({ name, state, filled }) => `${name} ${state} ${filled.toFixed(2)}`);
  expect(states('reviews')).toEqual(['1 % done 1.00', '5 % now 0.74', '25 % next 0.00', 'promotion next 0.00']);
  expect(states('payments')).toEqual(['1 % next 0.00', '5 % next 0.00', '25 % next 0.00', 'promotion next 0.00']);
  expect(states('checkout')).toEqual(['1 % done 1.00', '5 % done 1.00', '25 % done 1.00', 'promotion now 0.40']);
  expect(track({ ...named('checkout'), step: 1 }).map(({ state }) => state)).toEqual(['done', 'skipped', 'skipped', 'now']);
  for (const name of ['catalog', 'ledger', 'prices', 'stock']) expect(track(named(name)).every(({ state }) => state === 'plan')).toBe(true);
  // A step lasts longer than it was to, when too little is known.
  expect(track({ ...named('reviews'), spent: 500 })[1]?.filled).toBe(1);
  expect(track(named('cart'))[1]?.notes).toEqual(['wants approval', 'a copy of 10 %']);
  expect(track({ ...named('reviews'), steps: [], step: 0 }).map(({ name }) => name)).toEqual(['promotion']);
});

const pair = (all: number, bad: number, stable = 0) => ({ canary: { all, bad }, stable: { all: stable, bad: 0 } });
const second = (at: number, more: Partial<Second> = {}): Second => ({ at, told: true, errors: pair(10, 1, 90), slow: pair(0, 0), evidence: { errors: 2 }, ...more });

test('of what is not known the curve has a gap, and no nought', () => {
  const begin = 10_000;
  const curve = [...Array.from({ length: POINT }, (_, i) => second(begin + i)), ...Array.from({ length: POINT }, (_, i) => second(begin + POINT + i, { told: false, errors: pair(0, 0) })), second(begin + 2 * POINT), second(begin + 2 * POINT + 3, { errors: pair(0, 0, 50), evidence: { errors: 0.001 } })];
  const { times, errors, rps, slow, seconds, evidence } = lines(curve)!;
  expect([times.length, times.at(-3), times.at(-1)]).toEqual([SPAN / POINT, begin, begin + 2 * POINT]);
  expect([errors.canary.slice(-4), rps.canary.slice(-4)]).toEqual([[null, 10, null, 10], [null, 10, null, 5]]);
  expect([errors.stable.slice(-4), rps.stable.slice(-4)]).toEqual([[null, 0, null, 0], [null, 90, null, 70]]);
  // Nobody was asked whether it was slow.
  expect(slow.canary.every((value) => value === null)).toBe(true);
  // What spoke against it by then is known all the same; two seconds are missing, for another one steered then.
  expect([seconds.at(-1), evidence.errors?.slice(-5)]).toEqual([begin + 2 * POINT + 3, [2, 2, null, null, 0.1]]);
  expect(seconds.length).toBe(evidence.errors?.length);
});

test('curves are of ten minutes at most, and there may be none', () => {
  expect(lines([])).toBeUndefined();
  const { times, seconds } = lines([second(1), second(20_000)])!;
  expect([times.length, seconds[0], times[0]]).toEqual([SPAN / POINT, 20_000 + POINT - SPAN, 20_000 + POINT - SPAN]);
  expect(lately([second(1), second(2, { told: false }), second(3, { errors: pair(20, 0) })])).toBe(15);
  expect([lately([]), lately([second(1, { told: false })])]).toEqual([undefined, undefined]);
});

test('evidence goes by powers of ten to its proof, and what is counted by ones', () => {
  const way = (evidence: number, proof: number, gate = 'errors') => Number(towards({ gate, evidence, proof }).toFixed(2));
  expect([way(0.01, 1000), way(0.1, 1000), way(10, 1000), way(1000, 1000), way(1e9, 1000)]).toEqual([0, 0, 0.5, 1, 1]);
  expect([way(1, 2, 'restarts'), way(5, 20, 'queue'), way(0, 0), way(5, 0)]).toEqual([0.5, 0.25, 0, 0]);
  expect([0.01, 0.42, 31.4, 4000].map(evidence)).toEqual(['<0.1', '0.4', '31', '4,000']);
  expect([part(23.07), part(5), part(0.25)]).toEqual(['23.1 %', '5 %', '0.3 %']);
});

test('those under way stand first, then those that somebody has to see to', () => {
  const { underWay, held, rest } = listed(all());
  expect([underWay, held, rest].map((rows) => rows.map(({ name }) => name))).toEqual([['cart', 'checkout', 'payments', 'reviews', 'search'], ['catalog'], ['ledger', 'prices', 'stock', 'stock-2']]);
  const words = [...underWay, ...held].map(({ name, at, gets }) => `${name}: ${at} ${gets}`);
  expect(words).toEqual(['cart: step 1 of 3 1', 'checkout: promotion 40', 'payments:  0', 'reviews: step 2 of 3 5', 'search: step 3 of 3 23.07', 'catalog:  0']);
  expect((['Waiting', 'Progressing', 'Paused', 'Promoting', 'Held', 'Promoted', 'RolledBack', 'Idle'] as Phase[]).map((phase) => isUnderWay({ phase }))).toEqual([true, true, true, true, false, false, false, false]);
});

test('a workload knows its release', () => {
  const of = (kind: string, name: string, namespace = 'shop') => releaseOf.of([{ value: { items: all() } }], { namespace, kind, name });
  const found = (kind: string, name: string, namespace?: string) => {
    const answer = of(kind, name, namespace);
    return 'value' in answer ? answer.value.release?.name : undefined;
  };
  expect([found('Deployment', 'reviews'), found('StatefulSet', 'reviews'), found('Deployment', 'reviews', 'pay'), found('StatefulSet', 'ledger-v2')]).toEqual(['reviews', undefined, undefined, 'ledger']);
  // Of two about the same workload the older one does something.
  expect(found('Deployment', 'stock')).toBe('stock');
  expect(isOf(named('ledger'), { namespace: 'shop', name: 'ledger-v1' })).toBe(true);
  expect([deploymentOf(named('reviews')), deploymentOf(named('ledger'))]).toEqual(['reviews', undefined]);
  // Who may not know of releases sees the workload, and the mesh, all the same.
  expect(releasesNow.of([{ problem: { kind: 'unreachable', text: 'no leader' } }], {})).toEqual({ value: [] });
  expect(releaseOf.of([{ problem: { kind: 'forbidden', text: 'no' } }], { namespace: 'shop', kind: 'Deployment', name: 'reviews' })).toEqual({ value: { release: undefined } });
});

test('a page gets its release with lines in place of seconds; one that is gone is no problem', () => {
  const of = { namespace: 'shop', name: 'reviews' };
  expect(one.asks(of, null)[0]).toMatchObject({ path: '../releases?namespace=shop&name=reviews', every: 1 });
  const answer = one.of([{ value: { items: [named('reviews')] } }], of);
  expect('value' in answer && [answer.value.release?.curve, answer.value.lines?.times.length]).toEqual([[], SPAN / POINT]);
  expect(one.of([{ value: { items: [] } }], of)).toEqual({ value: { release: undefined, lines: undefined, lately: undefined } });
});

test('the mesh that does not exist refuses as a real one does', () => {
  const want = (verb: string, query: string) => wish(new URL(`http://x/releases/${verb}?namespace=shop&name=reviews&${query}`)).status;
  expect([want('pause', 'revision=old'), want('promote', 'revision=84f6d9c7b'), want('promote', 'revision=84f6d9c7b&now=true')]).toEqual([409, 409, 200]);
});
