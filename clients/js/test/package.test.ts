import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { test } from 'node:test';
import { build } from 'esbuild';

const root = new URL('../', import.meta.url);
const manifest = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'));
const entries = Object.entries<{ types: string; default: string }>(manifest.exports);

async function bundled(file: string): Promise<number> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(file, root))],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    external: ['react'],
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

test('each entry, with all that it needs, stays under 6 KB after minify and gzip', async (t) => {
  for (const [name, { default: file }] of entries) {
    const bytes = await bundled(file);
    t.diagnostic(`${name}: ${bytes} bytes`);
    assert.ok(bytes < 6 * 1024, `${name} is ${bytes} bytes`);
  }
});

test('it depends on nothing, and only the React entry names another package', () => {
  assert.equal(manifest.dependencies, undefined);
  for (const [name, { default: file }] of entries) {
    const code = readFileSync(new URL(file, root), 'utf8');
    const imported = [...code.matchAll(/from '([^.'][^']*)'/g)].map(([, from]) => from);
    assert.deepEqual(imported, name === './react' ? ['react'] : [], name);
  }
});

test('every entry has types, and a file of its own', () => {
  for (const [, { types, default: file }] of entries) {
    assert.ok(readFileSync(new URL(types, root), 'utf8'));
    assert.equal(types, file.replace(/js$/, 'd.ts'));
  }
  assert.equal(new Set(entries.map(([, { default: file }]) => file)).size, entries.length);
});

test('the lock file names no address of a registry', () => {
  assert.doesNotMatch(readFileSync(new URL('package-lock.json', root), 'utf8'), /"resolved"/);
});
