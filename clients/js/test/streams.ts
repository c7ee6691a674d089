import { afterEach, beforeEach } from 'node:test';
import { watch, type Item, type Stream, type WatchOptions } from 'tailrace';
import { WebSocket } from 'ws';
import { FakeServer } from './fake-server.js';
import { until } from './until.js';

export interface Numbered {
  _id: number;
}

/** The server of the test that runs. */
export let server: FakeServer;
let streams: Stream<Numbered>[];

beforeEach(async () => {
  server = await FakeServer.start();
  streams = [];
});

afterEach(async () => {
  for (const stream of streams) stream.close();
  await server.stop();
});

/** A stream of that server, which ends with the test. */
export function open(options: WatchOptions = {}, url = server.url): Stream<Numbered> {
  const stream = watch<Numbered>(url, { WebSocket, ...options });
  streams.push(stream);
  return stream;
}

/** What a consumer that listens sees. */
export function collect(stream: Stream<Numbered>) {
  const seen = { numbers: [] as number[], items: [] as Item<Numbered>[], ended: undefined as { error: unknown } | undefined };
  const keep = (item: Item<Numbered>) => void seen.items.push(item);
  for (const type of ['ready', 'snapshot', 'snapshotEnd', 'gap', 'error'] as const) stream.on(type, keep);
  stream.on('event', (item) => {
    keep(item);
    seen.numbers.push(item.event.fullDocument!._id);
  });
  stream.on('end', (error) => (seen.ended = { error }));
  return seen;
}

export const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
export const types = (items: Item<Numbered>[]) => items.map(({ type }) => type);

export async function opened(stream: Stream<Numbered>): Promise<void> {
  await until('the stream is open', () => stream.state.name === 'open' && server.clients.size > 0);
}

export async function take(items: AsyncIterator<Item<Numbered>>, count: number): Promise<Item<Numbered>[]> {
  const taken = [];
  for (let n = 0; n < count; n++) taken.push((await items.next()).value);
  return taken;
}
