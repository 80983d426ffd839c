/** The dashboard of a mesh that runs on this machine: what it shows is what the control plane says, and what fails is seen. */
import { execFile, spawn } from 'node:child_process';
import { cp, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { open, rows } from './browser.mjs';
import { check, until } from './check.mjs';

const BOOKSTORE = new URL('../../deploy/samples/bookstore/', import.meta.url).pathname;
const NAME = `dashboard-${process.pid}`;
/** Requests per second, and to whom. */
const LOAD = [['http://productpage:9080/books/1', 12], ['http://reviews:9080/reviews/1', 8], ['http://details/details/1', 5]];
/** A slot of ten seconds has to be over, after pods were stopped. */
const SOON = 25_000;

export async function real(browser, folder) {
  if (!folder) throw new Error('say where `tulle` is: tests/dashboard/run target/…/debug');
  const place = await mkdtemp(join(tmpdir(), 'tulle-dashboard-'));
  const tulle = (...words) => promisify(execFile)(join(folder, 'tulle'), ['local', words[0], '--name', NAME, ...words.slice(1)], { timeout: 240_000, maxBuffer: 1e8 });
  const children = [];
  try {
    await cp(BOOKSTORE, join(place, 'bookstore'), { recursive: true });
    await tulle('up', join(place, 'bookstore'), '--detach');
    for (const [url, rate] of LOAD) {
      const fortio = ['fortio', 'load', '-quiet', '-c', '1', '-qps', String(rate), '-t', '0', '-allow-initial-errors', url];
      children.push(spawn(join(folder, 'tulle'), ['local', 'exec', '--name', NAME, 'bookstore/client', '-c', 'client', '--', ...fortio], { stdio: 'ignore' }));
    }
    const base = await dashboard(folder, children);
    const telemetry = (path) => fetch(new URL(`../telemetry/${path}`, base)).then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`${path}: ${answer.status}`))));
    // Whatever is on the way has been on it for a while.
    await until('figures of the load', () => telemetry('stat'), ({ items }) => items.some((one) => one.name === 'productpage' && one.signals.rps > 5), 90_000);
    await figures(browser, base, telemetry);
    await failing(browser, base, join(place, 'bookstore/details.yaml'));
    await released(browser, base, join(place, 'bookstore'));
    await gone(browser, base);
  } finally {
    for (const child of children) child.kill();
    if (process.env.KEEP) console.log(`kept: tulle local status --name ${NAME}; files in ${place}`);
    else {
      await tulle('down').catch((error) => check('the mesh is taken down', error.message));
      await rm(place, { recursive: true });
    }
  }
}

/** `tulle dashboard`, and the address that it prints. */
function dashboard(folder, children) {
  const child = spawn(join(folder, 'tulle'), ['dashboard', '--name', NAME, '--no-open'], { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr.on('data', (data) => (said += data));
    child.on('exit', (status) => reject(new Error(`tulle dashboard ended with ${status}: ${said}`)));
    child.stdout.on('data', (data) => {
      said += data;
      const address = /^http:\S+/m.exec(said);
      if (address) resolve(address[0]);
    });
  });
}

/** A rate as the page writes it, within what rounding takes away. */
function same(text, rate) {
  const [, number, thousands] = /^<?(\d+(?:\.\d+)?)(k?)/.exec(text) ?? [];
  if (number === undefined) return rate === 0 && /^(no traffic|–|0)/.test(text);
  const shown = Number(number) * (thousands ? 1000 : 1);
  const step = thousands ? 100 : shown < 1 ? 0.01 : shown < 100 ? 0.1 : 1;
  return Math.abs(shown - rate) <= step;
}

/** What a page shows is what the control plane answered to it just before. */
async function figures(browser, base, telemetry) {
  const { page, context, complaints } = await open(browser);
  const answers = { stat: [], edges: [], mesh: [] };
  page.on('response', async (response) => {
    const [, kind] = /\/telemetry\/(stat|edges|mesh)(?:\?|$)/.exec(response.url()) ?? [];
    if (kind && response.ok()) answers[kind] = [...answers[kind], await response.json().catch(() => ({ items: [] }))].slice(-4);
  });
  /** That what `look` sees is right by one of the last answers; values change all the time. */
  const agrees = async (what, look, wrong) => {
    let last = 'nothing was answered';
    try {
      await until(what, async () => {
        const seen = await look();
        for (const stat of answers.stat) for (const edges of answers.edges.length > 0 ? answers.edges : [{ items: [] }]) {
          last = wrong(seen, stat, edges);
          if (!last) return true;
        }
        return false;
      }, (good) => good, 20_000);
      check(what, '');
    } catch {
      check(what, last);
    }
  };

  await page.goto(`${base}#/map?view=table&open=bookstore`);
  await page.locator('#map-calls').waitFor();
  await agrees('Map: each call has the rate that the control plane says', () => rows(page, 'section[aria-labelledby="map-calls"] table'), (seen, stat, { items }) => {
    if (seen.length < 4) return `only ${seen.length} calls`;
    const name = (end) => (end.namespace === 'bookstore' || !end.namespace ? (end.namespace ? `bookstore/${end.name}` : end.name) : end.namespace);
    const expected = new Map();
    for (const edge of items) {
      const key = `${name(edge.from)} → ${name(edge.to)}`;
      const sum = expected.get(key) ?? { rps: 0, connections: 0 };
      expected.set(key, { rps: sum.rps + edge.signals.rps, connections: sum.connections + edge.signals.connections });
    }
    const shown = new Map(seen.map((row) => [`${row.From} → ${row.To.replace(/ \d+ calls$/, '')}`, row.Traffic]));
    if (shown.size !== expected.size) return `${[...shown.keys()].join(', ')} are shown, ${[...expected.keys()].join(', ')} are there`;
    return [...expected].map(([key, { rps, connections }]) => (same(shown.get(key) ?? '', rps > 0 ? rps : connections) ? '' : `${key}: ${shown.get(key)} is shown, ${rps} and ${connections} are said`)).filter(Boolean).join('; ');
  });

  await page.goto(`${base}#/map?open=bookstore`);
  await page.locator('[data-boxes]').waitFor();
  const { items } = await telemetry('stat');
  const workloads = items.filter((one) => one.namespace === 'bookstore');
  await page.locator('.stage').focus();
  await page.keyboard.press('Home');
  const met = new Set();
  for (let i = 0; i < 40; i += 1) {
    met.add(await page.locator('#map-at').getAttribute('aria-label'));
    await page.keyboard.press('PageDown');
  }
  const missing = workloads.filter((one) => ![...met].some((label) => label?.startsWith(`Workload bookstore/${one.name}:`)));
  check(`Map: keys come to all ${workloads.length} workloads`, missing.length > 0 ? `not to ${missing.map((one) => one.name).join(', ')}: ${[...met].join(' | ')}` : '');

  await page.goto(`${base}#/workloads`);
  await page.locator('tr.row').first().waitFor();
  await agrees('Workloads: each has the rate that the control plane says', () => rows(page, 'main table'), (seen, { items }) =>
    items.map((one) => {
      const row = seen.find((row) => row.Workload === `${one.namespace}/${one.name}`);
      return row && (same(row['Req/s'], one.signals.rps) || (row['Req/s'] === '–' && one.signals.requests === 0)) ? '' : `${one.namespace}/${one.name}: ${row?.['Req/s']} is shown, ${one.signals.rps} is said`;
    }).filter(Boolean).join('; '));

  await page.goto(`${base}#/now`);
  await page.locator('dl.tiles').waitFor();
  await agrees('Now: so many workloads and requests per second as the control plane says', () => page.locator('dl.tiles').innerText(), (seen, { items }) => {
    const total = items.reduce((sum, one) => sum + one.signals.rps, 0);
    const [, shown] = /Requests per second\s+(\S+)/.exec(seen) ?? [];
    const [, reporting, pods] = /Pods that report\s+(\d+)\s+of\s+(\d+)/.exec(seen) ?? [];
    const sums = [items.reduce((sum, one) => sum + one.reporting, 0), items.reduce((sum, one) => sum + one.pods, 0)];
    // Of whoever does not report its callers' figures are taken.
    return shown !== undefined && Number(reporting) === sums[0] && Number(pods) === sums[1] && Math.abs(Number(shown) - total) <= Math.max(1, total * 0.02) ? '' : `${seen.replace(/\s+/g, ' ')}; said are ${total}, ${sums.join(' of ')}`;
  });

  await page.goto(`${base}#/service/bookstore/productpage`);
  await page.locator('dl.tiles').waitFor();
  await agrees('a workload’s page: the rate that the control plane says', () => page.locator('dl.tiles').innerText(), (seen, { items }) => {
    const said = items.find((one) => one.name === 'productpage')?.signals.rps ?? 0;
    const [, shown] = /Requests per second\s+(\S+)/.exec(seen) ?? [];
    return same(shown ?? '', said) ? '' : `${shown} is shown, ${said} is said`;
  });

  await page.goto(`${base}#/mesh?tab=proxies`);
  await page.locator('tr.row').first().waitFor();
  await until('the mesh is asked for', () => answers.mesh.length, (count) => count > 0);
  const proxies = answers.mesh.at(-1).proxies;
  const shown = await rows(page, 'main table');
  check(`Mesh: all ${proxies.length} proxies are there`, proxies.length > 5 && shown.length === proxies.length ? '' : `${shown.length} are shown`);
  check('nobody complains on the console', complaints.join('; '));
  await context.close();
}

/** A backend goes away: Now says so, the map draws it, and when it is back requests are fine again. */
async function failing(browser, base, file) {
  const { page, context } = await open(browser);
  await page.goto(`${base}#/now`);
  await page.locator('h1').waitFor();
  const yaml = await readFile(file, 'utf8');
  const without = yaml.replace('replicas: 1', 'replicas: 0');
  if (without === yaml) throw new Error(`${file}: where are its replicas?`);
  const began = performance.now();
  await writeFile(file, without);
  const problems = page.locator('section[aria-labelledby="problems"]');
  try {
    await until('Now tells of details', () => problems.innerText().catch(() => ''), (text) => /details/.test(text) && /fail|reach nobody/.test(text), SOON);
    check(`Now: a backend that is away is a problem after ${((performance.now() - began) / 1000).toFixed(0)} s`, '');
  } catch (error) {
    check('Now: a backend that is away is a problem', error.message);
  }
  await page.goto(`${base}#/map?view=table&open=bookstore`);
  await page.locator('#map-calls').waitFor();
  try {
    await until('the map', () => rows(page, 'section[aria-labelledby="map-calls"] table'), (calls) => calls.some((call) => /fail/.test(call.How) && /^(unknown|bookstore\/details)/.test(call.To)), SOON);
    check('Map: its calls fail', '');
  } catch (error) {
    check('Map: its calls fail', error.message);
  }
  await writeFile(file, yaml);
  await context.close();
}

/** A new version takes its first step; the page shows what the control plane says of it, and its button rolls it back. */
async function released(browser, base, folder) {
  const { page, context, complaints } = await open(browser);
  const [file, release] = [join(folder, 'details.yaml'), join(folder, 'release.yaml')];
  const yaml = await readFile(file, 'utf8');
  const next = yaml.replace('  template:\n    metadata:\n', "  template:\n    metadata:\n      annotations: {version: '2'}\n");
  if (next === yaml) throw new Error(`${file}: where is its template?`);
  const ask = () => fetch(new URL('../releases?namespace=bookstore&name=details', base)).then((answer) => answer.json()).then(({ items }) => items[0]);
  const is = (phase) => until(`the release is ${phase}`, ask, (one) => one?.phase === phase, 60_000);
  const says = (what) => until(`the page says “${what}”`, () => page.locator('main').innerText(), (seen) => seen.includes(what), 10_000);
  await writeFile(release, 'apiVersion: tulle.dev/v1alpha1\nkind: Release\nmetadata: {name: details, namespace: bookstore}\nspec: {target: {kind: Deployment, name: details}, steps: [{weight: 50, for: 1h}]}\n');
  await is('Idle');
  await page.goto(`${base}#/releases`);
  await says('bookstore/details');
  await writeFile(file, next);
  await is('Progressing');
  const { canary, stable } = await until('requests to the new version', ask, ({ requests }) => requests >= 20, 30_000);
  await page.getByRole('link', { name: /details/ }).click();
  await says(`${canary} replaces ${stable}`);
  const tiles = page.locator('dl.tiles');
  let last = '';
  const agrees = async () => {
    const [{ requests }, seen] = [await ask(), (await tiles.innerText()).replace(/\s+/g, ' ')];
    last = `${seen}; said are ${requests}`;
    return seen.includes(`Requests to the canary ${requests} of 200`);
  };
  check('a release: so many requests to the new version as the control plane says', await until('figures', agrees, (good) => good, 15_000).then(() => '', () => last));
  await page.locator('.verbs').getByRole('button', { name: 'Roll back' }).click();
  await page.keyboard.type('just to see');
  await page.keyboard.press('Enter');
  const held = await is('Held');
  await says(`${canary} gets no requests: just to see`);
  check('a release: its button rolls it back, and who it was is known', held.history[0]?.who ? '' : JSON.stringify(held.history[0]));
  await writeFile(file, yaml);
  await is('RolledBack');
  await says(`${stable} is back`);
  await rm(release);
  check('nobody complains on the console', complaints.join('; '));
  await context.close();
}

/** The control plane's process ends, and is started again by the mesh. */
async function gone(browser, base) {
  const { page, context, complaints } = await open(browser);
  await page.goto(`${base}#/map?open=bookstore`);
  await page.locator('[data-boxes]').waitFor();
  const body = () => page.locator('body').innerText();
  const before = await controlPlane();
  let pid = before;
  try {
    // It may be back before the page has asked; then it ends once more.
    await until('it is said', async () => {
      if (pid !== undefined) end(pid);
      const text = await body();
      pid = await findControlPlane();
      return text;
    }, (text) => text.includes('not reached') && /as it was at \d\d:\d\d:\d\d/.test(text), 20_000);
    check('a control plane that is away is said to be, and of when the figures are', '');
    await until('it is back', body, (text) => !text.includes('not reached') && text.includes('live'), 60_000);
    await page.locator('[data-boxes]').waitFor();
    check('when it is back the page goes on by itself', (await controlPlane()) === before ? 'it was never away' : '');
  } catch (error) {
    check('a control plane that is away, and is back', error.message);
  }
  check('nobody complains on the console', complaints.join('; '));
  await context.close();
}

/** Ends a process, if it has not ended since it was found. */
function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** The process of this mesh's own control plane, by who started it. */
const controlPlane = () => until('a control plane of this mesh', findControlPlane, (pid) => pid !== undefined, 60_000);

async function findControlPlane() {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const exe = await readlink(`/proc/${pid}/exe`).catch(() => '');
    if (!/\/tulle-control-plane( \(deleted\))?$/.test(exe)) continue;
    for (let one = pid; Number(one) > 1; ) {
      if ((await readFile(`/proc/${one}/cmdline`, 'utf8').catch(() => '')).includes(`\0--name\0${NAME}\0`)) return Number(pid);
      one = /^PPid:\s+(\d+)/m.exec(await readFile(`/proc/${one}/status`, 'utf8').catch(() => ''))?.[1] ?? '0';
    }
  }
  return undefined;
}
