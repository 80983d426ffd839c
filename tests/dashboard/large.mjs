/** What the dashboard of 1,000 workloads and 5,000 calls costs the browser, against its targets. */
import { open } from './browser.mjs';
import { check, until } from './check.mjs';
import { heap, tasks } from './cost.mjs';
import { goTo, PAGES } from './pages.mjs';

/** Seconds that each page is watched. */
const WATCH = 5;
const MINUTES = Number(process.env.MINUTES ?? 0.25);
/** Targets; what is measured by the clock on a machine that does other things, too, may be so many times as much: a page that has grown by a tenth is found by reading the table. */
const TARGETS = { paint: 1000, task: 16, heap: 50, shift: 0.01 };
const SLACK = 8;

export async function large(browser, server) {
  const figures = [];
  for (const name of ['now', 'map', 'map-open', 'workloads']) figures.push(await watched(browser, server, name));
  console.log('\n  page        first paint ms   figures ms   main thread ms/update   longest task ms   layout shift   heap MB (page + workers)');
  for (const one of figures) {
    console.log(`  ${one.name.padEnd(10)} ${one.paint.toFixed(0).padStart(15)} ${one.drawn.toFixed(0).padStart(12)} ${one.update.toFixed(1).padStart(23)} ${one.longest.toFixed(1).padStart(17)} ${one.shift.toFixed(4).padStart(14)} ${`${one.heap.page.toFixed(1)} + ${one.heap.workers.toFixed(1)}`.padStart(18)}`);
  }
  console.log(`  targets    ${String(TARGETS.paint).padStart(15)} ${'-'.padStart(12)} ${String(TARGETS.task).padStart(23)} ${String(TARGETS.task).padStart(17)} ${'0'.padStart(14)} ${String(TARGETS.heap).padStart(18)}\n`);
  for (const one of figures) {
    const over = (what, is, most) => (is > most ? `${what} ${is.toFixed(1)}, at most ${most}` : '');
    check(`${one.name}: first paint, work for each update`, [over('first paint', one.paint, TARGETS.paint * SLACK), over('main thread for each update', one.update, TARGETS.task * SLACK), over('longest task', one.longest, TARGETS.task * SLACK)].filter(Boolean).join('; '));
    check(`${one.name}: nothing moves from update to update`, one.shift > TARGETS.shift ? `layout shift ${one.shift} ${one.shifted}` : '');
    check(`${one.name}: nobody complains on the console`, one.complaints);
  }
  await lasting(browser, server);
  await still(browser, server);
}

async function watched(browser, server, name) {
  const { page, context, complaints } = await open(browser);
  await page.addInitScript((there) => {
    window.__shift = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (window.__drawn) window.__shift.push([entry.value, entry.sources.map((one) => one.node?.outerHTML?.slice(0, 120)).join(' | ')]);
    }).observe({ type: 'layout-shift', buffered: true });
    const look = new MutationObserver(() => {
      if (window.__drawn || !document.querySelector(there)) return;
      window.__drawn = performance.now();
      look.disconnect();
    });
    look.observe(document, { childList: true, subtree: true, attributes: true });
  }, PAGES[name][1]);
  await goTo(page, server.base, name);
  const paint = await until('first paint', () => page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime), (seen) => seen !== undefined);
  const drawn = await page.evaluate(() => window.__drawn);
  // What comes with the first figures (a place for each, fonts) is over.
  await updates(server, 3);
  const { total, longest, count } = await tasks(browser, page, () => updates(server, WATCH));
  const shifted = await page.evaluate(() => window.__shift);
  const used = await heap(page, context);
  await context.close();
  return { name, paint, drawn, update: total / Math.max(1, count), longest, shift: shifted.reduce((sum, [value]) => sum + value, 0), shifted: shifted.map(([, nodes]) => nodes).join('; ').slice(0, 400), heap: used, complaints: complaints.join('; ') };
}

/** Waits until figures were asked for so many times more. */
async function updates({ asked }, times) {
  const count = () => asked.filter((path) => path.startsWith('/telemetry/stat')).length;
  const began = count();
  await until(`${times} updates`, count, (seen) => seen >= began + times, 120_000);
  return times;
}

/** Memory of a page that stays open. */
async function lasting(browser, server) {
  const { page, context, complaints } = await open(browser);
  await goTo(page, server.base, 'map-open');
  await updates(server, 3);
  const before = await heap(page, context);
  const end = performance.now() + MINUTES * 60_000;
  while (performance.now() < end) {
    for (const name of ['now', 'workloads', 'map', 'map-focus', 'map-open']) {
      await goTo(page, server.base, name);
      await updates(server, 2);
      if (performance.now() > end) break;
    }
  }
  await goTo(page, server.base, 'map-open');
  await updates(server, 2);
  const after = await heap(page, context);
  const [was, is] = [before.page + before.workers, after.page + after.workers];
  console.log(`  memory: ${was.toFixed(1)} MB at first, ${is.toFixed(1)} MB after ${MINUTES} minutes on all pages`);
  check(`after ${MINUTES} minutes memory is at most ${TARGETS.heap} MB`, is > TARGETS.heap ? `${is.toFixed(1)} MB` : '');
  check('nobody complains on the console', complaints.join('; '));
  await context.close();
}

/** That boxes stay where they are while their figures change. */
async function still(browser, server) {
  const { page, context } = await open(browser);
  await goTo(page, server.base, 'map-open');
  await page.locator('.stage').focus();
  await page.keyboard.press('Home');
  const at = page.locator('#map-at');
  await until('a workload that is asked something', async () => {
    await page.keyboard.press('PageDown');
    return at.getAttribute('aria-label');
  }, (label) => /^Workload .* req\/s/.test(label ?? ''));
  const look = async () => [JSON.stringify(await at.boundingBox()), await at.getAttribute('aria-label')];
  await updates(server, 2);
  const [place, says] = await look();
  const seen = await until('other figures', look, ([, now]) => now !== says);
  check('figures change and boxes stay where they are', seen[0] === place ? '' : `${place} became ${seen[0]}`);
  const boxes = Number(await page.locator('.stage').getAttribute('data-boxes'));
  check(`${boxes} boxes, at most 150`, boxes > 0 && boxes <= 150 ? '' : 'too many');
  const painted = await page.locator('canvas').evaluate((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 0) count += 1;
    return count / (canvas.width * canvas.height);
  });
  check('the canvas is painted', painted > 0.03 ? '' : `${(painted * 100).toFixed(2)} % of it`);
  await page.goto(`${server.base}#/map?open=${[...new Set(server.mesh.nodes.map((node) => node.namespace))].join(',')}`);
  const most = await until('all namespaces open', async () => Number(await page.locator('.stage').getAttribute('data-boxes')), (count) => count > boxes);
  check(`with all namespaces open ${most} boxes, at most 150`, most <= 150 ? '' : 'too many');
  await context.close();
}
