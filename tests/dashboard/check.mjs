/** Counts what holds, and waits for what will. */

export const counts = { passed: 0, failed: 0 };

/** One line for each thing that must hold: `wrong` says what does not. */
export function check(what, wrong) {
  counts[wrong ? 'failed' : 'passed'] += 1;
  console.log(wrong ? `  FAIL   ${what}: ${String(wrong).slice(0, 1200)}` : `  ok     ${what}`);
}

/** Waits until `wanted` holds for what `look` sees; what it saw last. */
export async function until(what, look, wanted, patience = 30_000) {
  const deadline = performance.now() + patience;
  for (;;) {
    const seen = await look();
    if (wanted(seen)) return seen;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${patience / 1000} s, but ${JSON.stringify(seen)?.slice(0, 800)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What fails in one part does not keep the others from being done. */
export async function part(name, run) {
  console.log(`\n${name}`);
  const began = performance.now();
  try {
    await run();
  } catch (error) {
    check(name, `${error.name}: ${error.message}`);
  }
  console.log(`  in ${((performance.now() - began) / 1000).toFixed(0)} s`);
}
