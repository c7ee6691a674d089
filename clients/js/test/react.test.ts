import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { act, createElement, StrictMode } from 'react';
import { create } from 'react-test-renderer';
import { useLiveQuery } from 'tailrace/react';
import type { LiveDocuments } from 'tailrace/live-query';
import { WebSocket } from 'ws';
import { FakeServer } from './fake-server.js';
import { until } from './until.js';

let server: FakeServer;

beforeEach(async () => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: false });
  server = await FakeServer.start();
});

afterEach(() => server.stop());

test('a component follows its stream, changes it with its variables, and closes it when it goes', async (t) => {
  // react-test-renderer announces its own end.
  t.mock.method(console, 'error', () => {});
  server.snapshot = [{ _id: 1, title: 'A' }];
  let shown: LiveDocuments<{ title: string }> | undefined;
  function Tasks({ list }: { list: string | null }) {
    shown = useLiveQuery<{ title: string }>(list && server.url, { avars: { list }, snapshot: true, WebSocket });
    return null;
  }
  const element = (list: string | null) => createElement(StrictMode, null, createElement(Tasks, { list }));
  const root = create(element('home'));
  assert.equal(shown?.status ?? 'loading', 'loading');
  await until('the snapshot is shown', () => shown?.status === 'live');
  assert.equal(server.client.url.searchParams.get('avars'), '{"list":"home"}');
  const { handshakes } = server;
  const before = handshakes.length;

  root.update(element('home'));
  server.publish({ fullDocument: { _id: 2, title: 'B' }, documentKey: { _id: 2 } });
  await until('the event is shown', () => shown?.documents.length === 2);
  assert.equal(handshakes.length, before, 'the same variables are the same stream');

  root.update(element('work'));
  await until('the other list is opened', () => server.client.url.searchParams.get('avars') === '{"list":"work"}');
  await until('it alone is shown', () => shown?.status === 'live' && shown.documents.length === 1);
  await until('the first one is closed', () => server.clients.size === 1);

  root.update(element(null));
  await until('null is no stream', () => server.clients.size === 0 && shown?.documents.length === 0);
  root.unmount();
  void act;
});

test('another order is that of the same documents at once, and the same order makes no other object', async (t) => {
  t.mock.method(console, 'error', () => {});
  server.snapshot = [{ _id: 1, title: 'B' }, { _id: 2, title: 'A' }];
  const shown: LiveDocuments<{ title: string }>[] = [];
  function Tasks({ order }: { order: number }) {
    const compare = order ? (a: { title: string }, b: { title: string }) => order * a.title.localeCompare(b.title) : undefined;
    shown.push(useLiveQuery<{ title: string }>(server.url, { snapshot: true, WebSocket, compare }));
    return null;
  }
  const titles = () => shown.at(-1)?.documents.map(({ title }) => title).join();
  const root = create(createElement(Tasks, { order: 1 }));
  await until('they are in order', () => titles() === 'A,B');
  const show = async (order: number) => {
    const before = shown.length;
    root.update(createElement(Tasks, { order }));
    await until('it is rendered', () => shown.length > before);
    assert.equal(shown.length, before + 1);
    return shown.at(-1);
  };
  const ascending = shown.at(-1);
  assert.equal(await show(1), ascending);
  await show(-1);
  assert.equal(titles(), 'B,A');
  await show(1);
  assert.equal(titles(), 'A,B');
  await show(0);
  assert.equal(titles(), 'B,A', 'as they came');
  server.publish({ fullDocument: { _id: 3, title: 'C' }, documentKey: { _id: 3 } });
  await until('the event is shown', () => titles() === 'B,A,C');
  assert.equal(server.handshakes.length, 1);
  root.unmount();
});
