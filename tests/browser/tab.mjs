// A tab of a real Chromium, in which the client follows a stream of numbers.
//
// A Rust test drives it (tests/src/tab.rs). Environment: TAILRACE_CHROMIUM (the program), TAILRACE_STREAM (the stream's
// address), and TAILRACE_TOKENS (`{"secret","audience","seconds","late"}`, for a server that wants tokens; optional). Commands come
// as lines on standard input; each is answered by a line of JSON when it is done. The end of the input ends it.

import { createHmac } from 'node:crypto';
import { createInterface } from 'node:readline';
import { emptyWithClient, launch, serve } from './page.mjs';

const { TAILRACE_CHROMIUM: executablePath, TAILRACE_STREAM: stream, TAILRACE_TOKENS: tokens } = process.env;
if (!executablePath || !stream) throw new Error('TAILRACE_CHROMIUM and TAILRACE_STREAM are not set: run `cargo xtask test chromium`');

// Where one logs in, too.
const site = await serve(async (path) => (path === '/token' ? { type: 'text/plain', body: token() } : emptyWithClient(path)));

/** One that is good for a few seconds (RFC 7519; HS256). */
function token() {
  const { secret, audience, seconds } = JSON.parse(tokens);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  // `exp` is in whole seconds: rounded up, so that a short life is not a shorter one.
  const claims = { sub: 'a tab', aud: audience, exp: Math.ceil(Date.now() / 1000) + seconds };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

const browser = await launch(executablePath);
const devtools = await browser.newBrowserCDPSession();
const context = await browser.newContext();
const page = await context.newPage();
page.on('pageerror', (error) => console.error(error.stack));
await page.goto(`${site}/`);
await page.evaluate(follow, { stream, tokens: tokens && JSON.parse(tokens) });

/** Runs in the page. */
async function follow({ stream, tokens }) {
  const { watch } = await import('/tailrace/index.js');
  const seen = { numbers: [], opened: 0, asked: 0, refreshed: 0, told: [], waits: {}, longest: 0 };
  let last = Date.now();
  const source = async ({ refresh }) => {
    seen.asked += 1;
    seen.refreshed += Number(refresh);
    if (tokens.late && refresh && seen.refreshed % 2) throw new Error('nobody is there to log in');
    return (await fetch('/token')).text();
  };
  const watched = watch(stream, tokens ? { token: source } : {});
  watched.on('state', ({ name, error }) => {
    if (name === 'open') seen.opened += 1;
    if (name === 'waiting') seen.waits[error.message] = (seen.waits[error.message] ?? 0) + 1;
  });
  watched.on('event', ({ event: { fullDocument } }) => {
    const now = Date.now();
    seen.longest = Math.max(seen.longest, now - last);
    last = now;
    // MongoDB's driver wrote microseconds.
    seen.numbers.push([fullDocument.n, Math.max(0, now * 1000 - fullDocument.at)]);
  });
  watched.on('gap', ({ reason }) => seen.told.push(`gap: ${reason}`));
  watched.on('error', ({ code }) => seen.told.push(`error: ${code}`));
  watched.on('end', (error) => seen.told.push(`end: ${error}`));
  globalThis.look = () => {
    const { numbers } = seen;
    seen.numbers = [];
    return { ...seen, numbers };
  };
  await new Promise((resolve) => watched.on('ready', resolve));
}

/**
 * Signals the processes that run pages. DevTools' own `Page.setWebLifecycleState` goes on running a page that is visible, as
 * every page without a window is.
 */
async function signal(name) {
  const { processInfo } = await devtools.send('SystemInfo.getProcessInfo');
  const pages = processInfo.filter(({ type }) => type === 'renderer');
  if (!pages.length) throw new Error('no process runs pages');
  for (const { id } of pages) process.kill(id, name);
}

const COMMANDS = {
  offline: () => context.setOffline(true),
  online: () => context.setOffline(false),
  freeze: () => signal('SIGSTOP'),
  thaw: () => signal('SIGCONT'),
  look: () => page.evaluate(() => globalThis.look()),
};

console.log('{}');
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify((await COMMANDS[line]()) ?? {}));
}
await browser.close();
process.exit(0);
