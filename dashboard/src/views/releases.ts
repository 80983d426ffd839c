import { asks, type Answer } from '../lib/api';
import { lately, lines, type Lines } from '../lib/curve';
import { isLetIn, isOf, isUnderWay, track, type Mark, type Release, type Releases } from '../lib/release';
import { known, view } from '../lib/view';

/** A release as the list shows it. */
export interface Row extends Pick<Release, 'namespace' | 'name' | 'phase' | 'reason' | 'before' | 'stable' | 'canary' | 'weight' | 'capped' | 'on' | 'of' | 'inForce'> {
  steps: number;
  /** In words: `step 2 of 3`; empty before the first, and at rest. */
  at: string;
  /** Percent that the canary gets. */
  gets: number;
  marks: Mark[];
}

/** Those under way, those that somebody has to see to, and the rest. */
export interface Listed {
  underWay: Row[];
  held: Row[];
  rest: Row[];
}

/** A release as its page shows it. */
export interface One {
  /** Without its curve; undefined: there is none of that name. */
  release: Release | undefined;
  lines: Lines | undefined;
  /** Requests per second to the canary, lately. */
  lately: number | undefined;
}

type Named = { namespace: string; name: string };

export const releases = view<object, [Releases], Listed>(
  () => [asks.releases({}, 2)],
  ([all]): Answer<Listed> => ('problem' in all ? all : { value: listed(all.value.items) }),
);

export const release = view<Named, [Releases], One>(
  (of) => [asks.releases(of, 1)],
  ([all]): Answer<One> => {
    if ('problem' in all) return all;
    const release = all.value.items[0];
    return { value: release ? shown(release) : { release, lines: undefined, lately: undefined } };
  },
);

/** Those that somebody may want to see on a page about all, if any are known of. */
export const releasesNow = view<object, [Releases], Row[]>(
  () => [asks.releases({}, 10)],
  ([all]) => {
    const { underWay, held } = listed(known(all)?.items ?? []);
    return { value: [...held, ...underWay] };
  },
);

/** The release of a workload, if it is known that there is one: who may not know is shown the workload all the same. */
export const releaseOf = view<Named & { kind: string }, [Releases], { release: Row | undefined }>(
  ({ namespace }) => [asks.releases({ namespace }, 3)],
  ([all], workload) => {
    const about = known(all)?.items.filter((one) => !one.before && isOf(one, workload));
    return { value: { release: about?.map(row)[0] } };
  },
);

export function shown(release: Release): One {
  return { release: { ...release, curve: [] }, lines: lines(release.curve), lately: lately(release.curve) };
}

/** In the order in which they come: by namespace and name. */
export function listed(items: readonly Release[]): Listed {
  const all = items.map(row);
  return { underWay: all.filter(isUnderWay), held: all.filter(({ phase }) => phase === 'Held'), rest: all.filter((one) => !isUnderWay(one) && one.phase !== 'Held') };
}

function row(release: Release): Row {
  const { namespace, name, phase, reason, stable, canary, step, weight, share, capped, on, of, inForce, steps } = release;
  const letIn = isLetIn(release);
  const at = letIn ? 'promotion' : isUnderWay(release) && step > 0 ? `step ${step} of ${steps.length}` : '';
  return { namespace, name, phase, reason, ...(release.before ? { before: release.before } : {}), stable, canary, weight, capped, on, of, inForce, steps: steps.length, at, gets: capped || letIn ? share : weight, marks: track(release) };
}
