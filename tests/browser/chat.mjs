// The web chat in a real Chromium: two pages, and a backend that goes away and comes back.
//
// A Rust test drives it (tests/tests/chat.rs), which restarts the backend. Environment: TAILRACE_API_URL (the database, as
// `http://host:port/db`), TAILRACE_CHROMIUM (the program), and TAILRACE_SCREENSHOT (a PNG to write; optional). It prints
// `restart` when the backend is to be restarted, waits for a line on its standard input, and prints `done` when all held.

import { writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { file, launch, serve } from './page.mjs';

const { TAILRACE_API_URL: api, TAILRACE_CHROMIUM: executablePath, TAILRACE_SCREENSHOT: screenshot } = process.env;
if (!api || !executablePath) throw new Error('TAILRACE_API_URL and TAILRACE_CHROMIUM are not set: run `cargo xtask test chat`');

/** A message is shown within a second. */
const SHOWN_WITHIN = 1_000;
/** Reconnecting waits for the backend, and for a jittered pause. */
const BACK_WITHIN = 40_000;

const folder = new URL('../../examples/chat/', import.meta.url);
const site = await serve((path) => file(path.slice(1) || 'index.html', folder));
const address = `${site}/?api=${encodeURIComponent(api)}`;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const browser = await launch(executablePath);
try {
  const uji = await join('Uji', { width: 880, height: 720 });
  const noor = await join('Noor', { width: 390, height: 720 }, true);
  await write(uji, 'Did the order from Lisbon arrive?');
  await shown(noor, 'Did the order from Lisbon arrive?', SHOWN_WITHIN);
  await write(noor, 'Yes, this morning. Twelve boxes.');
  await shown(uji, 'Yes, this morning. Twelve boxes.', SHOWN_WITHIN);

  console.log('restart');
  await lines.next();
  for (const page of [uji, noor]) {
    await page.locator('#state[data-state=open]').waitFor({ timeout: BACK_WITHIN });
    await shown(page, 'Written while the server was away.', BACK_WITHIN);
  }
  await write(uji, 'Good. Then I will tell the shop.');
  await shown(noor, 'Good. Then I will tell the shop.', SHOWN_WITHIN);
  await write(noor, 'I told them already: your message was here at once.');
  await shown(uji, 'I told them already: your message was here at once.', SHOWN_WITHIN);
  for (const page of [uji, noor]) await once(page, 'Written while the server was away.');
  if (screenshot) await picture(uji, noor, screenshot);
  console.log('done');
} finally {
  await browser.close();
}
process.exit(0);

async function join(name, viewport, phone = false) {
  const context = await browser.newContext({ viewport, deviceScaleFactor: 2, isMobile: phone, hasTouch: phone, reducedMotion: 'reduce' });
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`${name}: ${error.stack}`));
  await page.goto(address);
  await page.locator('#name').fill(name);
  await page.locator('#join-go').click();
  await page.locator('#state[data-state=open]').waitFor({ timeout: BACK_WITHIN });
  return page;
}

async function write(page, text) {
  await page.locator('#text').fill(text);
  await page.locator('#text').press('Enter');
}

async function shown(page, text, within) {
  await page.locator('#messages').getByText(text).first().waitFor({ timeout: within });
}

/** Read again after the reconnect and brought by the stream, it is one message all the same. */
async function once(page, text) {
  const count = await page.locator('#messages').getByText(text).count();
  if (count !== 1) throw new Error(`"${text}" is shown ${count} times, expected once`);
}

async function picture(desktop, phone, path) {
  const images = [];
  for (const page of [desktop, phone]) images.push((await page.screenshot()).toString('base64'));
  const page = await browser.newPage({ viewport: { width: 1400, height: 800 }, deviceScaleFactor: 1 });
  const [left, right] = images.map((data) => `<img src="data:image/png;base64,${data}">`);
  await page.setContent(`<style>
    body { margin: 0; height: 800px; display: flex; gap: 36px; align-items: center; justify-content: center; background: #dfe7e5; }
    img { height: 720px; border-radius: 14px; box-shadow: 0 18px 50px rgb(20 40 40 / 25%); }
  </style>${left}${right}`);
  await writeFile(path, await page.screenshot());
}
