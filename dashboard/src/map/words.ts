/** Boxes and lines in words: for the table, for whoever listens, and beside the map. */
import { classOf } from '../lib/names';
import { count, few, percent, rate, time } from '../lib/units';
import { byState, standsFor } from './boxes';
import { okOf, type Box, type Figures, type Line, type Scene, type State } from './model';

export const STATE_WORDS: Record<State, string> = { bad: 'fails', warn: 'worth a look', unknown: 'not known', good: 'well', quiet: 'without traffic' };
const KINDS: Record<Box['kind'], string> = { group: 'Namespace', frame: 'Namespace', workload: 'Workload', class: 'Outside of the mesh', fold: 'Folded' };

export const kindOf = (box: Box) => KINDS[box.kind];

export function traffic({ rps, connections }: Figures): string {
  if (rps > 0) return `${rate(rps)} req/s`;
  return connections > 0 ? `${rate(connections)} conn/s` : 'no traffic';
}

/** Percent that failed; empty if none. */
export function failed(figures: Figures): string {
  const ok = okOf(figures);
  return ok === undefined || ok >= 100 ? '' : `${few(100 - ok)} % fail`;
}

/** What is wrong with a line, or how much goes there. */
export function lineSays(line: Line): string {
  const wrong = [line.state === 'bad' || line.state === 'warn' ? failed(line.figures) : '', line.figures.plain > 0 ? 'plaintext' : ''].filter(Boolean);
  return wrong.length > 0 ? wrong.join(' · ') : traffic(line.figures);
}

export const isWrong = (line: Line) => line.state === 'bad' || line.state === 'warn' || line.figures.plain > 0;

/** `11 workloads: 1 fails, 2 worth a look`. */
export function stands(box: Box): string {
  const all = standsFor(box);
  const wrong = byState(box.counts).filter(([state]) => state === 'bad' || state === 'warn');
  const how = wrong.map(([state, number]) => (state === 'bad' ? `${number} ${number === 1 ? 'fails' : 'fail'}` : `${number} worth a look`));
  return `${count(all, 'workload')}${how.length > 0 ? `: ${how.join(', ')}` : ''}`;
}

/** Namespace and name, wherever the box stands. */
export const fullName = (box: Box) => (box.kind === 'workload' ? box.id : box.name);

export function boxSays(box: Box, scene: Scene): string {
  const [callers, callees] = [scene.lines.filter((line) => line.to === box.id), scene.lines.filter((line) => line.from === box.id)];
  const { figures, kind } = box;
  const parts = [
    kind === 'class' ? (classOf({ namespace: '', name: box.name }) ?? '') : '',
    kind === 'workload' ? STATE_WORDS[box.state] : kind === 'class' ? '' : stands(box),
    traffic(figures),
    failed(figures),
    figures.p99 === undefined ? '' : `p99 ${kind === 'workload' ? '' : 'at most '}${time(figures.p99)}`,
    ...(kind === 'workload' ? box.why.slice(0, 2) : []),
    callers.length > 0 ? count(callers.length, 'caller') : '',
    callees.length > 0 ? `calls ${callees.length}` : '',
  ];
  return `${kindOf(box)} ${fullName(box)}: ${parts.filter(Boolean).join(', ')}.`;
}

/** Percent by mTLS of what came; empty if nothing did. */
export function secured({ plain, rps, connections }: Figures): string {
  const all = rps + connections;
  return all > 0 ? `${percent(100 * (1 - plain / all))} %` : '–';
}

/** What is not drawn, and why. */
export function foldedSays(scene: Scene): string {
  const parts = [
    scene.inside > 0 ? `${count(scene.inside, 'call')} inside of boxes` : '',
    scene.folded > 0 ? `${count(scene.folded, 'call')} of less traffic, drawn when you come to one of their ends` : '',
    scene.beyond > 0 ? `${count(scene.beyond, 'call')} farther away` : '',
  ].filter(Boolean);
  return parts.length > 0 ? `Not drawn: ${parts.join('; ')}.` : '';
}
