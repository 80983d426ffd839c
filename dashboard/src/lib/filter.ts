/**
 * What is typed above a table: `ns:shop p99>200ms ok<99.9 review`. All that is said must hold; a word is a part of the name; a
 * minus before it turns it round. A figure that is not known fulfils no comparison.
 */

/** What a row can be asked for. */
export interface Fields {
  /** NAMESPACE/NAME. */
  name: string;
  texts: Record<string, string>;
  figures: Record<string, number | undefined>;
}

/** A figure's unit, which decides how its value is written. */
export type Unit = 'seconds' | 'percent' | 'number';

/** Names of texts and figures that there are. */
export interface Columns {
  texts: Record<string, string>;
  figures: Record<string, { unit: Unit; what: string }>;
}

export interface Filter {
  matches(row: Fields): boolean;
  /** What was not understood; it does not count. */
  problems: string[];
  /** Nothing was asked for. */
  all: boolean;
}

type Test = (row: Fields) => boolean;

const COMPARISON = /^([a-z0-9]+)(>=|<=|>|<|=)(.*)$/i;

export function readFilter(text: string, columns: Columns): Filter {
  const tests: Test[] = [];
  const problems: string[] = [];
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const negated = word.startsWith('-') && word.length > 1;
    const said = negated ? word.slice(1) : word;
    const test = readWord(said, columns);
    if (typeof test === 'string') problems.push(test);
    else tests.push(negated ? (row) => !test(row) : test);
  }
  return { matches: (row) => tests.every((test) => test(row)), problems, all: tests.length === 0 };
}

function readWord(said: string, columns: Columns): Test | string {
  const compared = COMPARISON.exec(said);
  if (compared) {
    const [, name = '', operator = '', value = ''] = compared;
    return comparison(name.toLowerCase(), operator, value, columns);
  }
  const colon = said.indexOf(':');
  if (colon > 0) {
    const [name, value] = [said.slice(0, colon).toLowerCase(), said.slice(colon + 1).toLowerCase()];
    if (!Object.hasOwn(columns.texts, name)) return `${name}: there is no such word; there are ${list(columns.texts)}`;
    // While one types: nothing is said yet.
    return value === '' ? () => true : (row) => wild(value, row.texts[name]?.toLowerCase() ?? '');
  }
  const part = said.toLowerCase();
  return (row) => row.name.toLowerCase().includes(part);
}

function comparison(name: string, operator: string, value: string, columns: Columns): Test | string {
  const column = Object.hasOwn(columns.figures, name) ? columns.figures[name] : undefined;
  if (!column) return `${name}: there is no such figure; there are ${list(columns.figures)}`;
  if (value === '') return `${name}${operator} what? For example ${name}${operator}${EXAMPLES[column.unit]}`;
  const bound = readValue(value, column.unit);
  if (bound === undefined) return `${name}${operator}${value}: write it as ${name}${operator}${EXAMPLES[column.unit]}`;
  const compare = OPERATORS[operator];
  return (row) => {
    const figure = row.figures[name];
    return figure !== undefined && compare !== undefined && compare(figure, bound);
  };
}

const EXAMPLES: Record<Unit, string> = { seconds: '200ms', percent: '99.9', number: '10' };
const OPERATORS: Record<string, (a: number, b: number) => boolean> = {
  '>': (a, b) => a > b,
  '<': (a, b) => a < b,
  '>=': (a, b) => a >= b,
  '<=': (a, b) => a <= b,
  '=': (a, b) => a === b,
};
const SCALES: Record<Unit, Record<string, number>> = {
  seconds: { us: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600, '': 1 },
  percent: { '%': 1, '': 1 },
  number: { k: 1e3, m: 1e6, '': 1 },
};

function readValue(text: string, unit: Unit): number | undefined {
  const [, number, suffix = ''] = /^(\d+(?:\.\d+)?|\.\d+)([a-z%]*)$/i.exec(text) ?? [];
  const scale = SCALES[unit][suffix.toLowerCase()];
  return number === undefined || scale === undefined ? undefined : Number(number) * scale;
}

/** Whole, or with `*` for anything. */
function wild(pattern: string, text: string): boolean {
  if (!pattern.includes('*')) return pattern === text;
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop() ?? '';
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
  let [from, to] = [first.length, text.length - last.length];
  for (const part of rest) {
    const at = text.indexOf(part, from);
    if (at < 0 || at + part.length > to) return false;
    from = at + part.length;
  }
  return true;
}

const list = (names: object) => Object.keys(names).join(', ');
