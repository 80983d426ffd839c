/** Pictures of each page, for documents and for whoever looks at them before a release. */
import { createServer } from 'node:http';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { isAnswer, respond } from '../../dashboard/fixtures/server.mjs';
import { open } from './browser.mjs';
import { until } from './check.mjs';
import { goTo, settled } from './pages.mjs';
import { serveFile } from './server.mjs';

/** Which are in documents: all, with ALL=1. */
const KEPT = new Set(['now-1440-light', 'now-360-light', 'map-1440-light', 'map-open-1440-light', 'map-focus-1440-dark', 'map-focus-360-dark', 'service-1440-light', 'service-360-light', 'releases-1440-light', 'release-1440-dark', 'release-360-light']);

/** Pages of the small mesh that has something of everything, and of the large one. */
const SMALL = { now: '#/now', workloads: '#/workloads', service: '#/service/identity/catalog', 'service-calls': '#/service/identity/catalog?tab=calls', 'service-tap': '#/service/identity/catalog?tab=tap', releases: '#/releases', release: '#/release/shop/reviews', 'release-held': '#/release/shop/catalog', mesh: '#/mesh' };
const LARGE = ['map', 'map-open', 'map-focus', 'map-table'];

export async function screenshots(browser, server, folder) {
  if (!folder) throw new Error('into which folder? tests/dashboard/run screenshots docs/images');
  const into = join(new URL('../../', import.meta.url).pathname, folder);
  await mkdir(into, { recursive: true });
  const small = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const served = isAnswer(pathname) ? respond(request, response) : serveFile(response, pathname);
    served.catch(() => response.writeHead(404).end());
  });
  await new Promise((resolve) => small.listen(0, '127.0.0.1', resolve));
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1440, 360]) {
      const { page, context } = await open(browser, { width, colorScheme, reducedMotion: 'reduce', deviceScaleFactor: width === 360 ? 2 : 1 });
      const shot = async (name) => {
        const file = `${name}-${width}-${colorScheme}`;
        if (!process.env.ALL && !KEPT.has(file)) return;
        await page.evaluate(() => document.fonts.ready);
        await page.screenshot({ path: join(into, `${file}.png`) });
      };
      for (const [name, hash] of Object.entries(SMALL)) {
        await page.goto(`http://127.0.0.1:${small.address().port}/dashboard/${hash}`);
        await settled(page);
        await shot(name);
      }
      for (const name of LARGE) {
        await goTo(page, server.base, name);
        const wanted = { 'map-focus': 'Workload search/checkout', 'map-open': 'Namespace search:' }[name];
        if (wanted && width > 800) {
          await page.locator('.stage').focus();
          // At its end one begins anew: it may still be the map of before.
          let last;
          await until(wanted, async () => {
            const label = await page.locator('#map-at').getAttribute('aria-label', { timeout: 1000 }).catch(() => '');
            if (!label.startsWith(wanted)) await page.keyboard.press(label === last ? 'Home' : 'PageDown');
            last = label;
            return label;
          }, (label) => label.startsWith(wanted));
          await page.locator('h1').click();
        }
        if (name !== 'map-table') await page.locator('[data-still="true"]').waitFor();
        await shot(name);
      }
      await context.close();
    }
  }
  await new Promise((resolve) => (small.close(resolve), small.closeAllConnections()));
  for (const name of (await readdir(into)).filter((one) => one.endsWith('.png')).sort()) console.log(`${String((await stat(join(into, name))).size).padStart(8)}  ${folder}/${name}`);
}
