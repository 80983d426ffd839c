/** The map as plain shapes, which a canvas and an SVG draw alike. */
import { classOf } from '../lib/names';
import { time } from '../lib/units';
import { standsFor } from './boxes';
import { pointAt, type Curve } from './geometry';
import { busy, type Box, type Line, type Point, type Rect, type Scene, type State } from './model';
import { HEAD, overlap } from './places';
import { failed, isWrong, lineSays, traffic } from './words';

/** A colour of the style sheet. */
export type Colour = 'ground' | 'panel' | 'hover' | 'line' | 'line-strong' | 'ink' | 'muted' | 'accent' | 'accent-soft' | 'warn' | 'warn-soft' | 'bad' | 'bad-soft';

export type Shape =
  | { is: 'rect'; rect: Rect; round: number; fill?: Colour; stroke?: Colour; width?: number; dash?: number[] }
  | { is: 'curve'; curve: Curve; stroke: Colour; width: number; dash: number[]; shade: number }
  | { is: 'tip'; at: Point; towards: Point; size: number; fill: Colour; shade: number }
  | { is: 'sign'; path: string; at: Point; size: number; stroke: Colour }
  | { is: 'text'; at: Point; text: string; size: number; weight: number; fill: Colour; anchor: 'start' | 'middle' | 'end' };

export interface Seen {
  scene: Scene;
  rects: ReadonlyMap<string, Rect>;
  curves: ReadonlyMap<string, Curve>;
  /** The box that is looked at, and the box or line that is pointed at. */
  at: string | undefined;
  pointed: string | undefined;
  /** What is in focus. */
  focus: string | undefined;
  /** So small that only names can be read, and these only if they are larger. */
  far: boolean;
}

/** How wide a text is. */
export type Measure = (text: string, size: number, weight: number) => number;

const SIGNS: Partial<Record<State, string>> = {
  warn: 'M12 3.5L22 20.5H2L12 3.5ZM12 10v4.5M12 17.3v.2',
  bad: 'M8 2.5h8L21.5 8v8L16 21.5H8L2.5 16V8L8 2.5ZM8.8 8.8l6.4 6.4M15.2 8.8l-6.4 6.4',
};
/** How much is left of lines that nobody looks at, while somebody looks at others. */
const PALE = 0.2;
const MANY = 40;
const OPEN = 'M9 5l7 7-7 7';
const CLOSE = 'M5 9l7 7 7-7';

export function shapes(seen: Seen, measure: Measure): Shape[] {
  const { scene, rects } = seen;
  const [frames, boxes] = [scene.boxes.filter((box) => box.kind === 'frame'), scene.boxes.filter((box) => box.kind !== 'frame')];
  const of = (all: Box[], draw: (box: Box, rect: Rect) => Shape[]) =>
    all.flatMap((box) => {
      const rect = rects.get(box.id);
      return rect ? draw(box, rect) : [];
    });
  return [
    ...of(frames, (box, rect) => frame(box, rect, seen, measure)),
    ...lines(seen),
    ...of(boxes, (box, rect) => drawn(box, rect, seen, measure)),
    ...labels(seen, measure),
  ];
}

const toned = (state: State): Colour | undefined => (state === 'bad' ? 'bad' : state === 'warn' ? 'warn' : undefined);

function frame(box: Box, rect: Rect, seen: Seen, measure: Measure): Shape[] {
  const tone = toned(box.state);
  const ring: Shape[] = seen.at === box.id || seen.pointed === box.id ? [{ is: 'rect', rect, round: 12, stroke: 'accent', width: 2 }] : [];
  const says = `${standsFor(box)} workloads`;
  const size = seen.far ? 22 : 14;
  const name = cut(box.name, size, 650, rect.w - 60, measure);
  const room = rect.w - 76 - measure(name, size, 650);
  return [
    { is: 'rect', rect, round: 12, fill: 'hover', stroke: tone ?? 'line-strong', width: 1 },
    ...ring,
    { is: 'sign', path: CLOSE, at: { x: rect.x + 12, y: rect.y + HEAD / 2 - 7 }, size: 14, stroke: 'muted' },
    { is: 'text', at: { x: rect.x + 32, y: rect.y + HEAD / 2 }, text: name, size, weight: 650, fill: 'ink', anchor: 'start' },
    ...(room > measure(says, 12, 400) && !seen.far ? [{ is: 'text', at: { x: rect.x + rect.w - 36, y: rect.y + HEAD / 2 }, text: says, size: 12, weight: 400, fill: 'muted', anchor: 'end' } as const] : []),
    ...sign(box.state, rect.x + rect.w - 28, rect.y + HEAD / 2 - 8, 16),
  ];
}

const sign = (state: State, x: number, y: number, size: number): Shape[] => {
  const [path, stroke] = [SIGNS[state], toned(state)];
  return path && stroke ? [{ is: 'sign', path, at: { x, y }, size, stroke }] : [];
};

function drawn(box: Box, rect: Rect, seen: Seen, measure: Measure): Shape[] {
  const tone = toned(box.state);
  const [centre, chosen, pointed] = [seen.focus === box.id, seen.at === box.id, seen.pointed === box.id];
  const round = box.kind === 'class' || box.kind === 'fold' ? rect.h / 2 : 9;
  const behind: Shape[] = box.kind === 'group' ? [{ is: 'rect', rect: { ...rect, x: rect.x + 5, y: rect.y + 5 }, round, fill: 'hover', stroke: 'line-strong', width: 1 }] : [];
  const body: Shape = {
    is: 'rect',
    rect,
    round,
    fill: centre ? 'accent-soft' : box.state === 'bad' ? 'bad-soft' : box.state === 'warn' ? 'warn-soft' : box.context || box.kind === 'fold' ? 'ground' : 'panel',
    stroke: chosen || pointed || centre ? 'accent' : (tone ?? 'line-strong'),
    width: chosen || centre ? 2.5 : pointed ? 2 : tone ? 1.5 : 1,
    dash: box.kind === 'fold' || box.state === 'unknown' ? [5, 4] : [],
  };
  return [...behind, body, ...(seen.far ? big(box, rect, measure) : small(box, rect, measure))];
}

/** A name as large as the box lets it be, and how it stands. */
function big(box: Box, rect: Rect, measure: Measure): Shape[] {
  const wrong = SIGNS[box.state] !== undefined;
  const room = rect.w - 24 - (wrong ? 30 : 0);
  const name = box.kind === 'fold' ? box.name.replace(/,.*| in .*/, '') : box.name;
  const size = Math.max(15, Math.min(rect.h * 0.44, 29, (22 * room) / Math.max(1, measure(name, 22, 600))));
  return [
    { is: 'text', at: { x: rect.x + 12, y: rect.y + rect.h / 2 }, text: cut(name, size, 600, room, measure), size, weight: 600, fill: box.context ? 'muted' : 'ink', anchor: 'start' },
    ...sign(box.state, rect.x + rect.w - 34, rect.y + rect.h / 2 - 12, 24),
  ];
}

function small(box: Box, rect: Rect, measure: Measure): Shape[] {
  const left = rect.x + (box.kind === 'class' ? 20 : 12);
  const right = rect.x + rect.w - (box.kind === 'class' ? 20 : 12);
  const text = (y: number, text: string, size: number, weight: number, fill: Colour, room = right - left): Shape => ({ is: 'text', at: { x: left, y: rect.y + y }, text: cut(text, size, weight, room, measure), size, weight, fill, anchor: 'start' });
  if (box.kind === 'fold') return [text(rect.h / 2, box.name, 12.5, 500, 'muted')];
  const tone = toned(box.state);
  const ink: Colour = box.context ? 'muted' : 'ink';
  const named = (y: number): Shape[] => {
    const fails = box.kind === 'workload' && tone ? failed(box.figures).replace(' fail', '') : '';
    const wide = tone ? 20 + (fails ? measure(fails, 12, 600) + 4 : 0) : box.kind === 'group' ? 16 : 0;
    const slash = box.name.indexOf('/');
    const whole = cut(box.name, 14, 600, right - left - wide, measure);
    // Long names keep what tells them apart.
    const name = slash > 0 && whole !== box.name ? cut(box.name.slice(slash + 1), 14, 600, right - left - wide, measure) : whole;
    return [
      { is: 'text', at: { x: left, y: rect.y + y }, text: name, size: 14, weight: 600, fill: ink, anchor: 'start' },
      ...(fails && tone ? [{ is: 'text', at: { x: right - 20, y: rect.y + y }, text: fails, size: 12, weight: 600, fill: tone, anchor: 'end' } as const] : []),
      ...(box.kind === 'group' ? [{ is: 'sign', path: OPEN, at: { x: right - 10, y: rect.y + y - 6 }, size: 12, stroke: 'muted' } as const] : sign(box.state, right - 15, rect.y + y - 8, 16)),
    ];
  };
  if (box.kind === 'class') return [...named(18), text(35, classOf({ namespace: '', name: box.name }) ?? 'no workload of the mesh', 12, 400, 'muted')];
  if (box.kind === 'workload') {
    const p99 = box.figures.p99 === undefined ? '' : ` · p99 ${time(box.figures.p99)}`;
    return [...named(17), text(35, box.state === 'unknown' ? 'does not report' : `${traffic(box.figures)}${p99}`, 12, 400, 'muted')];
  }
  const { bad, warn, unknown } = box.counts;
  const how = [bad > 0 ? `${bad} ${bad === 1 ? 'fails' : 'fail'}` : '', warn > 0 ? `${warn} worth a look` : ''].filter(Boolean).join(' · ');
  const says = how || (unknown > 0 ? `${unknown} not known` : box.state === 'quiet' ? 'without traffic' : 'all well');
  const own = standsFor(box);
  return [
    ...named(18),
    text(36, `${own} ${own === 1 ? 'workload' : 'workloads'} · ${traffic(box.figures)}`, 12, 400, 'muted'),
    ...sign(box.state, left, rect.y + 45, 14),
    { is: 'text', at: { x: left + (tone ? 19 : 0), y: rect.y + 52.5 }, text: cut(says, 12, tone ? 600 : 400, right - left - 19, measure), size: 12, weight: tone ? 600 : 400, fill: tone ?? 'muted', anchor: 'start' },
  ];
}

/** As much of a text as there is room for. */
export function cut(text: string, size: number, weight: number, room: number, measure: Measure): string {
  if (measure(text, size, weight) <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (measure(`${text.slice(0, middle)}…`, size, weight) <= room) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

/** Ten times the traffic is as much wider each time. */
export const widthOf = (line: Line) => 1.1 + 1.1 * Math.log10(1 + busy(line.figures));

/** Colour is not all: long dashes fail, short ones are worth a look, dots are plaintext. */
export function dashOf(line: Line): number[] {
  const plain = line.figures.plain > 0;
  if (line.state === 'bad') return plain ? [10, 5, 2, 5] : [10, 5];
  if (line.state === 'warn') return plain ? [5, 4, 1.5, 4] : [5, 4];
  return plain ? [2, 4] : [];
}

const strokeOf = (line: Line): Colour => (line.state === 'bad' ? 'bad' : line.state === 'warn' || line.figures.plain > 0 ? 'warn' : 'line-strong');

function touched({ at, pointed }: Seen, line: Line): boolean {
  return [at, pointed].some((id) => id !== undefined && (line.from === id || line.to === id || line.id === id));
}

function lines(seen: Seen): Shape[] {
  // Among many lines those must be seen first that have a problem.
  const calm = seen.scene.lines.length > MANY ? 0.5 : 0.8;
  const some = seen.scene.lines.some((line) => touched(seen, line));
  const order = [...seen.scene.lines].sort((a, b) => Number(touched(seen, a)) - Number(touched(seen, b)) || Number(isWrong(a)) - Number(isWrong(b)));
  return order.flatMap((line): Shape[] => {
    const curve = seen.curves.get(line.id);
    if (!curve) return [];
    const [near, width] = [touched(seen, line), widthOf(line) * (seen.far ? 1.4 : 1)];
    const stroke = isWrong(line) ? strokeOf(line) : near ? 'accent' : 'line-strong';
    const shade = some && !near ? PALE : near || isWrong(line) ? 1 : calm;
    return [
      { is: 'curve', curve, stroke, width: near ? width + 0.6 : width, dash: dashOf(line), shade },
      { is: 'tip', at: curve[3], towards: pointAt(curve, 0.97), size: 6 + width, fill: stroke, shade },
    ];
  });
}

/** What is wrong is said at each line, if there is room; how much goes there, at those that are looked at. None lies on another, nor on a box. */
function labels(seen: Seen, measure: Measure): Shape[] {
  const size = seen.far ? 20 : 11.5;
  const done: Rect[] = seen.scene.boxes.flatMap((box) => (box.kind === 'frame' ? [] : (seen.rects.get(box.id) ?? [])));
  const order = [...seen.scene.lines].sort((a, b) => Number(touched(seen, b)) - Number(touched(seen, a)) || b.figures.badRate - a.figures.badRate || (a.id < b.id ? -1 : 1));
  return order.flatMap((line): Shape[] => {
    const [curve, near, wrong] = [seen.curves.get(line.id), touched(seen, line), isWrong(line)];
    if (!curve || (!near && !wrong)) return [];
    const text = lineSays(line);
    const [w, h] = [measure(text, size, 600) + size, size * 1.55];
    for (const t of [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8]) {
      const middle = pointAt(curve, t);
      const rect = { x: middle.x - w / 2, y: middle.y - h / 2, w, h };
      if (done.some((one) => overlap(one, rect))) continue;
      done.push(rect);
      const stroke = wrong ? strokeOf(line) : 'line-strong';
      return [
        { is: 'rect', rect, round: h / 2, fill: 'panel', stroke, width: 1 },
        { is: 'text', at: { x: middle.x, y: middle.y + 0.5 }, text, size, weight: 600, fill: wrong ? strokeOf(line) : 'ink', anchor: 'middle' },
      ];
    }
    return [];
  });
}
