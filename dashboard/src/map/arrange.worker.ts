/** dagre takes up to a second for a large map: here nobody waits for it. */
import { arrange, type Job } from './arrange';

self.onmessage = ({ data }: MessageEvent<Job[]>) => self.postMessage(data.map(arrange));
