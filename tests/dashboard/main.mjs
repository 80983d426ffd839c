/** The dashboard in a browser, part by part. */
import { doors } from './doors.mjs';
import { access } from './access.mjs';
import { launch } from './browser.mjs';
import { counts, part } from './check.mjs';
import { large } from './large.mjs';
import { pictures } from './pictures.mjs';
import { real } from './real.mjs';
import { releases } from './releases.mjs';
import { screenshots } from './screenshots.mjs';
import { serve } from './server.mjs';

const [first, second, third] = process.argv.slice(2);
const parts = { real: () => real(browser, first), large: () => large(browser, server), doors: () => doors(browser, server), releases: () => releases(browser, server), access: () => access(browser, server) };
const names = { real: 'over a real mesh', large: 'over 1,000 workloads', doors: 'who may not see it, and nothing to see', releases: 'releases', access: 'for everybody' };

const browser = await launch(['--enable-precise-memory-info']);
const server = await serve();
const began = performance.now();
try {
  if (first === 'screenshots') await screenshots(browser, server, second);
  else if (first === 'pictures') await pictures(browser, second, third);
  else {
    const only = process.env.ONLY?.split(',') ?? Object.keys(parts);
    for (const name of only) await part(names[name], parts[name]);
    console.log(`  in ${((performance.now() - began) / 1000).toFixed(0)} s\n${counts.passed} passed, ${counts.failed} failed`);
  }
} finally {
  await browser.close();
  await server.close();
}
process.exitCode = counts.failed > 0 ? 1 : 0;
