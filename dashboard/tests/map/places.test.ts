import { describe, expect, test, vi } from 'vitest';

import { arrange } from '../../src/map/arrange';
import { bounds, boxAt, curves, fit, lineAt, pointAt, seeing, toMap, zoomed } from '../../src/map/geometry';
import type { Rect, Scene } from '../../src/map/model';
import { jobs, Memory, overlap, rects, withRoom } from '../../src/map/places';
import { mapOf, type MapAsked } from '../../src/map/view';
import { reading, step } from '../../src/map/walk';
import { dice, edge, mesh, seen, signals, workload } from './make';

// Many meshes each, on a machine that may have other things to do.
vi.setConfig({ testTimeout: 60_000 });

const SEEDS = [2, 5, 8, 13];

function sceneOf(seed: number, asked: Partial<MapAsked>, without = 0): Scene {
  const { workloads, edges } = mesh(seed);
  const there = workloads.slice(without);
  const names = new Set(there.map((one) => one.name));
  return mapOf(seen(there), seen(edges.filter((one) => names.has(one.to.name))), { window: 60, q: '', hops: 2, ...asked }, { of: '', shown: new Set() }).value.scene;
}

function place(scene: Scene, of: string, memory: Memory): Map<string, Rect> {
  for (const job of jobs(scene, of, memory)) memory.keep(arrange(job));
  return rects(scene, of, memory);
}

function overlapping(scene: Scene, all: Map<string, Rect>): string[] {
  const found: string[] = [];
  for (const parent of new Set(scene.boxes.map((box) => box.parent))) {
    const level = scene.boxes.filter((box) => box.parent === parent);
    for (const [at, a] of level.entries()) {
      for (const b of level.slice(at + 1)) {
        const [one, other] = [all.get(a.id), all.get(b.id)];
        if (one && other && overlap(one, other)) found.push(`${a.id} ${b.id}`);
      }
    }
  }
  return found;
}

const questions = (seed: number): Partial<MapAsked>[] => {
  const { spaces, workloads } = mesh(seed);
  return [{}, { open: spaces.slice(0, 3) }, { focus: `${workloads[0]?.namespace}/${workloads[0]?.name}` }];
};

describe('places', () => {
  test('each box has one, and none lies on another', () => {
    for (const seed of SEEDS) {
      for (const asked of questions(seed)) {
        const scene = sceneOf(seed, asked);
        const all = place(scene, 'x', new Memory());
        expect(all.size).toBe(scene.boxes.length);
        expect(overlapping(scene, all)).toEqual([]);
      }
    }
  });

  test('a refresh keeps all of them, and arranges nothing', () => {
    for (const seed of SEEDS) {
      const memory = new Memory();
      const before = place(sceneOf(seed, {}), 'x', memory);
      const again = sceneOf(seed, {});
      expect(jobs(again, 'x', memory)).toEqual([]);
      expect(rects(again, 'x', memory)).toEqual(before);
    }
  });

  test('who is new gets a free place, and nobody else moves', () => {
    for (const seed of SEEDS) {
      for (const asked of [{ open: [] }, questions(seed)[2] ?? {}]) {
        const memory = new Memory();
        const [few, all] = [sceneOf(seed, asked, asked.focus ? 0 : 12), sceneOf(seed, asked)];
        const before = place(few, 'x', memory);
        const after = place(all, 'x', memory);
        for (const [id, rect] of before) if (after.has(id)) expect(after.get(id)).toEqual(rect);
        expect(overlapping(all, after)).toEqual([]);
      }
    }
  });

  test('opening a namespace and closing it puts all back', () => {
    for (const seed of SEEDS) {
      const memory = new Memory();
      const [closed, open] = [sceneOf(seed, { open: [] }), sceneOf(seed, { open: ['ns-0', 'ns-1'] })];
      const before = place(closed, 'x', memory);
      const between = place(open, 'x', memory);
      expect(place(closed, 'x', memory)).toEqual(before);
      for (const frame of open.boxes.filter((box) => box.kind === 'frame')) {
        const own = between.get(frame.id);
        for (const box of open.boxes.filter((one) => one.parent === frame.id)) {
          const rect = between.get(box.id);
          expect(own && rect && rect.x >= own.x && rect.y >= own.y && rect.x + rect.w <= own.x + own.w && rect.y + rect.h <= own.y + own.h).toBe(true);
        }
      }
    }
  });

  test('with as many frames as there can be all have a place at once', () => {
    const names = Array.from({ length: 70 }, (_, i) => `n-${i}`);
    const many = names.flatMap((name) => Array.from({ length: 20 }, (_, i) => workload(`${name}/w-${i}`)));
    const value = mapOf(seen(many), seen([]), { window: 60, q: '', hops: 2, open: names }, { of: '', shown: new Set() }).value;
    const memory = new Memory();
    const all = place(value.scene, value.of, memory);
    expect(jobs(value.scene, value.of, memory)).toEqual([]);
    expect(all.size).toBe(value.scene.boxes.length);
    expect(value.scene.boxes.filter((box) => box.kind === 'frame').length).toBeGreaterThan(40);
  });

  test('places outlive the page, and what is no memory is none', () => {
    const memory = new Memory();
    const scene = sceneOf(5, {});
    const before = place(scene, 'x', memory);
    expect(rects(scene, 'x', new Memory(memory.write()))).toEqual(before);
    for (const text of ['', '{', '7', 'null', '[[1]]']) expect(rects(scene, 'x', new Memory(text)).size).toBe(0);
  });

  test('callers are left of whom they call', () => {
    const chain = ['a', 'b', 'c'].map((name) => workload(`x/${name}`));
    const value = mapOf(seen(chain), seen([edge('x/a', 'x/b'), edge('x/b', 'x/c')]), { window: 60, q: '', hops: 2 }, { of: '', shown: new Set() }).value;
    const all = place(value.scene, 'x', new Memory());
    const [a, b, c] = ['x/a', 'x/b', 'x/c'].map((id) => all.get(id)?.x ?? NaN);
    expect(a).toBeLessThan(b ?? NaN);
    expect(b).toBeLessThan(c ?? NaN);
  });

  test('what grows makes room, and only what is right of it or below it gives way', () => {
    const roll = dice(3);
    for (let round = 0; round < 100; round += 1) {
      const grid = new Map(Array.from({ length: 24 }, (_, i) => [`n${i}`, { x: (i % 6) * 260, y: Math.floor(i / 6) * 90 + (i % 6) * 7, w: 200, h: 66 }] as [string, Rect]));
      const grown = new Map([...grid.keys()].filter(() => roll(6) === 0).map((id) => [id, { w: 200 + roll(900), h: 66 + roll(700) }]));
      const all = withRoom(grid, grown);
      const list = [...all.values()];
      expect(list.some((a, i) => list.slice(i + 1).some((b) => overlap(a, b)))).toBe(false);
      expect(withRoom(grid, new Map())).toEqual(grid);
    }
  });
});

describe('drawing', () => {
  const scene = sceneOf(8, { open: ['ns-0'] });
  const all = place(scene, 'x', new Memory());
  const ways = curves(scene.lines, all);

  test('each line goes from the edge of one box to the edge of the other', () => {
    expect(ways.size).toBe(scene.lines.length);
    for (const line of scene.lines) {
      const [way, from, to] = [ways.get(line.id), all.get(line.from), all.get(line.to)];
      for (const [point, rect] of [[way?.[0], from], [way?.[3], to]] as const) {
        if (!point || !rect) throw new Error(`${line.id} has no way`);
        const [dx, dy] = [Math.min(Math.abs(point.x - rect.x), Math.abs(point.x - rect.x - rect.w)), Math.min(Math.abs(point.y - rect.y), Math.abs(point.y - rect.y - rect.h))];
        expect(Math.min(dx, dy)).toBeLessThan(0.001);
      }
    }
  });

  test('what is pointed at is found: what is in a frame before the frame, and lines between', () => {
    for (const box of scene.boxes.filter((one) => one.kind !== 'frame')) {
      const rect = all.get(box.id) as Rect;
      expect(boxAt({ x: rect.x + rect.w / 2, y: rect.y + rect.h / 2 }, scene.boxes, all)).toBe(box.id);
    }
    for (const [id, way] of ways) expect(lineAt(pointAt(way, 0.5), new Map([[id, way]]), 3)).toBe(id);
    expect(boxAt({ x: -9999, y: 0 }, scene.boxes, all)).toBeUndefined();
    expect(lineAt({ x: -9999, y: 0 }, ways, 5)).toBeUndefined();
  });

  test('a camera shows all of a small map, keeps what it zooms at, and brings what is looked at into sight', () => {
    const around = bounds([{ x: 10, y: 20, w: 500, h: 300 }, { x: -40, y: 0, w: 20, h: 20 }]) as Rect;
    expect(around).toEqual({ x: -40, y: 0, w: 550, h: 320 });
    const camera = fit(around, { w: 900, h: 700 });
    const [first, last] = [toMap(camera, { x: 0, y: 0 }), toMap(camera, { x: 900, y: 700 })];
    expect(first.x < -40 && first.y < 0 && last.x > 510 && last.y > 320).toBe(true);
    const at = { x: 123, y: 456 };
    const [before, after] = [toMap(camera, at), toMap(zoomed(camera, 1.7, at), at)];
    expect(after.x).toBeCloseTo(before.x);
    expect(after.y).toBeCloseTo(before.y);
    const rect = { x: 5000, y: -3000, w: 200, h: 60 };
    const there = seeing(camera, rect, { w: 900, h: 700 });
    const corner = { x: rect.x * there.k + there.x, y: rect.y * there.k + there.y };
    expect(corner.x >= 0 && corner.y >= 0 && corner.x + rect.w * there.k <= 900 && corner.y + rect.h * there.k <= 700).toBe(true);
  });

  test('keys come to every box, and along calls', () => {
    for (const seed of SEEDS) {
      const scene = sceneOf(seed, { open: ['ns-0'] });
      const all = place(scene, 'x', new Memory());
      const met = new Set<string>();
      for (let at = step(scene, all, undefined, 'first'), rounds = 0; at !== undefined && rounds < 200; rounds += 1) {
        met.add(at);
        at = step(scene, all, at, 'next');
      }
      expect(met.size).toBe(scene.boxes.length);
      expect(step(scene, all, undefined, 'last')).toBe(reading(scene, all).at(-1));
    }
    const chain = mapOf(seen([workload('x/a'), workload('x/b'), workload('x/c')]), seen([edge('x/a', 'x/b', signals(1)), edge('x/a', 'x/c', signals(5))]), { window: 60, q: '', hops: 2 }, { of: '', shown: new Set() }).value.scene;
    const places = place(chain, 'x', new Memory());
    expect(step(chain, places, 'x/a', 'right')).toBe('x/c');
    expect(step(chain, places, 'x/c', 'left')).toBe('x/a');
    expect(step(chain, places, 'x/nobody', 'left')).toBe(reading(chain, places)[0]);
  });
});
