/** A browser whose pages complain of nothing. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../dashboard/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

export function launch(args = []) {
  // In a container of its own there is no user namespace for chromium's sandbox; nothing but our own pages is opened.
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-dev-shm-usage', ...args] });
}

/**
 * A page, and `complaints`: errors on its console, exceptions, and what the content security policy forbade. What the network
 * did is no complaint: pages are tested without a control plane, too.
 */
export async function open(browser, options = {}) {
  const { width = 1440, ...more } = options;
  const context = await browser.newContext({ viewport: { width, height: width < 800 ? 780 : 900 }, ...more });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => {
    const network = /^Failed to load resource/.test(message.text());
    if (['error', 'warning'].includes(message.type()) && !network) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.exposeFunction('__complain', (text) => void complaints.push(text));
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => window.__complain(`policy ${event.violatedDirective} forbids ${event.blockedURI}`));
  });
  return { page, context, complaints };
}

/** What axe finds wrong. */
export async function violations(page) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, nodes }) => `${id} (${nodes.length}): ${nodes[0].html.slice(0, 160)} ${nodes[0].failureSummary.replaceAll('\n', ' ').slice(0, 240)}`);
  });
  return found.join('; ');
}

/** The rows of a table as objects by the names of their columns. */
export function rows(page, selector) {
  return page.locator(selector).first().evaluate((table) => {
    const heads = [...table.querySelectorAll('thead th')].map((th) => th.textContent.replace(/[▾▴]/g, '').trim());
    return [...table.querySelectorAll('tbody tr:not([aria-hidden])')].map((tr) => Object.fromEntries([...tr.children].map((cell, at) => [heads[at], cell.textContent.replace(/\s+/g, ' ').trim()])));
  });
}
