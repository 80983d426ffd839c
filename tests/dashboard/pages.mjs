import { until } from './check.mjs';

/** Pages by name, and what is there once they have figures. */
export const PAGES = {
  now: ['#/now', 'table.spaces tbody tr'],
  map: ['#/map', '[data-boxes]'],
  'map-open': ['#/map?open=search', '[data-boxes]'],
  'map-focus': ['#/map?focus=search%2Fcheckout', '[data-boxes]'],
  'map-table': ['#/map?view=table', 'section tbody tr'],
  workloads: ['#/workloads', 'tr.row'],
  service: ['#/service/search/checkout', 'dl.tiles'],
  'service-calls': ['#/service/search/checkout?tab=calls', 'tbody tr'],
  'service-routes': ['#/service/search/checkout?tab=routes', 'dl.tiles'],
  'service-policies': ['#/service/search/checkout?tab=policies', 'dl.tiles'],
  'service-tap': ['#/service/search/checkout?tab=tap', 'dl.tiles'],
  releases: ['#/releases', 'main ul.panel li'],
  release: ['#/release/shop/reviews', 'dl.tiles'],
  'release-held': ['#/release/shop/catalog', '.held'],
  'release-rest': ['#/release/shop/prices', 'main ol.panel li'],
  mesh: ['#/mesh', 'main ul.panel li'],
  'mesh-proxies': ['#/mesh?tab=proxies', 'tr.row'],
  'mesh-policies': ['#/mesh?tab=policies', '#policies-ill'],
};

export async function goTo(page, base, name) {
  const [hash, there] = PAGES[name];
  await page.goto(`${base}${hash}`);
  await page.locator(there).first().waitFor();
}

/** Waits until a page has figures and charts; one of live requests is empty at first, and charts come a moment after figures. */
export async function settled(page) {
  await until('figures', () => page.locator('main').innerText(), (text) => text.length > 150 && !/Asks for/.test(text));
  await until('charts', () => page.locator('main').evaluate((main) => main.querySelectorAll('.asking').length), (count) => count === 0);
  await page.waitForLoadState('networkidle').catch(() => undefined);
}
