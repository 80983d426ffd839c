import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

import { isAnswer, respond } from './fixtures/server.mjs';

/** While one works on it: figures of a real control plane (TULLE_SOCKET: its admin socket), and of fixtures what that has not. */
const telemetry: Plugin = {
  name: 'telemetry',
  configureServer(server) {
    server.middlewares.use((request, response, next) => {
      if (!isAnswer(new URL(request.url ?? '/', 'http://localhost').pathname)) return next();
      respond(request, response).catch(next);
    });
  },
};

export default defineConfig({
  base: './',
  plugins: [svelte(), telemetry],
  worker: { format: 'es' },
  server: { open: false },
  build: {
    // The oldest with light-dark().
    target: ['chrome123', 'firefox121', 'safari17.5'],
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    // `build` does it: the folder itself stays.
    emptyOutDir: false,
    reportCompressedSize: false,
    rolldownOptions: { checks: { pluginTimings: false } },
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
} as Parameters<typeof defineConfig>[0]);
