import type { ViewOf } from './lib/view';
import { map } from './map/view';
import { me, mesh, policies } from './views/mesh';
import { now } from './views/now';
import { release, releaseOf, releases, releasesNow } from './views/releases';
import { chart, routes, service } from './views/service';
import { workloads } from './views/workloads';

/** All views by name: a page asks for one by `feed`. */
export const views = { me, now, workloads, service, routes, chart, mesh, policies, map, releases, release, releaseOf, releasesNow };

export type ViewName = keyof typeof views;
export type ParamsOf<N extends ViewName> = (typeof views)[N] extends ViewOf<infer P, infer _> ? P : never;
export type ValueOf<N extends ViewName> = (typeof views)[N] extends ViewOf<infer _, infer T> ? T : never;
