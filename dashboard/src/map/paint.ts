/** Shapes on a canvas, and in an SVG. */
import type { Camera } from './geometry';
import type { Rect } from './model';
import type { Colour, Measure, Shape } from './shapes';

export type Palette = Record<Colour, string>;

export const COLOURS: Colour[] = ['ground', 'panel', 'hover', 'line', 'line-strong', 'ink', 'muted', 'accent', 'accent-soft', 'warn', 'warn-soft', 'bad', 'bad-soft'];

export function measureOn(context: CanvasRenderingContext2D, family: string): Measure {
  const known = new Map<string, number>();
  return (text, size, weight) => {
    const key = `${weight} ${text}`;
    let width = known.get(key);
    if (width === undefined) {
      context.font = `${weight} 100px ${family}`;
      width = context.measureText(text).width / 100;
      // Figures change all the time; names do not.
      if (known.size > 4000) known.clear();
      known.set(key, width);
    }
    return width * size;
  };
}

export function paint(context: CanvasRenderingContext2D, all: readonly Shape[], camera: Camera, pixels: number, palette: Palette, family: string): void {
  const { width, height } = context.canvas;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  const k = camera.k * pixels;
  context.setTransform(k, 0, 0, k, camera.x * pixels, camera.y * pixels);
  context.lineJoin = 'round';
  context.textBaseline = 'middle';
  for (const shape of all) one(context, shape, palette, family, { k, x: camera.x * pixels, y: camera.y * pixels });
}

function one(context: CanvasRenderingContext2D, shape: Shape, palette: Palette, family: string, whole: Camera): void {
  switch (shape.is) {
    case 'rect': {
      const { rect, round, fill, stroke, width, dash } = shape;
      context.beginPath();
      context.roundRect(rect.x, rect.y, rect.w, rect.h, round);
      if (fill) [context.fillStyle] = [palette[fill]];
      if (fill) context.fill();
      if (!stroke) return;
      context.strokeStyle = palette[stroke];
      context.lineWidth = width ?? 1;
      context.setLineDash(dash ?? []);
      context.stroke();
      return;
    }
    case 'curve': {
      const [a, b, c, d] = shape.curve;
      context.beginPath();
      context.moveTo(a.x, a.y);
      context.bezierCurveTo(b.x, b.y, c.x, c.y, d.x, d.y);
      context.strokeStyle = palette[shape.stroke];
      context.lineWidth = shape.width;
      context.globalAlpha = shape.shade;
      context.setLineDash(shape.dash);
      context.stroke();
      context.globalAlpha = 1;
      return;
    }
    case 'tip': {
      context.beginPath();
      for (const [at, { x, y }] of tip(shape).entries()) at === 0 ? context.moveTo(x, y) : context.lineTo(x, y);
      context.closePath();
      context.fillStyle = palette[shape.fill];
      context.globalAlpha = shape.shade;
      context.fill();
      context.globalAlpha = 1;
      return;
    }
    case 'sign': {
      const scale = shape.size / 24;
      context.setTransform(whole.k * scale, 0, 0, whole.k * scale, whole.x + shape.at.x * whole.k, whole.y + shape.at.y * whole.k);
      context.strokeStyle = palette[shape.stroke];
      context.lineWidth = 2.2;
      context.lineCap = 'round';
      context.setLineDash([]);
      context.stroke(pathOf(shape.path));
      context.lineCap = 'butt';
      context.setTransform(whole.k, 0, 0, whole.k, whole.x, whole.y);
      return;
    }
    case 'text':
      context.font = `${shape.weight} ${shape.size}px ${family}`;
      context.textAlign = shape.anchor === 'start' ? 'left' : shape.anchor === 'end' ? 'right' : 'center';
      context.fillStyle = palette[shape.fill];
      context.fillText(shape.text, shape.at.x, shape.at.y + shape.size * 0.04);
  }
}

const paths = new Map<string, Path2D>();
function pathOf(text: string): Path2D {
  const path = paths.get(text) ?? new Path2D(text);
  paths.set(text, path);
  return path;
}

function tip({ at, towards, size }: Extract<Shape, { is: 'tip' }>) {
  const angle = Math.atan2(at.y - towards.y, at.x - towards.x);
  const back = (turn: number) => ({ x: at.x - size * Math.cos(angle + turn), y: at.y - size * Math.sin(angle + turn) });
  return [at, back(0.45), back(-0.45)];
}

/** A file of its own, in the colours that are shown. */
export function svgOf(all: readonly Shape[], around: Rect, palette: Palette, family: string, title: string): string {
  const [x, y, w, h] = [around.x - 24, around.y - 24, around.w + 48, around.h + 48].map(Math.round);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${x} ${y} ${w} ${h}" width="${w}" height="${h}" role="img" font-family="${escaped(family)}">`,
    `<title>${escaped(title)}</title>`,
    `<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="${palette.ground}"/>`,
    ...all.map((shape) => element(shape, palette)),
    '</svg>',
    '',
  ].join('\n');
}

const number = (value: number) => String(Math.round(value * 100) / 100);
const escaped = (text: string) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

function element(shape: Shape, palette: Palette): string {
  switch (shape.is) {
    case 'rect': {
      const { rect, round, fill, stroke, width, dash } = shape;
      const line = stroke ? ` stroke="${palette[stroke]}" stroke-width="${width ?? 1}"${dash && dash.length > 0 ? ` stroke-dasharray="${dash.join(' ')}"` : ''}` : '';
      return `<rect x="${number(rect.x)}" y="${number(rect.y)}" width="${number(rect.w)}" height="${number(rect.h)}" rx="${number(round)}" fill="${fill ? palette[fill] : 'none'}"${line}/>`;
    }
    case 'curve': {
      const [a, ...rest] = shape.curve.map(({ x, y }) => `${number(x)} ${number(y)}`);
      return `<path d="M${a}C${rest.join(' ')}" fill="none" stroke="${palette[shape.stroke]}" stroke-width="${number(shape.width)}"${shape.dash.length > 0 ? ` stroke-dasharray="${shape.dash.join(' ')}"` : ''}${shape.shade < 1 ? ` opacity="${shape.shade}"` : ''}/>`;
    }
    case 'tip':
      return `<polygon points="${tip(shape).map(({ x, y }) => `${number(x)},${number(y)}`).join(' ')}" fill="${palette[shape.fill]}"${shape.shade < 1 ? ` opacity="${shape.shade}"` : ''}/>`;
    case 'sign':
      return `<path transform="translate(${number(shape.at.x)} ${number(shape.at.y)}) scale(${number(shape.size / 24)})" d="${shape.path}" fill="none" stroke="${palette[shape.stroke]}" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/>`;
    case 'text':
      return `<text x="${number(shape.at.x)}" y="${number(shape.at.y)}" dy="0.35em" font-size="${shape.size}" font-weight="${shape.weight}" fill="${palette[shape.fill]}"${shape.anchor === 'start' ? '' : ` text-anchor="${shape.anchor}"`}>${escaped(shape.text)}</text>`;
  }
}
