// A live query of the client in a real Chromium.
//
// A Rust test drives it (tests/tests/live_query.rs). Environment: TAILRACE_CHROMIUM (the program), TAILRACE_STREAM (the
// stream's address, whose definition allows a snapshot), TAILRACE_TOKEN (a bearer token), and TAILRACE_AVARS (JSON). It prints
// each state as a line of JSON: `{"status", "documents"}`. The end of its input ends it.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const { TAILRACE_CHROMIUM: executablePath, TAILRACE_STREAM: stream, TAILRACE_TOKEN: token } = process.env;
if (!executablePath || !stream) throw new Error('TAILRACE_CHROMIUM and TAILRACE_STREAM are not set: run `cargo xtask test live_query`');
const avars = JSON.parse(process.env.TAILRACE_AVARS ?? '{}');

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const CLIENT = new URL('../../clients/js/dist/', import.meta.url);

/** The page's own server: an empty page, and the client. */
const site = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://page').pathname;
  try {
    if (path === '/') return response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>A list</title>');
    const file = await readFile(fileURLToPath(new URL(path.replace(/^\/tailrace\//, './'), CLIENT)));
    response.writeHead(200, { 'content-type': 'text/javascript' }).end(file);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));

const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });
const page = await browser.newPage();
page.on('pageerror', (error) => console.error(error.stack));
await page.exposeFunction('tell', (state) => console.log(JSON.stringify(state)));
await page.goto(`http://127.0.0.1:${site.address().port}/`);
await page.evaluate(follow, { stream, token, avars });

for await (const _ of createInterface({ input: process.stdin }));
await browser.close();
process.exit(0);

/** Runs in the page. */
async function follow({ stream, token, avars }) {
  const { liveQuery } = await import('/tailrace/live-query.js');
  const query = liveQuery(stream, { token, avars, snapshot: true });
  const tell = () => {
    const { status, documents, error } = query.state;
    globalThis.tell({ status, documents, error: error && String(error) });
  };
  query.subscribe(tell);
  tell();
}
