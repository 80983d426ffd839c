import { asks } from '../lib/api';
import { as } from '../lib/view';

export const me = as((_: object) => asks.me());
export const mesh = as((_: object) => asks.mesh());
export const policies = as((params: { namespace?: string }) => asks.policies(params.namespace));
