// The page of the README, as it stands there, in a real Chromium.
//
// A Rust test drives it (tests/tests/documentation_example.rs). Environment: TAILRACE_CHROMIUM (the program), and
// TAILRACE_API_URL (what stands for `http://127.0.0.1:8080`, as `http://host:port/db`). It writes `hello` to the page's
// stream until the page shows it, and then prints `shown`.

import { readFile } from 'node:fs/promises';
import { file, launch, serve } from './page.mjs';

const { TAILRACE_API_URL: api, TAILRACE_CHROMIUM: executablePath } = process.env;
if (!api || !executablePath) throw new Error('TAILRACE_API_URL and TAILRACE_CHROMIUM are not set: run `cargo xtask test readme`');

const root = new URL('../../', import.meta.url);
const readme = await readFile(new URL('README.md', root), 'utf8');
const [, name] = readme.match(/Save this page as `([^`]+)`/);
const [, page] = readme.match(/```html\n([^]*?)```/);

// The root of the repository is served, with the page in it.
const site = await serve((path) => {
  if (path === `/${name}`) return { type: 'text/html', body: page.replace('ws://127.0.0.1:8080', api.replace(/^http/, 'ws')) };
  return file(path.slice(1), root);
});
const browser = await launch(executablePath);
try {
  const tab = await browser.newPage();
  tab.on('pageerror', (error) => console.error(error.stack));
  await tab.goto(`${site}/${name}`);
  // The page does not tell when its stream is open.
  const list = tab.locator('#list', { hasText: 'hello' });
  const deadline = Date.now() + 60_000;
  do {
    await fetch(`${api}/messages`, { method: 'POST', body: JSON.stringify({ name: 'uji', message: 'hello' }) });
    await list.waitFor({ timeout: 1_000 }).catch(() => {});
  } while (!(await list.count()) && Date.now() < deadline);
  console.log((await list.count()) ? 'shown' : 'nothing is shown');
} finally {
  await browser.close();
}
process.exit(0);
