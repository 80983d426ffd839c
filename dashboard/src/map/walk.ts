/** From box to box by keys: along the calls to the left and right, to whatever is nearest up and down. */
import { busy, type Line, type Rect, type Scene } from './model';

export type Way = 'left' | 'right' | 'up' | 'down' | 'next' | 'back' | 'first' | 'last';

export function step(scene: Scene, rects: ReadonlyMap<string, Rect>, at: string | undefined, way: Way): string | undefined {
  const order = reading(scene, rects);
  const here = at === undefined ? -1 : order.indexOf(at);
  if (here < 0) return way === 'last' ? order.at(-1) : order[0];
  if (way === 'first') return order[0];
  if (way === 'last') return order.at(-1);
  if (way === 'next' || way === 'back') return order[Math.max(0, Math.min(order.length - 1, here + (way === 'next' ? 1 : -1)))];
  if (way === 'left' || way === 'right') return along(scene.lines, rects, at ?? '', way) ?? nearest(rects, at ?? '', order, way) ?? at;
  return nearest(rects, at ?? '', order, way) ?? at;
}

/** As one reads, from left to right and down; a frame before what is in it. */
export function reading(scene: Scene, rects: ReadonlyMap<string, Rect>): string[] {
  const placed = scene.boxes.filter((box) => rects.has(box.id));
  const byPlace = (parent: string) =>
    placed.filter((box) => box.parent === parent).sort((a, b) => {
      const [one, other] = [rects.get(a.id), rects.get(b.id)];
      return one && other ? one.x - other.x || one.y - other.y || (a.id < b.id ? -1 : 1) : 0;
    });
  return byPlace('').flatMap((box) => (box.kind === 'frame' ? [box, ...byPlace(box.id)] : [box])).map((box) => box.id);
}

/** The busiest call that goes or comes there. */
function along(lines: readonly Line[], rects: ReadonlyMap<string, Rect>, at: string, way: 'left' | 'right'): string | undefined {
  const ends = lines.filter((line) => (way === 'right' ? line.from : line.to) === at && rects.has(way === 'right' ? line.to : line.from));
  ends.sort((a, b) => busy(b.figures) - busy(a.figures) || (a.id < b.id ? -1 : 1));
  const [first] = ends;
  return first && (way === 'right' ? first.to : first.from);
}

function nearest(rects: ReadonlyMap<string, Rect>, at: string, order: readonly string[], way: 'left' | 'right' | 'up' | 'down'): string | undefined {
  const from = rects.get(at);
  if (!from) return undefined;
  const sideways = way === 'left' || way === 'right';
  let [least, found] = [Infinity, undefined as string | undefined];
  for (const id of order) {
    const to = rects.get(id);
    if (!to || id === at) continue;
    const [dx, dy] = [to.x + to.w / 2 - from.x - from.w / 2, to.y + to.h / 2 - from.y - from.h / 2];
    const ahead = way === 'left' ? -dx : way === 'right' ? dx : way === 'up' ? -dy : dy;
    if (ahead <= 0) continue;
    // Straight on before aside.
    const distance = ahead + 3 * Math.abs(sideways ? dy : dx);
    if (distance < least) [least, found] = [distance, id];
  }
  return found;
}
