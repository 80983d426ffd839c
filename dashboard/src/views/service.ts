import { asks, type Of } from '../lib/api';
import { as } from '../lib/view';

export const service = as((params: Of) => asks.stat({ ...params, watch: true }));
