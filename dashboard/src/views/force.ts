import { objectOf } from '../lib/names';
import type { Policy, Route, Signals } from '../lib/types';
import type { Service } from './service';

export interface InForce {
  policy: Policy;
  /** How it is known to be about the workload. */
  why: string;
}

/**
 * Which policies are about a workload, by what was seen: the Services it was called by, the rules that requests went by, what denied
 * some, and what is about its whole namespace or the mesh. What selects pods by their labels is not known here: it is in `others`.
 */
export function inForce(all: readonly Policy[], { namespace, name }: { namespace: string; name: string }, seen: Pick<Service, 'callers'>, routes: readonly Route[], signals: Signals): { about: InForce[]; others: Policy[] } {
  const services = new Set([`Service/${namespace}/${name}`]);
  for (const service of [...seen.callers, ...routes].map((one) => one.service)) {
    const [host, space] = (service ?? '').split(/[.:]/);
    if (host && space) services.add(`Service/${space}/${host}`);
  }
  const rules = new Set(routes.flatMap((route) => (route.route ? [route.route.split('#')[0] ?? ''] : [])));
  const deniers = new Map((signals.deniedBy ?? []).map((one) => [one.policy, one]));
  const about: InForce[] = [];
  const others: Policy[] = [];
  for (const policy of all) {
    const reference = `${policy.kind}/${policy.namespace}/${policy.name}`;
    const target = policy.targets.find((one) => services.has(one) || [...services].some((service) => one.startsWith(`${service}:`)) || rules.has(one.split('#')[0] ?? ''));
    const wide = policy.targets.find((one) => one === `Namespace/${namespace}` || one === `Namespace//${namespace}` || one === 'Mesh');
    const denied = deniers.get(reference);
    const why = denied ? `${denied.audit ? 'would have denied' : 'denied'} requests to it` : rules.has(reference) ? 'requests went by its rules' : target ? `is about ${objectOf(target)}` : wide ? `is about ${wide === 'Mesh' ? 'the mesh' : `namespace ${namespace}`}` : undefined;
    if (why) about.push({ policy, why });
    else if (policy.namespace === namespace) others.push(policy);
  }
  return { about, others };
}
