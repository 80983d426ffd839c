/** What the dashboard says to whoever may not see anything, and when there is nobody to ask. */
import { open } from './browser.mjs';
import { check, until } from './check.mjs';

const text = (page) => page.locator('main').innerText();
const says = (page, what) => until(`the page says “${what}”`, () => text(page), (seen) => seen.includes(what));

export async function doors(browser, { base, doors, said }) {
  const { page, context, complaints } = await open(browser);
  const hold = async (what, run) => {
    try {
      await run();
      check(what, '');
    } catch (error) {
      check(what, error.message);
    }
  };

  doors.token = 'right';
  await page.goto(base);
  await hold('without a token one is asked to sign in, and told why', async () => {
    await says(page, 'the token is missing');
    await page.getByLabel('A Kubernetes token').waitFor();
  });
  await hold('with a wrong token one is asked again', async () => {
    await page.getByLabel('A Kubernetes token').fill('wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await until('the wrong one is asked with', () => said.token, (seen) => seen === 'Bearer wrong');
    await says(page, 'the token is missing');
    await page.getByLabel('A Kubernetes token').waitFor();
  });
  await hold('with the right one the page is there', async () => {
    await page.getByLabel('A Kubernetes token').fill('right');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await says(page, 'Namespaces');
  });
  await hold('the token is kept in this tab alone', async () => {
    const kept = await page.evaluate(() => [JSON.stringify({ ...sessionStorage }), JSON.stringify({ ...localStorage }), document.cookie, location.href]);
    if (!kept[0].includes('right') || kept.slice(1).some((one) => one.includes('right'))) throw new Error(kept.join(' '));
  });
  await hold('when it is not good any more one signs in again', async () => {
    doors.token = 'another';
    await page.getByLabel('A Kubernetes token').waitFor();
    doors.token = undefined;
    await page.reload();
    await says(page, 'Namespaces');
  });

  for (const [name, hash] of [['Now', '#/now'], ['Map', '#/map'], ['Workloads', '#/workloads'], ['a workload', '#/service/shop/cart'], ['Releases', '#/releases'], ['a release', '#/release/shop/cart'], ['Mesh', '#/mesh']]) {
    await hold(`${name}: whoever may not see it reads which right is missing`, async () => {
      doors.forbidden = 'you may not get tulle.dev/telemetry in any namespace: ask for the role tulle-view';
      const { page, context } = await open(browser);
      await page.goto(base + hash);
      await says(page, 'ask for the role tulle-view');
      await context.close();
      doors.forbidden = undefined;
    });
  }

  await page.goto(`${base}#/map`);
  await page.locator('[data-boxes]').waitFor();
  await hold('when the control plane is gone the last figures stay, and it is said of when they are', async () => {
    doors.gone = true;
    await until('it is said', () => page.locator('body').innerText(), (seen) => seen.includes('cannot be reached') && /as it was at \d\d:\d\d:\d\d/.test(seen) && seen.includes('not reached'));
    if (!(await page.locator('[data-boxes]').isVisible())) throw new Error('the map is away');
  });
  await hold('a page that never heard anything says so, and what to do', async () => {
    const { page, context } = await open(browser);
    await page.goto(`${base}#/workloads`);
    await says(page, 'The control plane cannot be reached');
    await context.close();
  });
  await hold('when it is back all is as before', async () => {
    doors.gone = false;
    await until('it is live', () => page.locator('body').innerText(), (seen) => !seen.includes('cannot be reached') && seen.includes('live'), 40_000);
  });
  await hold('a page that does not exist says where to begin', async () => {
    await page.goto(`${base}#/nowhere`);
    await says(page, 'There is no page “nowhere”');
  });
  check('nobody complains on the console', complaints.join('; '));
  await context.close();
}
