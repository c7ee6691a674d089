import assert from 'node:assert/strict';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { build } from 'esbuild';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { FakeServer } from './fake-server.js';
import { TcpProxy } from './tcp-proxy.js';
import { until } from './until.js';

/** Whole in a soak; else as long as it takes to see the same. */
const seconds = (whole: number, short: number) => (process.env['TAILRACE_SOAK'] ? whole : short) * 1000;

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const executablePath = process.env['TAILRACE_CHROMIUM'] ?? onPath();
const options = executablePath ? {} : { skip: 'no Chromium on PATH, and none named in TAILRACE_CHROMIUM' };

let browser: Browser;
let context: BrowserContext;
let page: Page;
let site: FakeServer;
let server: FakeServer;
let network: TcpProxy;
let writer: ReturnType<typeof setInterval>;

/** What the page has seen. */
interface Seen {
  numbers: number[];
  /** The longest time between two events, in milliseconds. */
  pause: number;
  gaps: number;
  ended: string | undefined;
  asked: boolean[];
}

function onPath(): string | undefined {
  const files = (process.env['PATH'] ?? '').split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return files.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

before(async () => {
  if (!executablePath) return;
  site = await FakeServer.start();
  site.pages['/'] = 'a page';
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
  browser = await chromium.launch({ executablePath, args: [...args, '--disable-component-update', '--disable-sync'] });
});

after(async () => {
  await browser?.close();
  await site?.stop();
});

beforeEach(async () => {
  if (!browser) return;
  server = await FakeServer.start();
  network = await TcpProxy.before(server.port);
  context = await browser.newContext();
  page = await context.newPage();
  // A page of another origin, but as local as the server: others may not reach it.
  await page.goto(`http://127.0.0.1:${site.port}/`);
  const { outputFiles } = await build({
    stdin: {
      contents: `
        import { watch } from './index.js';
        const seen = globalThis.seen = { numbers: [], pause: 0, gaps: 0, ended: undefined, asked: [] };
        const stream = globalThis.stream = watch('ws://127.0.0.1:${network.port}/numbers/_streams/all', {
          token: ({ refresh }) => (globalThis.isAnonymous ? undefined : 'token-' + seen.asked.push(refresh)),
        });
        let last = Date.now();
        stream.on('event', ({ event }) => {
          seen.numbers.push(event.fullDocument._id);
          seen.pause = Math.max(seen.pause, Date.now() - last);
          last = Date.now();
        });
        stream.on('gap', () => seen.gaps++);
        stream.on('end', (error) => (seen.ended = String(error)));`,
      resolveDir: fileURLToPath(new URL('../dist', import.meta.url)),
    },
    bundle: true,
    write: false,
    format: 'iife',
  });
  await page.addScriptTag({ content: outputFiles[0]!.text });
  await until('the stream is open', () => server.clients.size === 1);
  writer = setInterval(() => server.publish(), 5);
  await sleep(200);
});

afterEach(async () => {
  if (!browser) return;
  clearInterval(writer);
  await context.close();
  network.close();
  await server.stop();
});

const look = () => page.evaluate(() => (globalThis as unknown as { seen: Seen }).seen);

/** Ends the writing, and checks that the page saw each number once, in order. */
async function assertClean(): Promise<Seen> {
  clearInterval(writer);
  const end = Date.now() + 45_000;
  let seen = await look();
  while (seen.numbers.length < server.count && Date.now() < end) {
    await sleep(50);
    seen = await look();
  }
  assert.ok(server.count > 20);
  assert.deepEqual(seen.numbers, Array.from({ length: server.count }, (_, index) => index + 1));
  assert.equal(seen.gaps, 0);
  assert.equal(seen.ended, undefined);
  return seen;
}

test('in Chromium, Wi-Fi goes off and on: nothing is lost or doubled', options, async () => {
  for (let n = 0; n < 2; n++) {
    // DevTools leaves open sockets alone, so the network itself stops too.
    await context.setOffline(true);
    network.stall();
    await sleep(seconds(20, 2));
    network.flow();
    await context.setOffline(false);
    await sleep(seconds(5, 1));
  }
  await assertClean();
  assert.ok(server.handshakes.length >= 3);
});

test('in Chromium, a network stops without a word: nothing is lost or doubled', options, async () => {
  network.stall();
  await sleep(seconds(100, 3));
  network.flow();
  await assertClean();
  // 60 s of silence are the end of a connection.
  if (process.env['TAILRACE_SOAK']) assert.ok(network.accepted > 1);
});

/**
 * Freezes the tab: stops the processes that run pages. DevTools' own `Page.setWebLifecycleState` goes on running a page that
 * is visible, as every page without a window is.
 */
async function frozen(during: () => Promise<unknown>): Promise<void> {
  const devtools = await browser.newBrowserCDPSession();
  const { processInfo } = await devtools.send('SystemInfo.getProcessInfo');
  const pages = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
  assert.ok(pages.length);
  for (const id of pages) process.kill(id, 'SIGSTOP');
  try {
    await during();
  } finally {
    for (const id of pages) process.kill(id, 'SIGCONT');
  }
  await devtools.detach();
}

test('in Chromium, a frozen tab continues where it stood', options, async () => {
  await frozen(() => sleep(seconds(60, 4)));
  const { pause } = await assertClean();
  assert.ok(pause > seconds(59, 3), `it was frozen: ${pause} ms`);
});

test('in Chromium, a frozen tab whose connection died meanwhile continues where it stood', options, async () => {
  await frozen(async () => {
    await sleep(seconds(30, 2));
    network.cut();
    await sleep(seconds(30, 2));
  });
  const { pause } = await assertClean();
  assert.ok(pause > seconds(59, 3), `it was frozen: ${pause} ms`);
});

test('in Chromium, a server that restarts is found again', options, async () => {
  const { port } = server;
  server.cut(1001);
  await server.stop();
  await sleep(seconds(20, 2));
  await server.listen(port);
  await assertClean();
});

test('in Chromium, a token that expires is renewed, in place and after 4401', options, async () => {
  const { client } = server;
  client.say({ type: 'expiring', at: 0 });
  await until('the token has come', () => client.received.length === 1);
  assert.deepEqual(client.received, [{ type: 'auth', token: 'token-2' }]);
  server.cut(4401);
  await until('it is back', () => server.clients.size === 1);
  await sleep(100);
  const seen = await assertClean();
  assert.deepEqual(seen.asked, [false, true, true]);
  assert.equal(server.client.token, 'token-3');
});

test('in Chromium, which ends a handshake that answers no sub-protocol, a server without them is followed', options, async () => {
  await page.evaluate(() => Object.assign(globalThis, { isAnonymous: true }));
  server.knowsProtocols = false;
  server.cut();
  await until('it is back', () => server.clients.size === 1);
  await assertClean();
  assert.deepEqual(server.handshakes.slice(1).map(({ protocols }) => protocols.length > 1), [true, true, false, false]);
});

test('in Chromium, a refused handshake is explained by a plain GET, from another origin', options, async () => {
  server.refuse = () => ({ status: 404, message: 'Change Stream does not exist' });
  server.cut();
  const end = Date.now() + 10_000;
  while (!(await look()).ended && Date.now() < end) await sleep(50);
  assert.equal((await look()).ended, 'RefusedError: Change Stream does not exist');
});
