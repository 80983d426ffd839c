/** Lines' curves, what is under a point, and what of the map is seen. */
import type { Line, Point, Rect } from './model';

/** From, two points that bend it, to. */
export type Curve = readonly [Point, Point, Point, Point];

/** Screen = map × k + (x, y). */
export interface Camera {
  x: number;
  y: number;
  k: number;
}

export const SMALLEST = 0.12;
export const LARGEST = 2.5;

type Side = 'left' | 'right' | 'top' | 'bottom';

/** Boxes above each other that are nearer than this have nothing between them. */
const NEXT = 48;

/** Where a line leaves and comes. Callers are left; where they are not, or boxes stand above each other, it takes another side. */
function sides(from: Rect, to: Rect): [Side, Side] {
  if (to.x >= from.x + from.w - 8) return ['right', 'left'];
  if (from.x >= to.x + to.w - 8) return ['left', 'right'];
  const [down, up] = [to.y - from.y - from.h, from.y - to.y - to.h];
  if (down >= 0 && down < NEXT) return ['bottom', 'top'];
  if (up >= 0 && up < NEXT) return ['top', 'bottom'];
  return down >= 0 ? ['right', 'right'] : ['left', 'left'];
}

/**
 * Lines of one side share it, in the order of where they go, so that few cross. `obstacles` are boxes that lines should not go
 * behind.
 */
export function curves(lines: readonly Line[], rects: ReadonlyMap<string, Rect>, obstacles: readonly string[] = []): Map<string, Curve> {
  const ports = new Map<string, { line: string; end: 'from' | 'to'; order: number }[]>();
  const drawn: { line: Line; from: Rect; to: Rect; sides: [Side, Side] }[] = [];
  for (const line of lines) {
    const [from, to] = [rects.get(line.from), rects.get(line.to)];
    if (!from || !to) continue;
    const way = sides(from, to);
    drawn.push({ line, from, to, sides: way });
    for (const [end, box, side, other] of [['from', line.from, way[0], to], ['to', line.to, way[1], from]] as const) {
      const order = side === 'left' || side === 'right' ? other.y + other.h / 2 : other.x + other.w / 2;
      const key = `${box} ${side}`;
      ports.set(key, [...(ports.get(key) ?? []), { line: line.id, end, order }]);
    }
  }
  const shares = new Map<string, number>();
  for (const all of ports.values()) {
    all.sort((a, b) => a.order - b.order || (a.line < b.line ? -1 : 1));
    for (const [at, { line, end }] of all.entries()) shares.set(`${line} ${end}`, (at + 1) / (all.length + 1));
  }
  const walls = obstacles.flatMap((id) => (rects.has(id) ? [{ id, rect: rects.get(id) as Rect }] : []));
  return new Map(
    drawn.map(({ line, from, to, sides: [out, into] }) => {
      const way = curve(port(from, out, shares.get(`${line.id} from`) ?? 0.5), out, port(to, into, shares.get(`${line.id} to`) ?? 0.5), into);
      return [line.id, around(way, walls.filter(({ id }) => id !== line.from && id !== line.to).map(({ rect }) => rect), out)];
    }),
  );
}

/** Bends a line aside, one way or the other, until it is behind as few boxes as can be. */
function around(way: Curve, walls: readonly Rect[], out: Side): Curve {
  const crossed = (curve: Curve) => {
    const reach = bounds(curve.map((point) => ({ ...point, w: 0, h: 0 })));
    const near = walls.filter((one) => reach && one.x < reach.x + reach.w && one.x + one.w > reach.x && one.y < reach.y + reach.h && one.y + one.h > reach.y);
    if (near.length === 0) return 0;
    let count = 0;
    for (let step = 1; step < STEPS; step += 1) {
      const { x, y } = pointAt(curve, step / STEPS);
      if (near.some((one) => x > one.x && x < one.x + one.w && y > one.y && y < one.y + one.h)) count += 1;
    }
    return count;
  };
  let [least, best] = [crossed(way), way];
  for (let turn = 1; turn <= TURNS && least > 0; turn += 1) {
    for (const aside of [turn * BEND, -turn * BEND]) {
      const [a, b, c, d] = way;
      const sideways = out === 'left' || out === 'right';
      const move = (point: Point) => (sideways ? { x: point.x, y: point.y + aside } : { x: point.x + aside, y: point.y });
      const tried: Curve = [a, move(b), move(c), d];
      const count = crossed(tried);
      if (count < least) [least, best] = [count, tried];
    }
  }
  return best;
}

const STEPS = 20;
const TURNS = 5;
const BEND = 52;

function port(rect: Rect, side: Side, share: number): Point {
  // Near corners lines would seem to be of another box.
  const part = 0.12 + share * 0.76;
  if (side === 'left' || side === 'right') return { x: side === 'left' ? rect.x : rect.x + rect.w, y: rect.y + rect.h * part };
  return { x: rect.x + rect.w * part, y: side === 'top' ? rect.y : rect.y + rect.h };
}

function curve(from: Point, out: Side, to: Point, into: Side): Curve {
  const sideways = out === 'left' || out === 'right';
  // Back to the same side: the farther, the wider around.
  const far = out === into ? 40 + Math.abs(to.y - from.y) / 4 : sideways ? Math.abs(to.x - from.x) : Math.abs(to.y - from.y);
  const bend = Math.max(sideways ? 24 : 8, Math.min(160, far / 2));
  const away = (point: Point, side: Side) => ({
    x: point.x + (side === 'left' ? -bend : side === 'right' ? bend : 0),
    y: point.y + (side === 'top' ? -bend : side === 'bottom' ? bend : 0),
  });
  return [from, away(from, out), away(to, into), to];
}

export function pointAt([a, b, c, d]: Curve, t: number): Point {
  const s = 1 - t;
  const mix = (axis: 'x' | 'y') => s * s * s * a[axis] + 3 * s * s * t * b[axis] + 3 * s * t * t * c[axis] + t * t * t * d[axis];
  return { x: mix('x'), y: mix('y') };
}

/** The uppermost box at a point: what is in a frame lies on it. */
export function boxAt(point: Point, boxes: readonly { id: string }[], rects: ReadonlyMap<string, Rect>): string | undefined {
  for (let at = boxes.length - 1; at >= 0; at -= 1) {
    const id = boxes[at]?.id ?? '';
    const rect = rects.get(id);
    if (rect && point.x >= rect.x && point.x <= rect.x + rect.w && point.y >= rect.y && point.y <= rect.y + rect.h) return id;
  }
  return undefined;
}

/** The nearest line that is not farther than `reach`. */
export function lineAt(point: Point, all: ReadonlyMap<string, Curve>, reach: number): string | undefined {
  let [nearest, found] = [reach, undefined as string | undefined];
  for (const [id, curve] of all) {
    const [xs, ys] = [curve.map((one) => one.x), curve.map((one) => one.y)];
    if (point.x < Math.min(...xs) - reach || point.x > Math.max(...xs) + reach || point.y < Math.min(...ys) - reach || point.y > Math.max(...ys) + reach) continue;
    let before = curve[0];
    for (let step = 1; step <= 24; step += 1) {
      const next = pointAt(curve, step / 24);
      const distance = toSegment(point, before, next);
      if (distance <= nearest) [nearest, found] = [distance, id];
      before = next;
    }
  }
  return found;
}

function toSegment(point: Point, a: Point, b: Point): number {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const long = dx * dx + dy * dy;
  const t = long === 0 ? 0 : Math.max(0, Math.min(1, ((point.x - a.x) * dx + (point.y - a.y) * dy) / long));
  return Math.hypot(point.x - a.x - t * dx, point.y - a.y - t * dy);
}

/** What holds all of them. */
export function bounds(rects: Iterable<Rect>): Rect | undefined {
  let found: Rect | undefined;
  for (const { x, y, w, h } of rects) {
    if (!found) found = { x, y, w, h };
    else {
      const [right, bottom] = [Math.max(found.x + found.w, x + w), Math.max(found.y + found.h, y + h)];
      found = { x: Math.min(found.x, x), y: Math.min(found.y, y), w: 0, h: 0 };
      [found.w, found.h] = [right - found.x, bottom - found.y];
    }
  }
  return found;
}

export interface Screen {
  w: number;
  h: number;
}

const MARGIN = 28;
/** Text that is smaller is not read; far away names are larger. */
export const READABLE = 0.62;
export const FAR = 0.58;
export const LEAST = 0.34;

/** All of it, if it can be read then; or else what is around `middle`, where `least` is how small that may be, or the upper left. */
export function fit(all: Rect, screen: Screen, middle?: Rect, least = middle ? READABLE : LEAST): Camera {
  const whole = Math.min((screen.w - 2 * MARGIN) / Math.max(1, all.w), (screen.h - 2 * MARGIN) / Math.max(1, all.h), 1.15);
  const k = Math.max(whole, least);
  const along = (start: number, size: number, room: number, from: number, length: number) => {
    if (size * k <= room - 2 * MARGIN + 1) return room / 2 - (start + size / 2) * k;
    // Not beyond the ends of what there is.
    const wanted = room / 2 - (from + length / 2) * k;
    return Math.max(room - MARGIN - (start + size) * k, Math.min(MARGIN - start * k, wanted));
  };
  const to = middle ?? { ...all, w: 0, h: 0 };
  return { k, x: along(all.x, all.w, screen.w, to.x, to.w), y: along(all.y, all.h, screen.h, to.y, to.h) };
}

export function zoomed(camera: Camera, by: number, at: Point): Camera {
  const k = Math.max(SMALLEST, Math.min(LARGEST, camera.k * by));
  return { k, x: at.x - ((at.x - camera.x) * k) / camera.k, y: at.y - ((at.y - camera.y) * k) / camera.k };
}

export const toMap = (camera: Camera, { x, y }: Point): Point => ({ x: (x - camera.x) / camera.k, y: (y - camera.y) / camera.k });

/** As little moved as needed for a rectangle to be seen. */
export function seeing(camera: Camera, rect: Rect, screen: Screen): Camera {
  const along = (at: number, size: number, offset: number, room: number) => {
    const [from, to] = [at * camera.k + offset, (at + size) * camera.k + offset];
    if (from < MARGIN) return offset + MARGIN - from;
    return to > room - MARGIN ? offset - Math.min(to - room + MARGIN, from - MARGIN) : offset;
  };
  return { k: camera.k, x: along(rect.x, rect.w, camera.x, screen.w), y: along(rect.y, rect.h, camera.y, screen.h) };
}
