/** The pages of releases: what they offer, what comes of it, and what is said when it may not be. */
import { forget } from '../../dashboard/fixtures/releases.mjs';
import { open } from './browser.mjs';
import { check, until } from './check.mjs';
import { goTo } from './pages.mjs';

export async function releases(browser, { base, doors, wished }) {
  const { page, context, complaints } = await open(browser);
  const hold = async (what, run) => {
    try {
      await run();
      check(what, '');
    } catch (error) {
      check(what, error.message);
    }
  };
  const says = (what) => until(`the page says “${what}”`, () => page.locator('main').innerText(), (seen) => seen.includes(what), 10_000);
  const button = (name) => page.locator('.verbs').getByRole('button', { name });
  const offered = () => page.locator('.verbs button').allInnerTexts();
  const at = (name) => page.goto(`${base}#/release/shop/${name}`);
  /** What was sent last: it must be of the version that is shown. */
  const sent = (verb, ...parts) => {
    const last = wished.at(-1);
    const missing = [`/releases/${verb}?`, 'namespace=shop', 'revision=84f6d9c7b', ...parts].filter((one) => !last?.path.includes(one));
    if (missing.length > 0) throw new Error(`${last?.path} is without ${missing.join(', ')}`);
  };

  await goTo(page, base, 'releases');
  await hold('by keyboard one comes from the list to a release', async () => {
    await page.getByRole('link', { name: /reviews/ }).press('Enter');
    await says('84f6d9c7b replaces 7d9c5b6f4');
    if (!page.url().endsWith('#/release/shop/reviews')) throw new Error(page.url());
  });
  await hold('in doubt no plain promotion is offered', async () => {
    const names = (await offered()).join(', ');
    if (names !== 'Pause, Next step (25 %) …, Promote in spite of doubts …, Roll back …') throw new Error(names);
  });
  await hold('figures of a release change each second', async () => {
    const first = await page.locator('dl.tiles').innerText();
    await until('other figures', () => page.locator('dl.tiles').innerText(), (seen) => seen !== first, 10_000);
  });
  await hold('a pause is done at once, and stands in the history', async () => {
    await button('Pause').press('Enter');
    await says('Pause: done.');
    sent('pause', 'name=reviews');
    await until('the keyboard is where it was', () => page.evaluate(() => document.activeElement?.textContent), (seen) => seen === 'Go on', 5_000);
    await until('who it was', () => page.locator('section[aria-labelledby="history"] li').first().innerText(), (seen) => seen.includes('paused') && seen.includes('whoever runs this mesh'));
  });
  await hold('a rollback is asked back; Escape leaves it', async () => {
    const before = wished.length;
    await button('Roll back').click();
    await page.getByRole('dialog', { name: 'Roll back 84f6d9c7b?' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    if (wished.length !== before) throw new Error(wished.at(-1).path);
  });
  await hold('a rollback takes its reason along, and what is held says what to do', async () => {
    await button('Roll back').press('Enter');
    await page.keyboard.type('orders are lost');
    await page.keyboard.press('Enter');
    await says('kubectl -n shop rollout undo deployment/reviews');
    sent('rollback', 'reason=orders+are+lost');
    await says('84f6d9c7b gets no requests: orders are lost');
    const names = (await offered()).join(', ');
    if (names !== 'Try again …') throw new Error(names);
  });
  await hold('the next step is of the weight that is shown', async () => {
    await at('cart');
    await button('Next step (5 %)').click();
    await says('Next step (5 %): done.');
    sent('step', 'to=5');
  });
  await hold('whoever may not steer reads beside the buttons which role is missing, and looks on', async () => {
    await at('search');
    doors.refused = [403, 'anna may not steer releases.tulle.dev in namespace shop: a RoleBinding there to ClusterRole tulle-steer allows it'];
    await button('Pause').click();
    await until('it is said', () => page.locator('.verbs').innerText(), (seen) => seen.includes('ClusterRole tulle-steer allows it'), 10_000);
    await page.locator('dl.tiles').waitFor();
  });
  await hold('what came too late is said beside the buttons', async () => {
    doors.refused = [409, 'revision 84f6d9c7b is not the one that is being released; that is 5aa1'];
    await button('Promote').click();
    await page.getByRole('dialog').getByRole('button', { name: 'Promote' }).click();
    await until('it is said', () => page.locator('.verbs').innerText(), (seen) => seen.includes('that is 5aa1'), 10_000);
    doors.refused = undefined;
  });
  await hold('a wish goes with the token that all is asked with', async () => {
    doors.token = 'right';
    await page.reload();
    await page.getByLabel('A Kubernetes token').fill('right');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await button('Pause').click();
    await says('Pause: done.');
    if (wished.at(-1).token !== 'Bearer right') throw new Error(wished.at(-1).token);
    doors.token = undefined;
  });
  await hold('a workload leads to its release', async () => {
    await page.goto(`${base}#/service/shop/checkout`);
    await page.getByRole('link', { name: 'Release checkout' }).click();
    await says('84f6d9c7b replaces 7d9c5b6f4');
  });
  await hold('a release that is gone says so', async () => {
    await at('nobody');
    await says('There is no Release shop/nobody');
  });
  await hold('where there is none it is said what a Release is, and how to begin', async () => {
    doors.unreleased = true;
    await page.goto(`${base}#/releases`);
    await says('There is no Release yet');
    await says('target: {kind: Deployment, name: reviews}');
    doors.unreleased = false;
  });
  forget();
  check('nobody complains on the console', complaints.join('; '));
  await context.close();
}
