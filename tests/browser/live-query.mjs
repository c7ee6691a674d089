// A live query of the client in a real Chromium.
//
// A Rust test drives it (tests/tests/live_query.rs). Environment: TAILRACE_CHROMIUM (the program), TAILRACE_STREAM (the
// stream's address, whose definition allows a snapshot), TAILRACE_TOKEN (a bearer token), and TAILRACE_AVARS (JSON). It prints
// each state as a line of JSON: `{"status", "documents"}`. The end of its input ends it.

import { createInterface } from 'node:readline';
import { emptyWithClient, launch, serve } from './page.mjs';

const { TAILRACE_CHROMIUM: executablePath, TAILRACE_STREAM: stream, TAILRACE_TOKEN: token } = process.env;
if (!executablePath || !stream) throw new Error('TAILRACE_CHROMIUM and TAILRACE_STREAM are not set: run `cargo xtask test live_query`');
const avars = JSON.parse(process.env.TAILRACE_AVARS ?? '{}');

const site = await serve(emptyWithClient);
const browser = await launch(executablePath);
const page = await browser.newPage();
page.on('pageerror', (error) => console.error(error.stack));
await page.exposeFunction('tell', (state) => console.log(JSON.stringify(state)));
await page.goto(`${site}/`);
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
