import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collect, open, opened, server, types } from './streams.js';
import { until } from './until.js';

test('a stream that continues after 4001 says that another view may have begun, and after a broken line does not', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  for (const code of [4001, 1006]) {
    server.cut(code);
    await until('it is back', () => server.clients.size === 1 && stream.state.name === 'open');
  }
  await until('it was told', () => seen.items.length === 3);
  assert.deepEqual(seen.items.map((item) => item.type === 'ready' && [item.resumed, item.changed]), [
    [false, undefined],
    [true, true],
    [true, undefined],
  ]);
});

test('a stream that comes back to another view says so once, and names it', async () => {
  server.view = 'one';
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  for (const view of ['one', 'other', 'other', 'one']) {
    server.cut();
    server.view = view;
    await until('it is back', () => server.clients.size === 1 && stream.state.name === 'open');
  }
  await until('it was told', () => seen.items.length === 5);
  assert.deepEqual(seen.items, [
    { type: 'ready', position: 'p0', view: 'one', resumed: false },
    { type: 'ready', position: 'p0', view: 'one', resumed: true },
    { type: 'ready', position: 'p0', view: 'other', resumed: true, changed: true },
    { type: 'ready', position: 'p0', view: 'other', resumed: true },
    { type: 'ready', position: 'p0', view: 'one', resumed: true, changed: true },
  ]);
});

test('with a snapshot there is another one of another view, and nothing of the connection that told of it', async () => {
  server.view = 'one';
  server.snapshot = [{ _id: 'a' }];
  const stream = open({ snapshot: true });
  const seen = collect(stream);
  await until('it is whole', () => types(seen.items).includes('snapshotEnd'));
  const states: string[] = [];
  stream.on('state', ({ name }) => states.push(name));
  server.cut();
  server.view = 'other';
  server.publish();
  await until('it is whole again', () => types(seen.items).filter((type) => type === 'snapshotEnd').length === 2);
  assert.deepEqual(types(seen.items).slice(3), ['gap', 'ready', 'snapshot', 'snapshotEnd']);
  assert.deepEqual(seen.items[4], { type: 'ready', position: undefined, view: 'other', resumed: false });
  assert.deepEqual(
    server.handshakes.map(({ url }) => [url.searchParams.get('resumeAfter'), url.searchParams.get('snapshot')]),
    [[null, 'true'], ['p0', null], [null, 'true']],
  );
  assert.deepEqual(states, ['waiting', 'connecting', 'connecting', 'open']);
  server.cut();
  server.publish();
  await until('it continues behind it', () => seen.numbers.length === 1);
  assert.deepEqual(seen.numbers, [2]);
});

for (const [kept, told, changed] of [
  ['one', 'one', undefined],
  ['one', 'other', true],
  [undefined, 'other', undefined],
  ['one', undefined, undefined],
  ['one', { of: 'another type' }, undefined],
] as const) {
  test(`a position that was kept beside the view ${kept} continues ${JSON.stringify(told)}: changed ${changed}`, async () => {
    server.view = told;
    const seen = collect(open({ resumeAfter: 'p0', view: kept }));
    await until('it is open', () => seen.items.length === 1);
    const [ready] = seen.items;
    assert.ok(ready?.type === 'ready' && ready.resumed);
    assert.equal(ready.changed, changed);
    assert.equal(ready.view, typeof told === 'string' ? told : undefined);
  });
}

test('a view is remembered over a gap, and over a server that does not say which it shows', async () => {
  server.view = 'one';
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.client.say({ type: 'gap', reason: 'history lost', position: 'p0' });
  for (const view of [undefined, 'other']) {
    server.cut();
    server.view = view;
    await until('it is back', () => server.clients.size === 1 && stream.state.name === 'open');
  }
  await until('it was told', () => seen.items.length === 5);
  const readies = seen.items.filter((item) => item.type === 'ready');
  assert.deepEqual(readies.map(({ view, resumed, changed }) => [view, resumed, changed]), [
    ['one', false, undefined],
    ['one', false, undefined],
    [undefined, true, undefined],
    ['other', true, true],
  ]);
});

for (const code of [4001, 4401]) {
  test(`after ${code} a stream that comes back to the view of before has not changed`, async () => {
    server.view = 'one';
    const stream = open();
    const seen = collect(stream);
    await opened(stream);
    server.cut(code);
    await until('it is back', () => seen.items.length === 2);
    assert.deepEqual(seen.items[1], { type: 'ready', position: 'p0', view: 'one', resumed: true });
  });
}

test('credentials that ran out need no other snapshot of the same view, and one of another', async () => {
  server.view = 'one';
  server.snapshot = [{ _id: 'a' }];
  const seen = collect(open({ snapshot: true, token: () => 'token' }));
  await until('it is whole', () => types(seen.items).includes('snapshotEnd'));
  server.cut(4401, 'credentials expired');
  server.publish();
  await until('it continues', () => seen.numbers.length === 1);
  assert.deepEqual(types(seen.items).slice(3), ['ready', 'event']);
  server.cut(4401, 'credentials expired');
  server.view = 'other';
  await until('it is whole again', () => seen.items.length === 9);
  assert.deepEqual(types(seen.items).slice(5), ['gap', 'ready', 'snapshot', 'snapshotEnd']);
});
