/** The packed dashboard over a mesh that does not exist, with the headers of a real control plane; and the ways in which one fails. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { gzipSync } from 'node:zlib';

import { releases, wish } from '../../dashboard/fixtures/releases.mjs';
import { isAnswer } from '../../dashboard/fixtures/server.mjs';
import { answers, make } from './mesh.mjs';

const DIST = new URL('../../dashboard/dist/', import.meta.url);
const SOURCE = new URL('../../control-plane/src/console/files.rs', import.meta.url);
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

/** `doors`: what it does; tests change it. `asked`: paths in the order in which they came; `said`: what came with the last; `wished`: what was to be done. */
export async function serve() {
  const mesh = make();
  const doors = { token: undefined, forbidden: undefined, gone: false, refused: undefined, unreleased: false };
  const asked = [];
  const wished = [];
  const said = { token: undefined };
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    if (isAnswer(url.pathname)) return told(request, response, url);
    serveFile(response, url.pathname).catch(() => response.writeHead(404, { 'content-type': 'text/plain' }).end('there is no such page\n'));
  });

  function told(request, response, url) {
    asked.push(url.pathname + url.search);
    said.token = request.headers.authorization;
    if (doors.gone) return request.socket.destroy();
    const says = (status, text) => response.writeHead(status, { 'content-type': 'text/plain' }).end(`${text}\n`);
    if (doors.token && request.headers.authorization !== `Bearer ${doors.token}`) return says(401, 'the token is missing, or is not good any more: sign in again');
    if (doors.forbidden) return says(403, doors.forbidden);
    if (request.method === 'POST') {
      wished.push({ path: url.pathname + url.search, token: request.headers.authorization });
      if (doors.refused) return says(...doors.refused);
      const { status, body } = wish(url);
      return typeof body === 'string' ? says(status, body) : response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    }
    const found = url.pathname !== '/releases' ? answers(mesh, url, Date.now() / 1000) : doors.unreleased ? { items: [] } : releases(url);
    if (found === undefined) return says(404, `there is no ${url.pathname}`);
    const zipped = gzipSync(JSON.stringify(found), { level: 1 });
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip', 'cache-control': 'no-store' }).end(zipped);
  }

  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${server.address().port}/dashboard/`;
  return { base, mesh, doors, asked, said, wished, close: () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())) };
}

/** The policy that the control plane really sends. */
const policy = /const POLICY: &str = "([^"]*)"/.exec(await readFile(SOURCE, 'utf8'))?.[1]?.replace(/\\\n\s*/g, '');
if (!policy?.includes("default-src 'none'")) throw new Error(`${SOURCE.pathname}: where is the POLICY?`);

/** A file of the dashboard. */
export async function serveFile(response, path) {
  const name = path.replace('/dashboard/', '') || 'index.html';
  if (name.includes('..')) throw new Error('no');
  const body = await readFile(new URL(`${name}.gz`, DIST));
  response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? TYPES['.html'], 'content-encoding': 'gzip', 'content-security-policy': policy, 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' }).end(body);
}
