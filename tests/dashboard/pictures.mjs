/** Pictures of the dashboard of a mesh that runs, the sample's: each page has figures, and complains of nothing. */
import { join } from 'node:path';

import { open } from './browser.mjs';
import { until } from './check.mjs';
import { settled } from './pages.mjs';

const PAGES = { now: '#/now', map: '#/map', workloads: '#/workloads', service: '#/service/bookstore/reviews-v1', calls: '#/service/bookstore/reviews-v1?tab=calls', mesh: '#/mesh' };

export async function pictures(browser, base, folder) {
  const stat = () => fetch(new URL('../telemetry/stat', base)).then((answer) => (answer.ok ? answer.json() : { items: [] }));
  await until('figures of the load', stat, ({ items }) => ['productpage', 'reviews-v1'].every((name) => items.some((one) => one.name === name && one.signals.rps > 1)), 60_000);
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1440, 360]) {
      const { page, context, complaints } = await open(browser, { width, colorScheme, reducedMotion: 'reduce' });
      for (const [name, hash] of Object.entries(PAGES)) {
        await page.goto(`${base}${hash}`);
        // The map is drawn, not written.
        await (name === 'map' ? page.locator('[data-still="true"]').waitFor() : settled(page));
        await page.screenshot({ path: join(folder, `dashboard-${name}-${width}-${colorScheme}.png`) });
      }
      if (complaints.length > 0) throw new Error(`the page complains: ${complaints.join('; ')}`);
      await context.close();
    }
  }
}
