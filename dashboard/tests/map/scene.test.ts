import { describe, expect, test, vi } from 'vitest';

import { MOST, standsFor } from '../../src/map/boxes';
import type { Scene } from '../../src/map/model';
import { mapOf, type MapAsked } from '../../src/map/view';
import { dice, edge, mesh, seen, signals, workload } from './make';

// Many meshes each, on a machine that may have other things to do.
vi.setConfig({ testTimeout: 60_000 });

const SEEDS = Array.from({ length: 40 }, (_, i) => i + 1);
const none = { of: '', shown: new Set<string>() };

function look(workloads: ReturnType<typeof mesh>['workloads'], edges: ReturnType<typeof mesh>['edges'], asked: Partial<MapAsked> = {}, last: Parameters<typeof mapOf>[3] = none) {
  return mapOf(seen(workloads), seen(edges), { window: 60, q: '', hops: 2, ...asked }, last);
}

/** What somebody may ask of a mesh. */
function questions(seed: number): Partial<MapAsked>[] {
  const { workloads, spaces } = mesh(seed);
  const roll = dice(seed + 1000);
  const some = spaces.filter(() => roll(3) === 0);
  const one = workloads[roll(workloads.length)];
  return [{}, { open: spaces }, { open: some }, { open: [] }, { q: 'w-1' }, { q: 'ok<99.9', open: spaces }, { focus: `${one?.namespace}/${one?.name}` }, { focus: '/internet', hops: 1 }, { focus: `${spaces[0]}/` }];
}

const leaves = (scene: Scene) => scene.boxes.filter((box) => box.kind !== 'frame');

describe('whatever the mesh', () => {
  test('there are never more than 150 boxes, each with a name of its own', () => {
    for (const seed of SEEDS) {
      for (const asked of questions(seed)) {
        const { workloads, edges } = mesh(seed);
        const { boxes } = look(workloads, edges, asked).value.scene;
        expect(boxes.length).toBeLessThanOrEqual(MOST);
        expect(new Set(boxes.map((box) => box.id)).size).toBe(boxes.length);
      }
    }
  });

  test('every call is drawn or folded exactly once', () => {
    for (const seed of SEEDS) {
      for (const asked of questions(seed)) {
        const { workloads, edges } = mesh(seed);
        const { scene } = look(workloads, edges, asked).value;
        const drawn = scene.lines.reduce((sum, line) => sum + line.links, 0);
        expect(drawn + scene.inside + scene.folded + scene.beyond).toBe(scene.links);
        expect(new Set(scene.lines.map((line) => line.id)).size).toBe(scene.lines.length);
        const there = new Set(leaves(scene).map((box) => box.id));
        for (const line of scene.lines) expect(there.has(line.from) && there.has(line.to)).toBe(true);
        if (!asked.q) expect(scene.links).toBe(new Set(edges.map((one) => `${one.from.namespace}/${one.from.name} ${one.to.namespace}/${one.to.name}`)).size);
      }
    }
  });

  test('without focus every workload is in exactly one box', () => {
    for (const seed of SEEDS) {
      for (const asked of questions(seed).filter((one) => one.focus === undefined)) {
        const { workloads, edges } = mesh(seed);
        const { scene } = look(workloads, edges, asked).value;
        expect(leaves(scene).reduce((sum, box) => sum + standsFor(box), 0)).toBe(scene.nodes);
        const frames = new Set(scene.boxes.filter((box) => box.kind === 'frame').map((box) => box.id));
        for (const box of scene.boxes) expect(box.parent === '' || frames.has(box.parent)).toBe(true);
      }
    }
  });

  test('a refresh with other figures shows the same boxes', () => {
    for (const seed of SEEDS) {
      for (const asked of questions(seed).filter((one) => !one.q)) {
        const first = mesh(seed);
        let last = none;
        const rounds = [0, 1, 2].map((round) => {
          const { workloads, edges } = mesh(seed, round);
          // Only what is busy changes, not what is wrong.
          const calm = edges.map((one, at) => ({ ...one, signals: { ...one.signals, requests: 600, bad: (first.edges[at]?.signals.ok ?? 100) < 99 ? 30 : 0 } }));
          const even = workloads.map((one, at) => ({ ...one, signals: { ...one.signals, requests: (first.workloads[at]?.signals.requests ?? 0) > 0 ? 600 : 0, bad: (first.workloads[at]?.signals.bad ?? 0) > 0 ? 12 : 0 } }));
          const { value, shown } = look(even, calm, asked, last);
          last = { of: value.of, shown };
          return value.scene.boxes.map((box) => box.id).join();
        });
        expect(new Set(rounds).size).toBe(1);
      }
    }
  });
});

describe('what is shown', () => {
  const shop = [workload('shop/web'), workload('shop/cart', signals(5, 0.04, { badBy: [{ reason: 'timeout', requests: 12 }] })), workload('pay/ledger', signals(0)), workload('pay/lost', signals(0), { reporting: 0 })];
  const calls = [edge('/internet', 'shop/web', signals(9), 'plaintext'), edge('shop/web', 'shop/cart', signals(5, 0.04)), edge('shop/cart', 'pay/ledger', signals(0, 0, { connections: 2, ok: 100 }))];

  test('a namespace is one box with counts and the worst of its states', () => {
    const { scene } = look(shop, calls, { open: [] }).value;
    expect(scene.boxes.map((box) => [box.id, box.kind, box.state])).toEqual([['/internet', 'class', 'quiet'], ['pay/', 'group', 'good'], ['shop/', 'group', 'bad']]);
    const [, , own] = scene.boxes;
    expect([own?.counts.bad, own?.counts.good]).toEqual([1, 1]);
    expect(scene.lines.map((line) => [line.id, line.links, line.state, line.figures.plain > 0])).toEqual([['/internet>shop/', 1, 'good', true], ['shop/>pay/', 1, 'good', false]]);
    expect(scene.inside).toBe(1);
  });

  test('an open namespace is a frame, and the others stay as they are', () => {
    const { scene } = look(shop, calls, { open: ['shop'] }).value;
    expect(scene.boxes.map((box) => `${box.kind} ${box.id} ${box.parent}`)).toEqual(['frame shop/ ', 'class /internet ', 'group pay/ ', 'workload shop/cart shop/', 'workload shop/web shop/']);
    expect(scene.lines.map((line) => line.id)).toEqual(['/internet>shop/web', 'shop/cart>pay/', 'shop/web>shop/cart']);
  });

  test('a few workloads are shown at once, many are not', () => {
    expect(look(shop, calls).value.scene.boxes.some((box) => box.kind === 'frame')).toBe(true);
    const many = Array.from({ length: 40 }, (_, i) => workload(`shop/w-${i}`));
    expect(look(many, []).value.scene.boxes.map((box) => box.kind)).toEqual(['group']);
  });

  test('of a large namespace what is wrong is shown, and the rest is one box that says how it does', () => {
    const many = Array.from({ length: 400 }, (_, i) => workload(`shop/w-${String(i).padStart(3, '0')}`, signals(1 + i, i === 7 ? 0.5 : 0)));
    const { boxes } = look(many, [], { open: ['shop'] }).value.scene;
    expect(boxes).toHaveLength(MOST);
    expect(boxes.some((box) => box.id === 'shop/w-007' && box.state === 'bad')).toBe(true);
    expect(boxes.find((box) => box.id === 'shop/*')?.name).toBe('and 252 healthy');
  });

  test('in focus are callers left and callees right, as far as asked', () => {
    const chain = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => workload(`x/${name}`));
    const edges = [edge('x/a', 'x/b'), edge('x/b', 'x/c'), edge('x/c', 'x/d'), edge('x/d', 'x/e'), edge('x/e', 'x/f'), edge('x/d', 'x/c')];
    const hops = (asked: Partial<MapAsked>) => Object.fromEntries(look(chain, edges, asked).value.scene.boxes.map((box) => [box.id.slice(2), box.hop]));
    expect(hops({ focus: 'x/c' })).toEqual({ a: -2, b: -1, c: 0, d: -1, e: 2 });
    expect(hops({ focus: 'x/b', hops: 1 })).toEqual({ a: -1, b: 0, c: 1 });
  });

  test('what is not there cannot be in focus: all of the map is shown, and it is said', () => {
    const { value } = look(shop, calls, { focus: 'shop/nobody' });
    expect(value.lost).toBe('shop/nobody');
    expect(value.scene.boxes.length).toBeGreaterThan(1);
  });

  test('the filter keeps what it asks for, and pale who calls it or is called by it', () => {
    const { scene, ...value } = look(shop, calls, { q: 'cart', open: ['shop', 'pay'] }).value;
    expect([value.found, value.all]).toEqual([1, 4]);
    expect(scene.boxes.filter((box) => box.kind === 'workload').map((box) => [box.id, box.context])).toEqual([['pay/ledger', true], ['shop/cart', false], ['shop/web', true]]);
    expect(scene.links).toBe(2);
  });

  test('all lines of what is looked at are drawn, though they are the least', () => {
    const many = Array.from({ length: 60 }, (_, i) => workload(`n-${i}/w`));
    const edges = many.flatMap((a, i) => many.flatMap((b, j) => (i === j ? [] : [edge(`${a.namespace}/w`, `${b.namespace}/w`, signals(i === 3 ? 0.1 : 50))])));
    const of = (at?: string) => look(many, edges, { open: [], ...(at ? { at } : {}) }).value.scene;
    expect(of().lines.filter((line) => line.from === 'n-3/')).toHaveLength(0);
    expect(of('n-3/').lines.filter((line) => line.from === 'n-3/')).toHaveLength(59);
    expect(of().folded).toBeGreaterThan(3000);
  });

  test('states: what never arrived counts, and so do pods that do not report and what policy denies', () => {
    const { scene } = look(
      [workload('a/well'), workload('a/unseen', signals(0)), workload('a/half', signals(1), { pods: 2 }), workload('a/denied', signals(1, 0, { deniedBy: [{ policy: 'AccessPolicy/a/p', audit: false, requests: 3 }] })), workload('a/mute', signals(0), { reporting: 0 })],
      [edge('a/well', 'a/unseen', signals(2, 1))],
      { open: ['a'] },
    ).value;
    expect(Object.fromEntries(leaves(scene).map((box) => [box.id.slice(2), box.state]))).toEqual({ well: 'good', unseen: 'bad', half: 'warn', denied: 'warn', mute: 'unknown' });
  });
});
