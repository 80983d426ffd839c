import { asks } from '../lib/api';
import { as, few } from '../lib/view';

export const now = as((params: { window: number }, size) => asks.stat({ window: params.window, watch: few(size) }));
