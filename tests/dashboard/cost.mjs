/** What a page costs: time of its main thread, memory of it and of its workers. */

/** Milliseconds of CPU that the page's main thread works while `run` is going on: in all, and the longest task; and what `run` says. */
export async function tasks(browser, page, run) {
  await browser.startTracing(page, { categories: ['devtools.timeline', 'disabled-by-default-devtools.timeline'] });
  const count = await run();
  const events = JSON.parse((await browser.stopTracing()).toString()).traceEvents;
  // The page's process is the one that draws; the main thread of each process has this name.
  const mains = new Set(events.filter((one) => one.name === 'thread_name' && one.args.name === 'CrRendererMain').map((one) => `${one.pid} ${one.tid}`));
  const byThread = new Map();
  for (const { name, pid, tid, tdur, dur } of events) {
    // Whole, because with other categories there are tasks of other names inside of these, and each would count twice.
    if (name !== 'RunTask' || !mains.has(`${pid} ${tid}`)) continue;
    const sum = byThread.get(`${pid} ${tid}`) ?? { total: 0, longest: 0, tasks: 0 };
    const took = (tdur ?? dur ?? 0) / 1000;
    byThread.set(`${pid} ${tid}`, { total: sum.total + took, longest: Math.max(sum.longest, took), tasks: sum.tasks + 1 });
  }
  const busiest = [...byThread.values()].sort((a, b) => b.total - a.total)[0];
  if (!busiest) throw new Error('the trace has no tasks of a page: its events are called otherwise in this chromium');
  return { ...busiest, count };
}

/** Megabytes in use after garbage is collected. */
export async function heap(page, context) {
  const session = await context.newCDPSession(page);
  const workers = new Map();
  let last = 0;
  const waiting = new Map();
  session.on('Target.attachedToTarget', ({ sessionId, targetInfo }) => targetInfo.type === 'worker' && workers.set(sessionId, targetInfo));
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { id, result } = JSON.parse(message);
    waiting.get(id)?.(result);
  });
  const ask = (sessionId, method) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, resolve);
      session.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id, method, params: {} }) }).catch(reject);
    });
  await session.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const collected = async (send) => {
    for (let round = 0; round < 2; round += 1) await send('HeapProfiler.collectGarbage');
    return (await send('Runtime.getHeapUsage')).usedSize / 1e6;
  };
  const own = await collected((method) => session.send(method));
  let all = 0;
  for (const sessionId of workers.keys()) all += await collected((method) => ask(sessionId, method));
  await session.detach();
  return { page: own, workers: all };
}
