// What the drivers of a real Chromium share: the program with its flags, and a server of the pages that it opens.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const CLIENT = new URL('../../clients/js/dist/', import.meta.url);

/** Starts this program without a window. */
export const launch = (executablePath) => chromium.launch({ executablePath, headless: true, args: FLAGS });

/** Serves what `answer` gives for a path, `{ type, body }`, and 404 where it fails. The address, without a slash at its end. */
export async function serve(answer) {
  const server = createServer(async (request, response) => {
    try {
      const { type, body } = await answer(new URL(request.url, 'http://page').pathname);
      response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  // It ends with the driver, and keeps none from ending.
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/** A file of a folder. */
export async function file(name, folder) {
  return { type: TYPES[extname(name)] ?? 'application/octet-stream', body: await readFile(fileURLToPath(new URL(name, folder))) };
}

/** An empty page at `/`, and the built client below `/tailrace/`. */
export async function emptyWithClient(path) {
  if (path === '/') return { type: 'text/html', body: '<!doctype html><title>A page with the client</title>' };
  return file(path.replace(/^\/tailrace\//, './'), CLIENT);
}
