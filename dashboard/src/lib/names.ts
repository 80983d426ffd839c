import type { End } from './types';

/** Classes of what is no workload of the mesh, in words. */
const CLASSES: Record<string, string> = {
  internet: 'outside of the cluster',
  'cluster-unmeshed': 'pods without sidecar',
  node: 'a node',
  unknown: 'nobody was reached',
  other: 'others, beyond the budget of series',
};

export const keyOf = (end: End) => `${end.namespace}/${end.name}`;
export const isWorkload = (end: End) => end.namespace !== '';
export const nameOf = (end: End) => (isWorkload(end) ? keyOf(end) : end.name);
export const classOf = (end: End) => (isWorkload(end) ? undefined : CLASSES[end.name]);

/** HOST:PORT of the cluster as people write it: `reviews.shop:80`. */
export const serviceOf = (service: string) => service.replace(/\.svc\.[^:]*(?=:\d+$|$)/, '');

/** KIND/NAMESPACE/NAME#RULE in words. */
export function objectOf(reference: string): string {
  const [kind = '', namespace, ...rest] = reference.split('/');
  const name = rest.join('/');
  const [object, rule] = name.split('#', 2);
  if (!namespace || !object) return reference;
  return `${kind} ${namespace}/${object}${rule === undefined ? '' : ` rule ${rule}`}`;
}
