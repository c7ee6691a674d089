import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, before, beforeEach, test } from 'node:test';
import ts from 'typescript';
import { FakeServer } from './fake-server.js';
import { until } from './until.js';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const folder = fileURLToPath(new URL('./readme/', import.meta.url));
const examples = new Map<string, string>();
const scenarios = new Set<string>();

/** What a browser has and Node 20 has not. */
const PRELUDE = `
import * as ws from 'ws';
globalThis.WebSocket ??= ws.WebSocket;
globalThis.localStorage ??= { getItem: () => 'p1', setItem: (name, value) => console.log(name, value) };
`;

let server: FakeServer;
let child: ChildProcess | undefined;
let said = '';

before(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [, name, language, code] of readme.matchAll(/<!-- run: ([\w-]+) -->\n```(tsx?)\n([^]*?)```/g)) {
    const file = `${folder}${name}.${language}`;
    writeFileSync(file, code!);
    examples.set(name!, file);
  }
});

beforeEach(async () => {
  server = await FakeServer.start();
  said = '';
});

afterEach(async () => {
  child?.kill();
  await server.stop();
});

/** Runs an example against the fake server; what it prints is in `said`. */
function run(name: string, more = ''): void {
  scenarios.add(name);
  const source = readFileSync(examples.get(name)!, 'utf8');
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, jsx: ts.JsxEmit.ReactJSX },
  });
  const here = `127.0.0.1:${server.port}`;
  const code = outputText
    .replace(/wss:\/\/api\.example\.com/g, `ws://${here}`)
    .replace(/https:\/\/(api|login)\.example\.com/g, `http://${here}`);
  writeFileSync(`${folder}${name}.mjs`, `import './prelude.mjs';\n${code}\n${more}`);
  writeFileSync(`${folder}prelude.mjs`, PRELUDE);
  child = spawn(process.execPath, [`${folder}${name}.mjs`], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout?.on('data', (data) => (said += data));
  child.stderr?.on('data', (data) => (said += data));
}

const open = () => until(`it is open: ${said}`, () => server.clients.size === 1);

async function says(text: string): Promise<void> {
  await until(`it says ${text}`, () => said.includes(text)).catch((error: Error) => {
    throw new Error(`${error.message}, it said:\n${said}`);
  });
}

test('every example of the README has the right types', () => {
  assert.ok(examples.size >= 10);
  const root = dirname(fileURLToPath(new URL('../package.json', import.meta.url)));
  const { config } = ts.readConfigFile(`${root}/tsconfig.json`, (path) => readFileSync(path, 'utf8'));
  // With an output folder TypeScript takes the package's own files there for the examples.
  const { outDir, rootDir, declaration, ...rest } = config.compilerOptions;
  const { options } = ts.convertCompilerOptionsFromJson(rest, root);
  const program = ts.createProgram([...examples.values()], {
    ...options,
    types: ['node'],
    noEmit: true,
    jsx: ts.JsxEmit.ReactJSX,
  });
  const faults = ts.getPreEmitDiagnostics(program).map((fault) => {
    const line = fault.file && ts.getLineAndCharacterOfPosition(fault.file, fault.start ?? 0).line + 1;
    return `${fault.file?.fileName}:${line} ${ts.flattenDiagnosticMessageText(fault.messageText, ' ')}`;
  });
  assert.deepEqual(faults, []);
});

test('watch', async () => {
  run('watch');
  await open();
  server.publish({ fullDocument: { message: 'hello' } });
  await says('insert hello');
  server.client.say({ type: 'gap', reason: 'history lost', position: 'p1' });
  await says('events were lost: history lost');
});

test('listeners', async () => {
  run('listeners', `setTimeout(() => controller.abort(), 1000);`);
  await open();
  assert.equal(server.client.url.searchParams.get('avars'), '{"room":"lobby"}');
  server.publish({ fullDocument: { message: 'hello' } });
  await says(`{ message: 'hello' }`);
  await says('closed');
});

test('node', async () => {
  run('node');
  await says('ready');
});

test('token', async () => {
  server.pages['/token'] = { token: 'fresh' };
  run('token');
  await open();
  assert.equal(server.client.token, 'fresh');
  server.publish();
  await says('_id: 1');
});

test('position', async () => {
  server.publish();
  server.publish();
  run('position');
  await says('position p2');
  assert.ok(!said.includes('_id: 1 '));
});

test('refused', async () => {
  server.refuse = () => ({ status: 400, exception: 'QueryVariableNotBoundException', message: 'variable room not bound' });
  run('refused');
  await says('400 QueryVariableNotBoundException variable room not bound');
});

test('live-query', async () => {
  server.snapshot = [{ _id: 1, title: 'B' }];
  run('live-query');
  await says('live B');
  server.publish({ documentKey: { _id: 2 }, fullDocument: { _id: 2, title: 'A' } });
  await says('live A, B');
});

test('load', async () => {
  server.pages['/tasks'] = [{ _id: 1 }, { _id: 2 }];
  run('load');
  await says('live 2');
});

test('react', async () => {
  server.snapshot = [{ _id: 1, title: 'A' }];
  const { greet } = server;
  server.greet = (client) => void says('Loading…').then(() => greet(client));
  run(
    'react',
    `import { createElement } from 'react';
    import { create } from 'react-test-renderer';
    console.error = () => {};
    const root = create(createElement(Tasks, { list: 'home' }));
    setInterval(() => console.log(JSON.stringify(root.toJSON())), 20);`,
  );
  await says('{"type":"ul","props":{},"children":[{"type":"li","props":{},"children":["A"]}]}');
});

test('realm', async () => {
  run('realm');
  await open();
  assert.equal(server.client.url.pathname, '/shop/plants/_streams/perennials');
  server.publish({ fullDocument: { name: 'fern' } });
  await says('insert plants fern');
  await until('the loop closed the stream', () => server.clients.size === 0);
});

test('every example of the README was run', () => {
  assert.deepEqual([...examples.keys()].filter((name) => !scenarios.has(name)), []);
});
