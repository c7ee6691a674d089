import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { liveQuery, type LiveQuery, type LiveQueryOptions } from 'tailrace/live-query';
import { WebSocket } from 'ws';
import { FakeServer } from './fake-server.js';
import { until } from './until.js';

interface Task {
  _id: unknown;
  title?: string;
  tags?: string[];
  by?: { name: string };
}

let server: FakeServer;
let query: LiveQuery<Task> | undefined;

beforeEach(async () => {
  server = await FakeServer.start();
});

afterEach(async () => {
  query?.close();
  await server.stop();
});

function open<Complete extends boolean = false>(options: LiveQueryOptions<Task, Complete> = {}): LiveQuery<Task, Complete> {
  const opened = liveQuery<Task, Complete>(server.url, { WebSocket, ...options });
  query = opened;
  return opened;
}

const titles = (live: LiveQuery<Task>) => live.state.documents.map(({ title }) => title);
const live = (query: LiveQuery<Task>) => until('it is live', () => query.state.status === 'live' && server.clients.size > 0);

function insert(_id: unknown, title: string): void {
  server.publish({ operationType: 'insert', documentKey: { _id }, fullDocument: { _id, title } });
}

test('the snapshot and the changes behind it make the collection', async () => {
  server.snapshot = [{ _id: { $oid: 'a' }, title: 'A' }, { _id: 2, title: 'B' }];
  const tasks = open({ snapshot: true });
  assert.deepEqual(tasks.state, { documents: [], status: 'loading', complete: false });
  await live(tasks);
  insert('2', 'C');
  server.publish({ operationType: 'replace', documentKey: { _id: 2 }, fullDocument: { _id: 2, title: 'B2' } });
  server.publish({ operationType: 'delete', documentKey: { _id: { $oid: 'a' } }, fullDocument: null });
  await until('the changes are in', () => titles(tasks).length === 2 && titles(tasks)[0] === 'B2');
  assert.deepEqual(titles(tasks), ['B2', 'C']);
  assert.equal(tasks.get('2')?.title, 'C');
  assert.equal(tasks.get(2)?.title, 'B2');
});

test('documents of before are shown until a new snapshot is whole', async () => {
  server.snapshot = [{ _id: 1, title: 'A' }];
  const tasks = open({ snapshot: true });
  await live(tasks);
  const seen = new Set<string>();
  tasks.subscribe(() => seen.add(`${tasks.state.status} ${titles(tasks)}`));
  server.snapshot = [{ _id: 2, title: 'B' }];
  server.cut(4004);
  await until('it is stale, then live', () => titles(tasks)[0] === 'B');
  await until('it was told', () => seen.size === 2 || seen.has('live B'));
  assert.ok(!seen.has('stale ') && !seen.has('live '), [...seen].join());
});

test('load reads when the stream is open, and again after a gap; what fails is tried again', async () => {
  let loads = 0;
  const tasks = open({
    load: async () => {
      assert.equal(server.clients.size, 1);
      if (++loads === 1) throw new Error('not now');
      return [{ _id: 1, title: `load ${loads}` }];
    },
  });
  await until('the failure is told', () => tasks.state.error instanceof Error);
  await live(tasks);
  assert.equal(tasks.state.error, undefined);
  assert.deepEqual(titles(tasks), ['load 2']);
  server.client.say({ type: 'gap', reason: 'lost', position: 'p0' });
  await until('it has loaded again', () => titles(tasks)[0] === 'load 3');
});

for (const [code, reason] of [[4001, 'the definition changed'], [4401, 'credentials expired']] as const) {
  test(`after ${code} a document that is not in view any more goes, though the stream continues`, async () => {
    let inView: Task[] = [{ _id: 1, title: 'A' }, { _id: 2, title: 'B' }];
    const tasks = open({ token: () => 'token', load: async () => inView });
    await live(tasks);
    inView = [{ _id: 2, title: 'B' }];
    server.cut(code, reason);
    await until('it has loaded again', () => titles(tasks).join() === 'B' && tasks.state.status === 'live');
    assert.equal(server.handshakes[1]?.url.searchParams.get('resumeAfter'), 'p0');
  });

  test(`after ${code} there is another snapshot`, async () => {
    server.snapshot = [{ _id: 1, title: 'A' }, { _id: 2, title: 'B' }];
    const tasks = open({ token: () => 'token', snapshot: true });
    await live(tasks);
    const seen: string[] = [];
    tasks.subscribe(() => seen.push(`${tasks.state.status} ${titles(tasks)}`));
    server.snapshot = [{ _id: 2, title: 'B' }];
    server.cut(code, reason);
    await until('it is shown', () => titles(tasks).join() === 'B');
    await until('it was told', () => seen.includes('live B'));
    assert.deepEqual(seen.filter((state) => !/^((live|stale) A,B|live B)$/.test(state)), []);
  });
}

test('documents that went out of view while the client was away go, though the stream continues', async () => {
  server.view = 'one';
  let inView: Task[] = [{ _id: 1, title: 'A' }, { _id: 2, title: 'B' }];
  const tasks = open({ load: async () => inView });
  await live(tasks);
  inView = [{ _id: 2, title: 'B' }];
  server.cut();
  server.view = 'other';
  await until('it has loaded again', () => titles(tasks).join() === 'B' && tasks.state.status === 'live');
  assert.equal(server.handshakes[1]?.url.searchParams.get('resumeAfter'), 'p0');
});

test('another view than before the client was away is shown by another snapshot, and never mixed with the old one', async () => {
  server.view = 'one';
  server.snapshot = [{ _id: 'a', title: 'A' }, { _id: 'b', title: 'B' }];
  const tasks = open({ snapshot: true });
  await live(tasks);
  const seen: string[] = [];
  tasks.subscribe(() => seen.push(`${tasks.state.status} ${titles(tasks)}`));
  server.snapshot = [{ _id: 'b', title: 'B' }, { _id: 'c', title: 'C' }];
  server.cut();
  server.view = 'other';
  insert('c', 'C');
  await until('it is shown', () => titles(tasks).join() === 'B,C');
  await until('it was told', () => seen.includes('live B,C'));
  assert.deepEqual(seen.filter((state) => !/^((live|stale) A,B|live B,C)$/.test(state)), []);
});

test('documents that cannot be loaded again after 4001 stay stale', async () => {
  const tasks = open();
  await live(tasks);
  insert(1, 'A');
  await until('it is in', () => titles(tasks).length === 1);
  server.cut(4001);
  await until('it is back', () => server.handshakes.length === 2 && server.clients.size === 1);
  await until('they are stale', () => tasks.state.status === 'stale');
});

test('after an event that cannot be computed the documents are loaded again, once for many of them', async () => {
  let loads = 0;
  const tasks = open({ load: async () => [{ _id: 1, title: `load ${++loads}` }] });
  await live(tasks);
  const seen = new Set<string>();
  tasks.subscribe(() => seen.add(tasks.state.status));
  for (let n = 0; n < 100; n++) server.tell({ type: 'error', code: 16020 });
  await until('it is loaded again', () => titles(tasks)[0] === 'load 2' && tasks.state.status === 'live');
  insert(2, 'B');
  await until('events follow', () => titles(tasks).length === 2);
  assert.equal(loads, 2);
  assert.ok(!seen.has('closed') && !seen.has('loading'), [...seen].join());
});

test('after an event that cannot be computed there is another snapshot, which stale documents wait for', async () => {
  server.snapshot = [{ _id: 1, title: 'A' }];
  const tasks = open({ snapshot: true });
  await live(tasks);
  server.snapshot = [{ _id: 1, title: 'A2' }];
  server.tell({ type: 'error', code: 16020 });
  await until('they are stale', () => tasks.state.status === 'stale');
  assert.deepEqual(titles(tasks), ['A']);
  await until('the other one is shown', () => titles(tasks)[0] === 'A2' && tasks.state.status === 'live');
  await until('one connection is left', () => server.clients.size === 1);
});

test('a query that is closed while it waits to load again opens nothing any more', async () => {
  const tasks = open({ load: async () => [] });
  await live(tasks);
  server.tell({ type: 'error', code: 16020 });
  await until('it is stale', () => tasks.state.status === 'stale');
  tasks.close();
  await until('it is closed', () => tasks.state.status === 'closed');
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(server.handshakes.length, 1);
});

test('events wait while the documents are loaded', async () => {
  let loaded: (documents: Task[]) => void = () => {};
  const tasks = open({ load: () => new Promise((resolve) => (loaded = resolve)) });
  await until('it is open', () => server.clients.size === 1);
  insert(1, 'new');
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(tasks.state.documents, []);
  loaded([{ _id: 1, title: 'old' }]);
  await until('the event is in', () => titles(tasks)[0] === 'new');
});

test('an update without its document is applied to the one that is there', async () => {
  const tasks = open({ load: async () => [{ _id: 1, title: 'A', tags: ['a', 'b', 'c'], by: { name: 'x' } }] });
  await live(tasks);
  const before = tasks.state.documents[0];
  server.publish({
    operationType: 'update',
    documentKey: { _id: 1 },
    fullDocument: null,
    updateDescription: {
      updatedFields: { 'by.name': 'y', 'tags.1': 'B', 'more.deep': 1 },
      removedFields: ['title'],
      truncatedArrays: [{ field: 'tags', newSize: 2 }],
    },
  });
  await until('it is applied', () => tasks.state.documents[0] !== before);
  assert.deepEqual(tasks.state.documents[0], { _id: 1, tags: ['a', 'B'], by: { name: 'y' }, more: { deep: 1 } });
  assert.equal(before?.by?.name, 'x', 'states never change');
});

test('a document comes with enter and goes with leave, whatever the stream matches on', async () => {
  server.snapshot = [{ _id: 1, title: 'A' }, { _id: { $oid: 'b' }, title: 'B' }];
  const tasks = open({ snapshot: true });
  await live(tasks);
  const event = { operationType: 'update', documentKey: { _id: 3 }, fullDocument: { _id: 3, title: 'C' }, updateDescription: null };
  server.tell({ type: 'enter', event });
  server.tell({ type: 'leave', documentKey: { _id: { $oid: 'b' } } });
  await until('one has come and one has gone', () => titles(tasks).join() === 'A,C');
  const { state } = tasks;
  server.tell({ type: 'leave', documentKey: { _id: 'never seen' } });
  server.tell({ type: 'leave', documentKey: { _id: 3 } });
  await until('the next one has gone', () => titles(tasks).join() === 'A');
  assert.deepEqual(state.documents.map(({ title }) => title), ['A', 'C'], 'states never change');
});

test('what came and went while the connection was away is told behind it', async () => {
  server.snapshot = [{ _id: 1, title: 'A' }];
  const tasks = open({ snapshot: true });
  await live(tasks);
  server.cut();
  server.tell({ type: 'leave', documentKey: { _id: 1 } });
  const event = { operationType: 'replace', documentKey: { _id: 2 }, fullDocument: { _id: 2, title: 'B' }, updateDescription: null };
  server.tell({ type: 'enter', event });
  await until('both are told', () => titles(tasks).join() === 'B');
  assert.equal(server.handshakes.at(-1)?.url.searchParams.get('resumeAfter'), 'p0');
});

test('the state is the same object until something changes, and listeners are told once for many events', async () => {
  const tasks = open({ load: async () => [], compare: (a, b) => a.title!.localeCompare(b.title!) });
  await live(tasks);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const state = tasks.state;
  assert.equal(tasks.state, state);
  let told = 0;
  const stop = tasks.subscribe(() => told++);
  for (let n = 99; n >= 0; n--) insert(n, String(n).padStart(2, '0'));
  await until('all are in', () => tasks.state.documents.length === 100);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(told < 50, `told ${told} times`);
  assert.equal(titles(tasks)[7], '07');
  stop();
});

test('complete is false unless promised, and cannot be promised without documents to begin with', async () => {
  const without: false = open().state.complete;
  assert.equal(without, false);
  query?.close();
  const promised: true = open<true>({ snapshot: true, complete: true }).state.complete;
  assert.equal(promised, true);
  assert.throws(() => liveQuery(server.url, { WebSocket, complete: true }), /is not complete: give it snapshot or load/);
});

test('an event that cannot be applied ends the query, and its stream', async () => {
  const tasks = open();
  await live(tasks);
  server.client.say({ type: 'event', position: 'p1' });
  await until('it is closed', () => tasks.state.status === 'closed');
  assert.ok(tasks.state.error instanceof TypeError);
  await until('the connection too', () => server.clients.size === 0);
});

test('a stream that ends is a state, with its error', async () => {
  const tasks = open();
  await live(tasks);
  server.cut(4002, 'gone');
  await until('it is closed', () => tasks.state.status === 'closed');
  assert.match(String(tasks.state.error), /closed with 4002: gone/);
});
