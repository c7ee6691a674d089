import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, afterEach, before, test } from 'node:test';
import { ClosedError, RefusedError, watch, type Stream, type WatchOptions } from 'tailrace';
import { liveQuery } from 'tailrace/live-query';
import { mongoClient } from 'tailrace/realm';
import { WebSocket } from 'ws';
import { TcpProxy } from './tcp-proxy.js';
import { until } from './until.js';

/** A real server that mounts every database at `/` and lets everybody do everything. */
const server = process.env['TAILRACE_TEST_NATIVE'];
const options = server ? { timeout: 90_000 } : { skip: 'TAILRACE_TEST_NATIVE names no server' };

const STREAMS = [
  { uri: 'all', stages: [] },
  { uri: 'byRoom', stages: [{ $match: { 'fullDocument.room': { $var: 'room' } } }] },
];

const database = `client-${process.pid}-${Date.now()}`;
let collections = 0;
let network: TcpProxy;
let running = new AbortController();

before(async () => {
  if (!server) return;
  network = await TcpProxy.before(Number(new URL(server).port));
});

after(() => network?.close());

afterEach(() => {
  running.abort();
  running = new AbortController();
});

/** What every stream of a test is opened with, so that it ends with the test. */
const to = (options: WatchOptions = {}): WatchOptions => ({ WebSocket, signal: running.signal, ...options });

async function send(method: string, path: string, body: unknown): Promise<void> {
  const answer = await fetch(`${server}/${database}${path}`, {
    method,
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.text()}`);
}

/** A new collection with these streams. */
async function declare(streams: object[] = STREAMS) {
  const collection = `numbers${++collections}`;
  await send('PUT', `/${collection}`, { streams });
  const at = (origin: string, stream: string) => `${origin}/${database}/${collection}/_streams/${stream}`;
  return {
    collection,
    url: at(server!.replace(/^http/, 'ws'), 'all'),
    /** Through a network that can be cut. */
    shaky: at(`ws://127.0.0.1:${network.port}`, 'all'),
    stream: (name: string) => at(server!, name),
    write: (document: object) => send('POST', `/${collection}`, document),
    declare: (changed: object[]) => send('PUT', `/${collection}`, { streams: changed }),
  };
}

function numbersOf(stream: Stream<{ n: number }>) {
  const seen = { numbers: [] as number[], gaps: 0, ended: undefined as unknown };
  stream.on('event', ({ event }) => seen.numbers.push(event.fullDocument!.n));
  stream.on('gap', () => seen.gaps++);
  stream.on('end', (error) => (seen.ended = error));
  return seen;
}

const open = (stream: Stream<any>) => until('it is open', () => stream.state.name === 'open');
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

test('natively, what is written behind ready is seen', options, async () => {
  const { url, write } = await declare();
  const items = watch<{ n: number }>(url, to())[Symbol.asyncIterator]();
  assert.equal((await items.next()).value?.type, 'ready');
  await write({ n: 1 });
  const { value } = await items.next();
  assert.ok(value?.type === 'event');
  assert.equal(value.event.operationType, 'insert');
  assert.equal(value.event.fullDocument?.n, 1);
  assert.ok(value.event.documentKey?._id);
});

test('natively, a refusal is explained', options, async () => {
  const { stream, write } = await declare();
  await assert.rejects(watch(stream('byRoom'), to())[Symbol.asyncIterator]().next(), (error) => {
    assert.ok(error instanceof RefusedError);
    assert.deepEqual(
      [error.status, error.exception, error.message],
      [400, 'QueryVariableNotBoundException', 'variable room not bound'],
    );
    return true;
  });
  await assert.rejects(
    watch(stream('none'), to())[Symbol.asyncIterator]().next(),
    (error) => error instanceof RefusedError && error.status === 404,
  );
  const bound = watch<{ n: number }>(stream('byRoom'), to({ avars: { room: 'a' } }));
  const seen = numbersOf(bound);
  await open(bound);
  await write({ room: 'b', n: 1 });
  await write({ room: 'a', n: 2 });
  await until('it has come', () => seen.numbers.length === 1);
  assert.deepEqual(seen.numbers, [2]);
});

test('natively, connections that break lose nothing', options, async () => {
  const { shaky, write } = await declare();
  const streams = [1, 2, 3].map(() => watch<{ n: number }>(shaky, to()));
  const seen = streams.map(numbersOf);
  await Promise.all(streams.map(open));
  for (let n = 1; n <= 300; n++) {
    await write({ n });
    if (n % 60 === 0) {
      network.cut();
      await sleep(200);
    }
  }
  await until('all have come', () => seen.every(({ numbers }) => numbers.length >= 300), 60_000);
  for (const { numbers, gaps } of seen) {
    assert.deepEqual(numbers, upTo(300));
    assert.equal(gaps, 0);
  }
});

test('natively, a definition that changes loses nothing, and one that goes ends the stream', options, async () => {
  const { url, write, declare: change } = await declare();
  const stream = watch<{ n: number }>(url, to());
  const seen = numbersOf(stream);
  await open(stream);
  await write({ n: 1 });
  await change([{ uri: 'all', stages: [{ $match: { operationType: 'insert' } }] }]);
  await write({ n: 2 });
  await until('both have come', () => seen.numbers.length === 2);
  await open(stream);
  assert.deepEqual(seen, { numbers: [1, 2], gaps: 0, ended: undefined });
  await change([]);
  await until('it ends', () => seen.ended !== undefined);
  // Whoever is between two connections at that moment is refused.
  const { ended }: { ended: unknown } = seen;
  assert.ok(ended instanceof ClosedError ? ended.code === 4002 : ended instanceof RefusedError);
});

test('natively, a live query with load follows the collection', options, async () => {
  const { collection, url, write } = await declare();
  await write({ n: 1 });
  const query = liveQuery<{ n: number }>(url, {
    ...to(),
    load: async () => (await (await fetch(`${server}/${database}/${collection}?pagesize=100`)).json()) as { n: number }[],
  });
  await until('it is live', () => query.state.status === 'live');
  await write({ n: 2 });
  await until('the second is there', () => query.state.documents.length === 2);
  assert.deepEqual(query.state.documents.map(({ n }) => n), [1, 2]);
});

test('natively, a live query with a snapshot is the collection', options, async (t) => {
  const { url, write } = await declare([{ uri: 'all', stages: [], snapshot: { sort: { n: 1 }, limit: 1000 } }]);
  for (let n = 1; n <= 20; n++) await write({ n });
  const query = liveQuery<{ n: number }, true>(url, { ...to({ snapshot: true }), complete: true });
  await until('it is live, or over', () => ['live', 'closed'].includes(query.state.status));
  // Snapshots come after the rest of the protocol.
  if (/not supported yet/.test(String(query.state.error))) return t.skip(String(query.state.error));
  assert.equal(query.state.error, undefined);
  await write({ n: 21 });
  await until('the last is there', () => query.state.documents.length === 21);
  assert.deepEqual(query.state.documents.map(({ n }) => n), upTo(21));
});

for (const way of ['a snapshot', 'load'] as const) {
  test(`natively, a live query with ${way} shows the view that began while the client was away, and no more`, options, async () => {
    const below = (n: number) => [{ uri: 'all', snapshot: {}, stages: [{ $match: { 'fullDocument.n': { $lt: n } } }] }];
    const { collection, shaky, write, declare: change } = await declare(below(5));
    for (let n = 1; n <= 8; n++) await write({ n });
    let limit = 5;
    const load = async () => {
      const filter = encodeURIComponent(JSON.stringify({ n: { $lt: limit } }));
      return (await (await fetch(`${server}/${database}/${collection}?filter=${filter}`)).json()) as { n: number }[];
    };
    const query = liveQuery<{ n: number }>(shaky, {
      ...to(way === 'load' ? {} : { snapshot: true }),
      ...(way === 'load' && { load }),
      compare: (a, b) => a.n - b.n,
    });
    const shown = () => query.state.documents.map(({ n }) => n).join();
    await until('it is live', () => query.state.status === 'live');
    assert.equal(shown(), '1,2,3,4');
    const states = new Set<string>();
    query.subscribe(() => states.add(`${query.state.status} ${shown()}`));

    network.stall();
    network.cut();
    limit = 3;
    await change(below(3));
    await write({ n: 0 });
    await write({ n: 4 });
    network.flow();
    await until('the new view is shown', () => query.state.status === 'live' && shown() === '0,1,2', 30_000);
    await write({ n: 2.5 });
    await until('and followed', () => shown() === '0,1,2,2.5');
    assert.ok([...states].every((state) => /^((live|stale) 1,2,3,4|live 0,1,2(,2.5)?)$/.test(state)), [...states].join('; '));
  });
}

test('natively, watch() of the Realm shape finds its collection', options, async () => {
  const { collection, write } = await declare();
  const changes = mongoClient(server!, { WebSocket, signal: running.signal }).db(database).collection(collection).watch();
  const next = changes.next();
  // It says nothing when it is open, as the Realm SDK did not.
  const writer = setInterval(() => void write({ n: 1 }), 200);
  const { value } = await next;
  clearInterval(writer);
  assert.deepEqual(value?.ns, { db: database, coll: collection });
});
