import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { mongoClient, type RealmClientOptions } from 'tailrace/realm';
import { WebSocket } from 'ws';
import { FakeServer } from './fake-server.js';
import { until } from './until.js';

let server: FakeServer;

beforeEach(async () => {
  server = await FakeServer.start();
});

afterEach(() => server.stop());

function plants(options: RealmClientOptions = {}) {
  const url = server.url.replace(/^ws/, 'http').replace(/\/numbers.*/, '/');
  return mongoClient(url, { WebSocket, ...options }).db('shop').collection<{ name: string }>('plants');
}

const open = () => until('it is open', () => server.clients.size === 1);

test('watch() yields change events of the shape that the Realm Web SDK gave', async () => {
  const changes = plants().watch();
  await open();
  assert.equal(server.client.url.pathname, '/shop/plants/_streams/all');
  server.publish({ fullDocument: { _id: 1, name: 'fern' } });
  server.publish({ operationType: 'delete', fullDocument: null });
  assert.deepEqual((await changes.next()).value, {
    _id: { _data: 'p1' },
    operationType: 'insert',
    ns: { db: 'shop', coll: 'plants' },
    documentKey: { _id: 1 },
    fullDocument: { _id: 1, name: 'fern' },
  });
  const removed = (await changes.next()).value;
  assert.ok(removed && !('fullDocument' in removed));
  await changes.return(undefined);
});

test('what comes into view is a change, and what goes out of it its delete', async () => {
  const changes = plants().watch();
  await open();
  const event = { operationType: 'update', documentKey: { _id: 1 }, fullDocument: { _id: 1, name: 'fern' }, updateDescription: null };
  server.tell({ type: 'enter', event });
  server.tell({ type: 'leave', documentKey: { _id: 1 } });
  const ns = { db: 'shop', coll: 'plants' };
  const entered = { _id: { _data: 'p1' }, operationType: 'update', ns, documentKey: { _id: 1 }, fullDocument: { _id: 1, name: 'fern' } };
  assert.deepEqual((await changes.next()).value, entered);
  const left = { _id: { _data: 'p2' }, operationType: 'delete', ns, documentKey: { _id: 1 } };
  assert.deepEqual((await changes.next()).value, left);
  await changes.return(undefined);
});

test('ids become a variable of a declared stream, and a filter the stream that the code names', async () => {
  const byIds = plants().watch({ ids: [1, { $oid: 'a' }] });
  await open();
  assert.equal(server.client.url.pathname, '/shop/plants/_streams/byIds');
  assert.equal(server.client.url.searchParams.get('avars'), '{"ids":[1,{"$oid":"a"}]}');
  await byIds.return(undefined);
  await until('it is closed', () => server.clients.size === 0);

  const filter = { 'fullDocument.type': 'perennial' };
  assert.throws(() => plants().watch({ filter }), /on shop.plants: name the stream that declares this filter in the option "declared"/);
  const filtered = plants({ declared: (asked) => ({ stream: 'byType', avars: { type: asked.filter?.['fullDocument.type'] } }) });
  const perennials = filtered.watch({ filter });
  await open();
  assert.equal(server.client.url.searchParams.get('avars'), '{"type":"perennial"}');
  await perennials.return(undefined);
});

test('return() ends a loop that waits', async () => {
  const changes = plants().watch();
  await open();
  const waiting = changes.next();
  await changes.return(undefined);
  assert.deepEqual(await waiting, { done: true, value: undefined });
  await until('it is closed', () => server.clients.size === 0);
});

test('lost events are an error, or told to onGap', async () => {
  const changes = plants().watch();
  await open();
  const waiting = changes.next();
  server.client.say({ type: 'gap', reason: 'history lost', position: 'p0' });
  await assert.rejects(waiting, /events were lost: history lost/);
  await until('it is closed', () => server.clients.size === 0);

  const reasons: string[] = [];
  const told = plants({ onGap: ({ reason }) => reasons.push(reason) }).watch();
  await open();
  server.client.say({ type: 'gap', reason: 'history lost', position: 'p0' });
  server.publish();
  assert.equal((await told.next()).value?.operationType, 'insert');
  assert.deepEqual(reasons, ['history lost']);
  await told.return(undefined);
});

test('with EJSON the values are BSON types, both ways', async () => {
  const ejson = {
    serialize: (value: any) => ({ ids: value.ids.map((id: bigint) => ({ $numberLong: String(id) })) }),
    deserialize: (event: any) => ({ ...event, fullDocument: { _id: BigInt(event.fullDocument._id.$numberLong) } }),
  };
  const changes = plants({ ejson }).watch({ ids: [7n] });
  await open();
  assert.equal(server.client.url.searchParams.get('avars'), '{"ids":[{"$numberLong":"7"}]}');
  assert.equal(server.client.url.searchParams.get('jsonMode'), 'extended');
  server.publish({ fullDocument: { _id: { $numberLong: '7' } } });
  assert.deepEqual((await changes.next()).value?.fullDocument, { _id: 7n });
  await changes.return(undefined);
});
