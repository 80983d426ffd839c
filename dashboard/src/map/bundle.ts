/** Links between workloads become lines between boxes. */
import { stateOf } from './graph';
import { add, busy, none, STATES, type Line, type Link } from './model';

export interface Bundled {
  lines: Line[];
  /** Links with both ends in one box, and links of lines that are not drawn. */
  inside: number;
  folded: number;
}

/**
 * `boxOf` names the box of a workload. All lines that touch `at` are drawn; then, until there are `most`, those that have a
 * problem and those that are `worth` it, first what was drawn `before`, then the busiest.
 */
export function bundle(links: readonly Link[], boxOf: (id: string) => string, most: number, at: string | undefined, before: ReadonlySet<string>, worth: (line: Line) => boolean = () => true): Bundled {
  const found = new Map<string, Line>();
  let inside = 0;
  for (const link of links) {
    const [from, to] = [boxOf(link.from), boxOf(link.to)];
    if (from === to) {
      inside += 1;
      continue;
    }
    const id = `${from}>${to}`;
    const line = found.get(id) ?? { id, from, to, links: 0, state: 'quiet', figures: none() };
    line.links += 1;
    add(line.figures, link.figures);
    found.set(id, line);
  }
  const lines = [...found.values()];
  for (const line of lines) line.state = stateOf(line.figures, 'quiet');
  const rank = (line: Line) => (line.from === at || line.to === at ? 0 : line.state === 'bad' ? 1 : line.figures.plain > 0 || line.state === 'warn' ? 2 : !worth(line) ? 5 : before.has(line.id) ? 3 : 4);
  const ranked = lines.map((line) => ({ line, rank: rank(line) })).sort((a, b) => a.rank - b.rank || STATES.indexOf(a.line.state) - STATES.indexOf(b.line.state) || busy(b.line.figures) - busy(a.line.figures) || (a.line.id < b.line.id ? -1 : 1));
  const ranks = (below: number) => ranked.filter((one) => one.rank < below).length;
  const shown = Math.max(ranks(1), Math.min(most, ranks(5)));
  const drawn = ranked.slice(0, shown).map(({ line }) => line);
  const folded = ranked.slice(shown).reduce((sum, { line }) => sum + line.links, 0);
  // Always in the same order, so that what is drawn last does not change.
  return { lines: drawn.sort((a, b) => (a.id < b.id ? -1 : 1)), inside, folded };
}
