/** The whole mesh: a box for each namespace, or a frame with its workloads where it is open. */
import { boxOf, fold, foldedName, grouped, MOST, weighed, workloadBox } from './boxes';
import { bundle } from './bundle';
import { groupOf, isClass, type Box, type Graph, type Node, type Scene } from './model';

/** Lines, without those with a problem, that one can still follow with the eye: for each box. */
const LINES_PER_BOX = 1.25;
const LINES_AT_LEAST = 48;
/** So few workloads are shown at once: a box that says "8 workloads" would say less than the 8. */
const FEW = 24;

export interface Asked {
  /** Namespaces that are open; undefined: all if they are few, or none. */
  open: string[] | undefined;
  /** The box that is looked at: all its lines are drawn. */
  at: string | undefined;
}

/** `before`: ids of boxes and lines that were shown last. */
export function scene(graph: Graph, asked: Asked, before: ReadonlySet<string>): Scene {
  const groups = grouped(graph.nodes.values(), (node) => groupOf(node.id));
  const classes = groups.get('/') ?? [];
  groups.delete('/');
  const open = opened(graph, asked, groups);
  const place = new Map<string, string>();
  const boxes = [...outer(groups, classes, open, before, place), ...inner(groups, open, classes.length, before, place)];
  const parents = new Set(boxes.filter((box) => box.kind === 'frame').map((box) => box.id));
  const most = Math.max(LINES_AT_LEAST, Math.round((boxes.length - parents.size) * LINES_PER_BOX));
  const bundled = bundle(graph.links, (id) => place.get(id) ?? '', most, asked.at, before);
  return { boxes: inOrder(boxes), ...bundled, beyond: 0, nodes: graph.nodes.size, links: graph.links.length };
}

/** As many of those that are to be open as leave room for one box each. */
function opened({ nodes }: Graph, { open }: Asked, groups: Map<string, Node[]>): Set<string> {
  const wanted = open ? open.map((name) => `${name}/`) : nodes.size <= FEW ? [...groups.keys()] : [];
  return new Set(wanted.filter((id) => groups.has(id)).slice(0, Math.floor(MOST / 3)));
}

/** Boxes of namespaces and classes, and frames. Writes into `place` who is in them. */
function outer(groups: Map<string, Node[]>, classes: Node[], open: ReadonlySet<string>, before: ReadonlySet<string>, place: Map<string, string>): Box[] {
  const closed = [...groups].map(([id, nodes]) => ({ nodes, box: boxOf(open.has(id) ? 'frame' : 'group', id, id.slice(0, -1), '', nodes) }));
  const others = classes.map((node) => ({ nodes: [node], box: workloadBox(node, '') }));
  // A frame needs at least one box more.
  const { shown, folded } = fold([...closed, ...others], ({ box }) => weighed(box), MOST - open.size, before, (id) => open.has(id) || isClass(id));
  for (const { box, nodes } of shown) for (const node of nodes) place.set(node.id, box.id);
  const boxes = shown.map(({ box }) => box);
  if (folded.length === 0) return boxes;
  const nodes = folded.flatMap((one) => one.nodes);
  for (const node of nodes) place.set(node.id, '*');
  return [...boxes, boxOf('fold', '*', `${foldedName(nodes)} in ${folded.length} namespaces`, '', nodes)];
}

/** Workloads in frames, which share what room there is: who needs less leaves it to the others. */
function inner(groups: Map<string, Node[]>, open: ReadonlySet<string>, classes: number, before: ReadonlySet<string>, place: Map<string, string>): Box[] {
  let room = MOST - Math.min(MOST - open.size, groups.size + classes);
  const frames = [...open].map((id) => ({ id, nodes: groups.get(id) ?? [] })).sort((a, b) => a.nodes.length - b.nodes.length || (a.id < b.id ? -1 : 1));
  return frames.flatMap(({ id, nodes }, at) => {
    const { shown, folded } = fold(nodes, weighed, Math.floor(room / (frames.length - at)), before, () => false);
    const boxes = shown.map((node) => workloadBox(node, id));
    for (const node of shown) place.set(node.id, node.id);
    for (const node of folded) place.set(node.id, `${id}*`);
    if (folded.length > 0) boxes.push(boxOf('fold', `${id}*`, foldedName(folded), id, folded));
    room -= boxes.length;
    return boxes;
  });
}

/** Always the same, frames before what is in them. */
export function inOrder(boxes: Box[]): Box[] {
  return boxes.sort((a, b) => Number(b.kind === 'frame') - Number(a.kind === 'frame') || (a.id < b.id ? -1 : 1));
}
