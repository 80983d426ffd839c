/** That everybody can use it: by axe, by keyboard, in both themes, on narrow screens, without motion. */
import { open, rows, violations } from './browser.mjs';
import { check, until } from './check.mjs';
import { goTo, PAGES } from './pages.mjs';

export async function access(browser, server) {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1440, 360]) {
      const { page, context, complaints } = await open(browser, { width, colorScheme });
      const wrong = [];
      for (const name of Object.keys(PAGES)) {
        await goTo(page, server.base, name);
        const found = await violations(page);
        if (found) wrong.push(`${name}: ${found}`);
        const [wide, room] = await page.evaluate(() => [Math.max(document.documentElement.scrollWidth, document.querySelector('main').scrollWidth), innerWidth]);
        if (wide > room) wrong.push(`${name} is ${wide} wide`);
      }
      check(`axe finds nothing on ${Object.keys(PAGES).length} pages, ${colorScheme}, ${width} wide; none is wider than the screen`, wrong.join('; '));
      check(`nobody complains on the console, ${colorScheme}, ${width}`, complaints.join('; '));
      await context.close();
    }
  }
  await keyboard(browser, server);
  await motion(browser, server);
  await touch(browser, server);
  await signIn(browser, server);
}

async function keyboard(browser, { base }) {
  const { page, context, complaints } = await open(browser);
  const hash = () => page.evaluate(() => decodeURIComponent(location.hash));
  const at = page.locator('#map-at');
  const says = async () => (await at.count()) > 0 && (await at.getAttribute('aria-label'));
  const step = async (what, run, wanted) => {
    try {
      await run();
      await until(what, async () => [await hash(), await says()], ([place, said]) => wanted(place, said || ''), 15_000);
      check(`by keyboard: ${what}`, '');
    } catch (error) {
      check(`by keyboard: ${what}`, error.message);
    }
  };
  const press = (...keys) => async () => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const tabTo = async (wanted, most = 60) => {
    for (let i = 0; i < most; i += 1) {
      await page.keyboard.press('Tab');
      const here = await page.evaluate(() => `${document.activeElement?.getAttribute('aria-label') ?? ''} ${document.activeElement?.textContent?.trim().slice(0, 60) ?? ''} ${document.activeElement?.id ?? ''}`);
      if (wanted.test(here)) return;
    }
    throw new Error(`Tab never comes to ${wanted}`);
  };

  await goTo(page, base, 'now');
  await step('Tab and Enter go to the map', async () => {
    await tabTo(/^\s*Map/);
    await page.keyboard.press('Enter');
  }, (place) => place.startsWith('#/map'));
  await page.locator('[data-boxes]').waitFor();
  await step('Tab comes to the map, at its first box', () => tabTo(/^Map of calls/), (_, said) => said !== '');
  await step('the filter is one key away, and Escape clears it', press('/', 'c', 'h', 'e', 'c', 'k', 'o', 'u', 't'), (place) => place.includes('q=checkout'));
  await step('Escape clears the filter', press('Escape'), (place) => !place.includes('q='));
  await page.locator('.stage').focus();
  // From the first on, one of them is a namespace.
  await step('Page Down goes from box to box', press('Home', 'PageDown'), (_, said) => said.startsWith('Namespace'));
  const first = (await says()) || '';
  const name = /^Namespace (\S+):/.exec(first)?.[1];
  await step('Enter opens a namespace', press('Enter'), (place) => place.includes(`open=${name}`));
  await opened(page);
  await step('Page Down goes into it', press('PageDown'), (_, said) => said.startsWith('Workload '));
  await step('an arrow goes along a call', press('ArrowRight'), (_, said) => said !== '' && said !== first);
  await step('Enter puts a workload in focus', press('Home', 'PageDown', 'PageDown', 'Enter'), (place) => place.includes('focus='));
  await step('Escape goes back, and the namespace stays open', press('Escape'), (place) => !place.includes('focus=') && place.includes(`open=${name}`));
  await step('"back" of the browser is the focus again', async () => void (await page.goBack()), (place) => place.includes('focus='));
  await page.locator('.stage').focus();
  await press('Escape')();
  // Where a key goes first is a matter of what is drawn.
  await opened(page);
  const boxAt = () => page.locator('#map-at').boundingBox();
  await page.locator('.stage').focus();
  await press('Home')();
  await at.waitFor();
  const before = await boxAt();
  await press('+', '+')();
  const larger = await until('plus zooms', boxAt, (box) => box && box.width > before.width * 1.3, 5000);
  check('by keyboard: plus zooms', larger ? '' : 'it does not');
  const left = await boxAt();
  await press('Shift+ArrowRight')();
  await until('Shift and an arrow move the map', boxAt, (box) => box && Math.abs(box.x - left.x) > 40, 5000);
  check('by keyboard: Shift and an arrow move the map', '');
  await press('0')();
  await until('0 shows all of it', boxAt, (box) => box && Math.abs(box.width - before.width) < before.width * 0.6, 5000);
  check('by keyboard: 0 shows all of it', '');
  await step('the table is the same in words', async () => {
    await tabToBack(page, /^\s*Table/);
    await page.keyboard.press('Enter');
  }, (place) => place.includes('view=table'));
  await page.locator('#map-boxes').waitFor();
  const boxes = await rows(page, 'section[aria-labelledby="map-boxes"] table');
  const calls = await rows(page, 'section[aria-labelledby="map-calls"] table');
  check(`the table has ${boxes.length} boxes and ${calls.length} calls`, boxes.length > 40 && boxes.length <= 150 && calls.length > 20 ? '' : 'that is not what the map has');
  check('the table says in words what is wrong', calls.some((call) => /fail/.test(call.How)) && calls.some((call) => /plaintext/.test(call.Encrypted)) ? '' : JSON.stringify(calls.slice(0, 3)));
  check('by keyboard: nobody complains on the console', complaints.join('; '));
  const [download] = await Promise.all([page.waitForEvent('download'), page.goto(`${base}#/map`).then(() => page.getByLabel('Save as SVG').press('Enter'))]);
  const svg = await streamed(await download.createReadStream());
  const wellFormed = await page.evaluate((text) => new DOMParser().parseFromString(text, 'image/svg+xml').querySelector('parsererror')?.textContent ?? '', svg);
  check('the map is saved as an SVG with all names', wellFormed || (/search/.test(svg) && svg.includes('<svg') ? '' : svg.slice(0, 200)));
  await context.close();
}

/** The map has more boxes than with all namespaces closed, or with one workload in focus. */
const opened = (page) => until('it is open', () => page.locator('.stage').getAttribute('data-boxes'), (count) => Number(count) > 45);

async function tabToBack(page, wanted) {
  for (let i = 0; i < 30; i += 1) {
    await page.keyboard.press('Shift+Tab');
    if (wanted.test(await page.evaluate(() => document.activeElement?.textContent ?? ''))) return;
  }
  throw new Error(`Shift+Tab never comes to ${wanted}`);
}

async function streamed(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** Whoever wants less motion has none. */
async function motion(browser, { base }) {
  const { page, context } = await open(browser, { reducedMotion: 'reduce' });
  await goTo(page, base, 'map');
  await page.locator('.stage').focus();
  for (const key of ['Home', 'PageDown', 'Enter']) await page.keyboard.press(key);
  await opened(page);
  const moving = await page.evaluate(() => document.getAnimations().filter((one) => one.playState === 'running').length);
  check('with reduced motion nothing moves by itself', moving === 0 ? '' : `${moving} animations`);
  await context.close();
}

/** A finger moves the map, and goes into what it touches. */
async function touch(browser, { base }) {
  const { page, context, complaints } = await open(browser, { width: 360, hasTouch: true, isMobile: true, deviceScaleFactor: 2 });
  await page.goto(`${base}#/map?focus=search%2Fcheckout`);
  await page.locator('[data-boxes]').waitFor();
  const session = await context.newCDPSession(page);
  const { x, y, width, height } = await page.locator('.stage').boundingBox();
  const at = (dx, dy) => ({ x: x + width / 2 + dx, y: y + height / 2 + dy });
  const send = (type, ...touchPoints) => session.send('Input.dispatchTouchEvent', { type, touchPoints });
  await send('touchStart', at(0, 0));
  await send('touchEnd');
  await page.getByRole('region', { name: 'What is looked at' }).getByRole('heading', { name: 'checkout' }).waitFor({ timeout: 15_000 });
  check('by touch: what is touched is looked at', '');
  const box = () => page.locator('#map-at').boundingBox();
  const before = await box();
  await send('touchStart', at(0, -60));
  for (let i = 1; i <= 6; i += 1) await send('touchMove', at(-10 * i, -60));
  await send('touchEnd');
  await until('a finger moves the map', box, (now) => now && now.x < before.x - 30, 5000);
  check('by touch: a finger moves the map', '');
  const small = await box();
  const two = (apart) => [{ ...at(-apart, -60), id: 0 }, { ...at(apart, -60), id: 1 }];
  await send('touchStart', ...two(20));
  for (let i = 1; i <= 6; i += 1) await send('touchMove', ...two(20 + 10 * i));
  await send('touchEnd');
  await until('two fingers zoom', box, (now) => now && now.width > small.width * 1.3, 5000);
  check('by touch: two fingers zoom', '');
  check('the canvas has all pixels of the screen', (await page.locator('canvas').evaluate((canvas) => canvas.width / canvas.clientWidth)) > 1.9 ? '' : 'it has not');
  check('by touch: nobody complains on the console', complaints.join('; '));
  await context.close();
}

async function signIn(browser, { base, doors }) {
  const { page, context } = await open(browser);
  doors.token = 'right';
  await page.goto(base);
  await page.getByLabel('A Kubernetes token').waitFor();
  const found = await violations(page);
  doors.token = undefined;
  check('axe finds nothing where one signs in', found);
  await context.close();
}
