import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { watch, type Stream, type TokenRequest } from 'tailrace';
import { FakeSocket } from './fake-socket.js';

let stream: Stream<unknown>;
const page = new EventTarget() as EventTarget & { visibilityState: string };
const onWindow = new EventTarget();

beforeEach(async () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  FakeSocket.made = [];
  page.visibilityState = 'visible';
  // What a browser has, and Node has not.
  Object.assign(globalThis, {
    document: page,
    addEventListener: onWindow.addEventListener.bind(onWindow),
    removeEventListener: onWindow.removeEventListener.bind(onWindow),
  });
  stream = watch('wss://host/numbers/_streams/all', { WebSocket: FakeSocket });
  await settled();
});

afterEach(() => {
  stream.close();
  mock.timers.reset();
  for (const name of ['document', 'addEventListener', 'removeEventListener']) Reflect.deleteProperty(globalThis, name);
});

/** Lets promises run. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

async function pass(seconds: number): Promise<void> {
  // Step by step, as timers that run: one long step would be a sleep.
  for (let n = 0; n < seconds; n++) {
    mock.timers.tick(1000);
    await settled();
  }
}

/** The clock goes on, and timers do not; then they do. */
async function sleepFor(seconds: number): Promise<void> {
  mock.timers.setTime(Date.now() + seconds * 1000);
  await pass(5);
}

test('a connection with keepalives lives on, and 60 s of silence end it', async () => {
  FakeSocket.last.open();
  for (let n = 0; n < 8; n++) {
    await pass(25);
    FakeSocket.last.say({ type: 'keepalive', position: `p${n}` });
  }
  assert.equal(FakeSocket.made.length, 1);
  await pass(59);
  assert.equal(FakeSocket.made.length, 1);
  await pass(8);
  assert.equal(FakeSocket.made.length, 2);
  assert.ok(FakeSocket.made[0]?.isClosed);
  assert.equal(FakeSocket.last.url.searchParams.get('resumeAfter'), 'p7');
});

test('a plain connection, which has no keepalive, is not ended for its silence', async () => {
  FakeSocket.last.open('tailrace.plain');
  await settled();
  FakeSocket.last.open('tailrace.plain');
  await pass(600);
  assert.equal(FakeSocket.made.length, 2);
});

test('a handshake that nobody answers is given up after 15 s', async () => {
  await pass(14);
  assert.equal(stream.state.name, 'connecting');
  await pass(2);
  assert.ok(FakeSocket.made[0]?.isClosed);
  assert.equal(FakeSocket.made.length, 2);
});

test('a token that does not come within 15 s is given up, and asked for again', async () => {
  stream.close();
  const asked: AbortSignal[] = [];
  const given: ((token: string) => void)[] = [];
  const token = ({ signal }: TokenRequest) => {
    asked.push(signal);
    return new Promise<string>((resolve) => given.push(resolve));
  };
  FakeSocket.made = [];
  stream = watch('wss://host/numbers/_streams/all', { WebSocket: FakeSocket, token });
  await pass(14);
  assert.equal(asked[0]?.aborted, false);
  await pass(2);
  assert.ok(asked[0]?.aborted);
  assert.equal(asked.length, 2);
  // The first one comes after all: too late.
  given[0]?.('late');
  await settled();
  assert.equal(FakeSocket.made.length, 0);
  given[1]?.('token');
  await settled();
  assert.deepEqual(FakeSocket.last.protocols.slice(-1), ['bearer.token']);
  await pass(14);
  assert.ok(!FakeSocket.last.isClosed, 'the handshake has a time of its own');
});

test('who wakes up does not wait for a token that was asked for before the sleep', async () => {
  stream.close();
  let asked = 0;
  const token = () => (asked++, new Promise<string>(() => {}));
  stream = watch('wss://host/numbers/_streams/all', { WebSocket: FakeSocket, token });
  await settled();
  mock.timers.setTime(Date.now() + 120_000);
  page.dispatchEvent(new Event('resume'));
  await settled();
  assert.equal(asked, 2);
});

test('failures in a row make the pauses longer, and a good connection makes them short again', async (t) => {
  t.mock.method(Math, 'random', () => 0.999);
  const delays: number[] = [];
  stream.on('state', (state) => state.name === 'waiting' && delays.push(Math.round(state.delay / 100) / 10));
  const fail = async () => {
    FakeSocket.last.open();
    FakeSocket.last.end(1011);
    const made = FakeSocket.made.length;
    while (FakeSocket.made.length === made) await pass(1);
  };
  for (let n = 0; n < 8; n++) await fail();
  FakeSocket.last.open();
  await pass(11);
  FakeSocket.last.end(1011);
  assert.deepEqual(delays, [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5]);
});

test('the network that comes back ends a pause, and a connection of before', async () => {
  FakeSocket.last.open();
  onWindow.dispatchEvent(new Event('offline'));
  onWindow.dispatchEvent(new Event('online'));
  await settled();
  assert.equal(FakeSocket.made.length, 2);

  FakeSocket.last.open();
  FakeSocket.last.end(1006);
  assert.equal(stream.state.name, 'waiting');
  onWindow.dispatchEvent(new Event('online'));
  await settled();
  assert.equal(FakeSocket.made.length, 3);
});

test('who does not want to wait for the end of a pause asks for the next attempt', async () => {
  FakeSocket.last.open();
  stream.retry();
  assert.equal(FakeSocket.made.length, 1);
  FakeSocket.last.end(1006);
  stream.retry();
  await settled();
  assert.equal(FakeSocket.made.length, 2);
});

test('a network that only changed does not end a connection', async () => {
  FakeSocket.last.open();
  onWindow.dispatchEvent(new Event('online'));
  await pass(10);
  assert.equal(FakeSocket.made.length, 1);
});

test('a tab that is shown again does not wait for the end of a pause', async () => {
  FakeSocket.last.open();
  FakeSocket.last.end(1006);
  page.visibilityState = 'hidden';
  page.dispatchEvent(new Event('visibilitychange'));
  await settled();
  assert.equal(FakeSocket.made.length, 1);
  page.visibilityState = 'visible';
  page.dispatchEvent(new Event('visibilitychange'));
  await settled();
  assert.equal(FakeSocket.made.length, 2);
});

test('a pause that the server asked for lasts though the tab is shown, and ends with it after a sleep, or by retry', async (t) => {
  t.mock.method(Math, 'random', () => 0);
  t.mock.method(globalThis, 'fetch', () =>
    Promise.resolve(new Response('{"message":"too many"}', { status: 429, headers: { 'Retry-After': '60' } })),
  );
  const refused = async () => {
    FakeSocket.last.end(1006);
    await settled();
    assert.equal(stream.state.name, 'waiting');
  };
  const disturb = async () => {
    page.dispatchEvent(new Event('visibilitychange'));
    onWindow.dispatchEvent(new Event('offline'));
    onWindow.dispatchEvent(new Event('online'));
    await settled();
  };
  await refused();
  for (let n = 0; n < 5; n++) {
    await pass(10);
    await disturb();
    assert.equal(FakeSocket.made.length, 1);
  }
  await pass(10);
  assert.equal(FakeSocket.made.length, 2);

  await refused();
  mock.timers.setTime(Date.now() + 50_000);
  await disturb();
  assert.equal(FakeSocket.made.length, 2);
  await pass(11);
  assert.equal(FakeSocket.made.length, 3);

  await refused();
  stream.retry();
  await settled();
  assert.equal(FakeSocket.made.length, 4);
});

test('after a sleep a connection that has something waiting lives on, and one that is silent is ended', async () => {
  FakeSocket.last.open();
  mock.timers.setTime(Date.now() + 120_000);
  // A page that wakes up runs its events before the timers of the grace.
  page.dispatchEvent(new Event('resume'));
  FakeSocket.last.say({ type: 'keepalive', position: 'p5' });
  await pass(10);
  assert.equal(FakeSocket.made.length, 1);
  mock.timers.setTime(Date.now() + 3_600_000);
  page.dispatchEvent(new Event('resume'));
  await pass(3);
  assert.equal(FakeSocket.made.length, 2);
  assert.equal(FakeSocket.last.url.searchParams.get('resumeAfter'), 'p5');
});

test('a plain connection is not trusted after a long sleep', async () => {
  FakeSocket.last.open('tailrace.plain');
  await settled();
  FakeSocket.last.open('tailrace.plain');
  await sleepFor(60);
  assert.equal(FakeSocket.made.length, 2);
  await sleepFor(120);
  assert.equal(FakeSocket.made.length, 3);
});

test('a closed stream leaves no timer and no listener behind', async () => {
  stream.close();
  page.dispatchEvent(new Event('visibilitychange'));
  onWindow.dispatchEvent(new Event('online'));
  await pass(100);
  assert.equal(FakeSocket.made.length, 1);
});
