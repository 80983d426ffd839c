/** Where everything is, of places that are remembered by name. Pure: the same places give the same map, whatever figures say. */
import type { Item, Job, Placed } from './arrange';
import { busy, type Box, type Point, type Rect, type Scene } from './model';

export const SIZES: Record<Box['kind'], { w: number; h: number }> = {
  group: { w: 200, h: 66 },
  frame: { w: 200, h: 66 },
  workload: { w: 188, h: 50 },
  class: { w: 188, h: 50 },
  fold: { w: 188, h: 34 },
};
/** A frame's head, and the room around what is in it. */
export const HEAD = 34;
export const PAD = 16;
/** Of so many arrangements places are remembered: several times as many as one map can have frames. */
const REMEMBERED = 200;

/** Places by arrangement and name. */
export class Memory {
  #all: Map<string, Map<string, Point>>;

  constructor(text?: string | null) {
    this.#all = read(text);
  }

  of(key: string): ReadonlyMap<string, Point> {
    return this.#all.get(key) ?? new Map();
  }

  keep({ key, places }: Placed): void {
    const all = new Map([...this.of(key), ...places]);
    this.#all.delete(key);
    this.#all.set(key, all);
    for (const old of [...this.#all.keys()].slice(0, Math.max(0, this.#all.size - REMEMBERED))) this.#all.delete(old);
  }

  /** So that all is arranged anew. */
  forget(of: string): void {
    for (const key of [...this.#all.keys()]) if (key.startsWith(`${of} `)) this.#all.delete(key);
  }

  write(): string {
    return JSON.stringify([...this.#all].map(([key, places]) => [key, [...places].map(([id, { x, y }]) => [id, x, y])]));
  }
}

function read(text: string | null | undefined): Map<string, Map<string, Point>> {
  try {
    const said = JSON.parse(text ?? '[]') as [string, [string, number, number][]][];
    return new Map(said.map(([key, places]) => [key, new Map(places.map(([id, x, y]) => [id, { x: Number(x), y: Number(y) }]))]));
  } catch {
    return new Map();
  }
}

/** Boxes of an arrangement: those in a frame, or empty: those in none. */
const keyOf = (of: string, parent: string) => `${of} ${parent}`;
/** In focus a column says something: in another column it is another place. */
const nameOf = (box: Box) => (box.hop === 0 ? box.id : `${box.id}@${box.hop}`);
const inside = (scene: Scene, parent: string) => scene.boxes.filter((box) => box.parent === parent);

/** What has no place yet has to be arranged. */
export function jobs(scene: Scene, of: string, memory: Memory): Job[] {
  const all = new Map(scene.boxes.map((box) => [box.id, box]));
  const focused = scene.boxes.some((box) => box.hop !== 0);
  return ['', ...scene.boxes.filter((box) => box.kind === 'frame').map((box) => box.id)].flatMap((parent) => {
    const known = memory.of(keyOf(of, parent));
    const boxes = inside(scene, parent);
    if (boxes.every((box) => known.has(nameOf(box)))) return [];
    const items = boxes.map((box): Item => ({ id: nameOf(box), ...SIZES[box.kind], ...(focused ? { hop: box.hop } : {}) }));
    /** The box at this level that an end is or is in. */
    const level = (id: string) => {
      const box = all.get(id);
      return box?.parent === parent ? nameOf(box) : parent === '' ? (box?.parent ?? '') : '';
    };
    const names = new Set(items.map((item) => item.id));
    const calls = scene.lines.map((line): [string, string, number] => [level(line.from), level(line.to), busy(line.figures)]);
    return [{ key: keyOf(of, parent), items, calls, known: [...known].filter(([name]) => names.has(name)) }];
  });
}

/** Rectangles of all boxes that have a place. */
export function rects(scene: Scene, of: string, memory: Memory): Map<string, Rect> {
  const found = new Map<string, Rect>();
  const grown = new Map<string, { w: number; h: number }>();
  for (const frame of scene.boxes.filter((box) => box.kind === 'frame')) grown.set(frame.id, frameSize(scene, of, memory, frame.id));
  const outer = inside(scene, '').flatMap((box) => {
    const at = memory.of(keyOf(of, '')).get(nameOf(box));
    return at ? [{ id: box.id, rect: { ...at, ...SIZES[box.kind] } }] : [];
  });
  for (const [id, rect] of withRoom(new Map(outer.map(({ id, rect }) => [id, rect])), grown)) found.set(id, rect);
  for (const box of scene.boxes) {
    const [frame, at] = [found.get(box.parent), memory.of(keyOf(of, box.parent)).get(box.id)];
    if (box.parent && frame && at) found.set(box.id, { x: frame.x + PAD + at.x, y: frame.y + HEAD + at.y, ...SIZES[box.kind] });
  }
  return found;
}

function frameSize(scene: Scene, of: string, memory: Memory, frame: string): { w: number; h: number } {
  let { w, h } = SIZES.frame;
  for (const box of inside(scene, frame)) {
    const at = memory.of(keyOf(of, frame)).get(box.id);
    if (!at) continue;
    w = Math.max(w, at.x + SIZES[box.kind].w + PAD * 2);
    h = Math.max(h, at.y + SIZES[box.kind].h + HEAD + PAD);
  }
  return { w, h };
}

/**
 * Those in `grown` are larger than their place: whatever is right of one gives way to the right, whatever is below it downwards,
 * as far as it has grown. So closing it puts all back.
 */
export function withRoom(places: ReadonlyMap<string, Rect>, grown: ReadonlyMap<string, { w: number; h: number }>): Map<string, Rect> {
  const all = new Map([...places].map(([id, rect]) => [id, { ...rect }]));
  const order = [...all].filter(([id]) => grown.has(id)).sort(([a, one], [b, other]) => one.x - other.x || one.y - other.y || (a < b ? -1 : 1));
  for (const [id, rect] of order) {
    const size = grown.get(id) ?? rect;
    const [dw, dh] = [Math.max(0, size.w - rect.w), Math.max(0, size.h - rect.h)];
    const [right, bottom] = [rect.x + rect.w, rect.y + rect.h];
    for (const [other, one] of all) {
      if (other === id) continue;
      if (one.x >= right) one.x += dw;
      else if (one.y >= bottom) one.y += dh;
    }
    rect.w += dw;
    rect.h += dh;
  }
  return apart(all);
}

const GAP = 12;

/** Who still overlaps another goes down, the upper ones first. */
function apart(all: Map<string, Rect>): Map<string, Rect> {
  const done: Rect[] = [];
  for (const [, rect] of [...all].sort(([a, one], [b, other]) => one.y - other.y || one.x - other.x || (a < b ? -1 : 1))) {
    for (let again = true; again; ) {
      again = false;
      for (const one of done) {
        if (!overlap(one, rect)) continue;
        rect.y = one.y + one.h + GAP;
        again = true;
      }
    }
    done.push(rect);
  }
  return all;
}

export const overlap = (a: Rect, b: Rect) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
