import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { ClosedError, RefusedError, StreamError, watch, type TokenRequest } from 'tailrace';
import { WebSocket } from 'ws';
import { collect, open, opened, server, take, types, upTo } from './streams.js';
import { until } from './until.js';

test('events arrive in order, and the position is that of the last one handed over', async () => {
  const stream = open();
  const items = stream[Symbol.asyncIterator]();
  assert.deepEqual((await items.next()).value, { type: 'ready', position: 'p0', resumed: false });
  for (let n = 0; n < 3; n++) server.publish();
  const [first] = await take(items, 1);
  assert.equal(first?.type === 'event' && first.event.fullDocument?._id, 1);
  await until('the others wait', () => server.client.socket.bufferedAmount === 0);
  assert.equal(stream.position, 'p1');
  await take(items, 2);
  assert.equal(stream.position, 'p3');
});

test('nothing is lost, doubled, or reordered however connections end', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  const writer = setInterval(() => server.publish(), 1);
  for (const code of [1006, 1001, 4001, 4003, 1011, 1013, 1000, 4777]) {
    await opened(stream);
    await sleep(20);
    server.cut(code);
  }
  await opened(stream);
  clearInterval(writer);
  await until('all have come', () => seen.numbers.length >= server.count);
  assert.deepEqual(seen.numbers, upTo(server.count));
  assert.equal(server.handshakes.length, 9);
  assert.ok(!types(seen.items).includes('gap'));
});

test('a slow consumer pauses the stream, which continues without loss', async () => {
  const stream = open({ buffer: 2_000 });
  const items = stream[Symbol.asyncIterator]();
  await take(items, 1);
  for (let n = 0; n < 200; n++) server.publish({ updateDescription: 'x'.repeat(100) });
  await until('it pauses', () => stream.state.name === 'paused');
  await until('the connection is closed', () => server.clients.size === 0);
  const numbers: number[] = [];
  while (numbers.length < 200) {
    const { value } = await items.next();
    if (value?.type === 'event') numbers.push(value.event.fullDocument!._id);
  }
  assert.deepEqual(numbers, upTo(200));
  assert.ok(server.handshakes.length > 2);
});

test('one event larger than all that may wait still comes', async () => {
  const seen = collect(open({ buffer: 10 }));
  await until('it is open', () => server.clients.size === 1);
  server.publish({ updateDescription: 'x'.repeat(100_000) });
  server.publish();
  await until('both have come', () => seen.numbers.length === 2);
});

test('a position that a consumer kept continues another stream', async () => {
  for (let n = 0; n < 5; n++) server.publish();
  const seen = collect(open({ resumeAfter: 'p2' }));
  await until('they have come', () => seen.numbers.length === 3);
  assert.deepEqual(seen.numbers, [3, 4, 5]);
  assert.deepEqual(seen.items[0], { type: 'ready', position: 'p2', resumed: true });
});

test('the position of a ready is not believed over what is still to come', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.publish();
  await until('it has come', () => seen.numbers.length === 1);
  server.cut();
  for (let n = 0; n < 3; n++) server.publish();
  let broken = false;
  server.greet = (client) => {
    if (broken) return server.welcome(client);
    broken = true;
    client.say({ type: 'ready', position: `p${server.count}` });
    return client.socket.close(1001);
  };
  await until('all have come', () => seen.numbers.length === 4);
  assert.deepEqual(seen.numbers, upTo(4));
});

test('a keepalive moves the position, once what came before it is handed over', async () => {
  const stream = open();
  const items = stream[Symbol.asyncIterator]();
  await take(items, 1);
  server.publish();
  server.client.say({ type: 'keepalive', position: 'p9' });
  await sleep(50);
  assert.equal(stream.position, 'p0');
  const [event] = await take(items, 1);
  assert.equal(event?.type === 'event' && event.position, 'p1');
  assert.equal(stream.position, 'p9');
  server.cut();
  await until('it comes back', () => server.handshakes.length === 2);
  assert.equal(server.handshakes[1]?.url.searchParams.get('resumeAfter'), 'p9');
});

test('what comes into view and what goes out of it are items, and a stream continues behind them', async () => {
  const stream = open();
  const items = stream[Symbol.asyncIterator]();
  await take(items, 1);
  const event = { operationType: 'update', documentKey: { _id: 7 }, fullDocument: { _id: 7 }, updateDescription: null };
  server.tell({ type: 'enter', event });
  server.tell({ type: 'leave', documentKey: { _id: 7 } });
  assert.deepEqual(await take(items, 2), [
    { type: 'enter', event, position: 'p1' },
    { type: 'leave', documentKey: { _id: 7 }, position: 'p2' },
  ]);
  assert.equal(stream.position, 'p2');
  server.cut();
  await until('it comes back', () => server.handshakes.length === 2);
  assert.equal(server.handshakes[1]?.url.searchParams.get('resumeAfter'), 'p2');
});

test('messages of an unknown type are ignored, and what is no JSON is a broken connection', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.client.say({ type: 'weather' });
  server.client.say('{');
  await until('it comes back', () => server.handshakes.length === 2);
  server.publish();
  await until('it has come', () => seen.numbers.length === 1);
});

test('a gap is handed over with a new beginning, and the stream lives on', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.client.say({ type: 'gap', reason: 'history lost', position: 'p0' });
  server.publish();
  await until('the event has come', () => seen.numbers.length === 1);
  assert.deepEqual(types(seen.items), ['ready', 'gap', 'ready', 'event']);
  assert.equal(server.handshakes.length, 1);
});

test('after 4004 the gap is told once the stream is open again, which then begins anew', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.publish();
  await until('it has come', () => seen.numbers.length === 1);
  server.cut(4004, 'history lost: reload, then reconnect');
  await until('it is open again', () => seen.items.length === 4);
  assert.deepEqual(seen.items.slice(2), [
    { type: 'gap', reason: 'history lost: reload, then reconnect', position: 'p1' },
    { type: 'ready', position: 'p1', resumed: false },
  ]);
  assert.equal(server.handshakes[1]?.url.searchParams.has('resumeAfter'), false);
});

test('a position that the server does not know any more is a gap, and the stream begins anew', async () => {
  server.refuse = (_, url) =>
    url.searchParams.has('resumeAfter')
      ? { status: 400, exception: 'InvalidPositionException', message: 'no position of this stream' }
      : undefined;
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.publish();
  await until('it has come', () => seen.numbers.length === 1);
  server.cut(1001, 'the node shuts down');
  await until('it is open again', () => seen.items.length === 4);
  assert.deepEqual(types(seen.items), ['ready', 'event', 'gap', 'ready']);
  assert.equal(seen.ended, undefined);
});

test('an event that cannot be computed is an item, and the stream goes on behind it', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.client.say({ type: 'error', code: 16020, position: 'p1' });
  await until('it has come', () => seen.items.length === 2);
  assert.deepEqual(seen.items[1], { type: 'error', code: 16020, position: 'p1' });
  assert.equal(stream.position, 'p1');
});

test('4010 is told as an error; to meet it again at the same place is a gap, not a loop', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.cut(4010, '16020');
  await until('it is back', () => server.handshakes.length === 2 && server.clients.size === 1);
  server.cut(4010, '16020');
  await until('it begins anew', () => types(seen.items).includes('gap'));
  assert.deepEqual(types(seen.items), ['ready', 'error', 'ready', 'gap', 'ready']);
});

for (const code of [4002, 4403]) {
  test(`${code} ends the stream, after what came before it`, async () => {
    const stream = open();
    const items = stream[Symbol.asyncIterator]();
    await take(items, 1);
    server.publish();
    server.cut(code, 'over');
    await until('it is closed', () => stream.state.name === 'closed');
    assert.equal((await items.next()).value?.type, 'event');
    await assert.rejects(items.next(), (error) => error instanceof ClosedError && error.code === code && error.reason === 'over');
    assert.deepEqual(await items.next(), { done: true, value: undefined });
    assert.equal(server.handshakes.length, 1);
  });
}

test('4401 with a token that nobody can renew ends the stream', async () => {
  const stream = open({ token: 'old' });
  const seen = collect(stream);
  await opened(stream);
  server.cut(4401);
  await until('it ends', () => !!seen.ended);
  assert.ok(seen.ended?.error instanceof ClosedError && seen.ended.error.code === 4401);
});

test('after 4401 a stream by cookie comes back, and continues if the server lets it', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.publish();
  server.cut(4401, 'credentials expired');
  server.publish();
  await until('it continues', () => seen.numbers.length === 2);
  assert.deepEqual(seen.items.filter(({ type }) => type === 'ready')[1], { type: 'ready', position: 'p1', resumed: true, changed: true });

  server.refuse = () => ({ status: 401, message: 'credentials are required' });
  server.cut(4401, 'credentials expired');
  await until('it ends', () => !!seen.ended);
  assert.ok(seen.ended?.error instanceof RefusedError && seen.ended.error.status === 401);
  assert.equal(server.handshakes.length, 3);
});

test('4401 asks for a new token, and the stream continues', async () => {
  const asked: boolean[] = [];
  const stream = open({ token: ({ refresh }: TokenRequest) => `token-${asked.push(refresh)}` });
  const seen = collect(stream);
  await opened(stream);
  assert.equal(server.client.token, 'token-1');
  server.publish();
  server.cut(4401);
  server.publish();
  await until('it continues', () => seen.numbers.length === 2);
  assert.equal(server.client.token, 'token-2');
  assert.deepEqual(asked, [false, true]);
});

test('an expiring token is renewed on the open connection', async () => {
  let asked = 0;
  const stream = open({ token: async () => `token-${++asked}` });
  await opened(stream);
  server.client.say({ type: 'expiring', at: 1 });
  await until('the token has come', () => server.client.received.length === 1);
  assert.deepEqual(server.client.received, [{ type: 'auth', token: 'token-2' }]);
  assert.equal(server.handshakes.length, 1);
});

test('a source that has no other token is not heard of again on the open connection', async () => {
  let asked = 0;
  const stream = open({ token: async () => (asked++, 'only') });
  await opened(stream);
  server.client.say({ type: 'expiring', at: 1 });
  await until('it is asked', () => asked === 2);
  server.publish();
  await sleep(50);
  assert.deepEqual(server.client.received, []);
});

test('a renewal that the server refuses, or that fails, ends in 4401 and another connection', async () => {
  let asked = 0;
  const stream = open({
    token: async () => {
      if (++asked === 2) throw new Error('the login server is away');
      return `token-${asked}`;
    },
  });
  const seen = collect(stream);
  await opened(stream);
  server.client.say({ type: 'expiring', at: 1 });
  await until('it is asked', () => asked === 2);
  server.client.say({ type: 'expiring', at: 1 });
  await until('the token has come', () => server.client.received.length === 1);
  server.client.say({ type: 'authRefused', message: 'token has another issuer' });
  server.publish();
  server.cut(4401);
  server.publish();
  await until('it continues', () => seen.numbers.length === 2);
  assert.equal(server.client.token, 'token-4');
  assert.equal(server.handshakes.length, 2);
});

test('a refused token is renewed once, then the refusal is final', async () => {
  server.refuse = (token) => (token === 'good' ? undefined : { status: 401, message: 'no' });
  const asked: boolean[] = [];
  const stream = open({ token: ({ refresh }: TokenRequest) => (asked.push(refresh), refresh ? 'good' : 'bad') });
  await opened(stream);
  assert.deepEqual(asked, [false, true]);

  const refused = open({ token: () => 'bad' });
  await assert.rejects(refused[Symbol.asyncIterator]().next(), (error) => error instanceof RefusedError && error.status === 401);
});

test('a source of tokens that fails is asked again, unless it fails with a StreamError', async () => {
  let asked = 0;
  const stream = open({
    token: () => {
      if (++asked < 3) throw new Error('offline');
      return 'good';
    },
  });
  await opened(stream);
  assert.equal(asked, 3);

  const signedOut = open({ token: () => Promise.reject(new StreamError('signed out')) });
  await assert.rejects(signedOut[Symbol.asyncIterator]().next(), /signed out/);
});

for (const [status, exception] of [
  [400, 'QueryVariableNotBoundException'],
  [401, 'UnauthorizedException'],
  [403, 'ForbiddenException'],
  [404, 'NotFoundException'],
] as const) {
  test(`a handshake refused with ${status} ends the stream with status, exception, and message`, async () => {
    server.refuse = () => ({ status, exception, message: 'variable n not bound' });
    await assert.rejects(open({ token: 'secret' })[Symbol.asyncIterator]().next(), (error) => {
      assert.ok(error instanceof RefusedError);
      assert.equal(error.status, status);
      assert.equal(error.exception, exception);
      assert.equal(error.message, 'variable n not bound');
      return true;
    });
    assert.equal(server.handshakes.length, 1);
    assert.equal(server.questions[0]?.authorization, 'Bearer secret');
  });
}

test('the question why is about the same request, its position included', async () => {
  server.refuse = (_, url) => (url.searchParams.get('resumeAfter') === 'forged' ? { status: 400, message: 'no position' } : undefined);
  const stream = open({ resumeAfter: 'forged', avars: { n: 1 } });
  await assert.rejects(stream[Symbol.asyncIterator]().next(), /no position/);
  assert.equal(server.questions[0]?.url.searchParams.get('avars'), '{"n":1}');
});

for (const status of [429, 503]) {
  test(`${status} is tried again, not before Retry-After has passed`, async () => {
    let refused = 0;
    server.refuse = () => (server.handshakes.length < 2 ? { status, headers: { 'Retry-After': '1' } } : undefined);
    const stream = open();
    stream.on('state', (state) => {
      if (state.name !== 'waiting') return;
      refused++;
      assert.ok(state.delay >= 1000);
      assert.ok(state.error instanceof RefusedError && state.error.status === status);
    });
    const began = Date.now();
    await opened(stream);
    assert.equal(refused, 1);
    assert.ok(Date.now() - began >= 950);
  });
}

for (const page of ['<h1>404 Not Found</h1>', '{"message":"no Route matched with those values"}', '']) {
  for (const status of [403, 404]) {
    test(`a proxy that answers ${status} ${page} while the server is replaced ends no stream`, async () => {
      server.refuse = () => (server.handshakes.length < 2 ? { status, page } : undefined);
      const stream = open();
      const errors: unknown[] = [];
      stream.on('state', (state) => state.name === 'waiting' && errors.push(state.error));
      await opened(stream);
      assert.ok(errors.length === 1 && errors[0] instanceof RefusedError && errors[0].status === status);
    });
  }
}

for (const status of [401, 414, 431]) {
  test(`${status} is final without a word of the server's too`, async () => {
    server.refuse = () => ({ status, page: '' });
    await assert.rejects(open()[Symbol.asyncIterator]().next(), (error) => error instanceof RefusedError && error.status === status);
  });
}

test('a server that is away is found again when it is back', async () => {
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  const { port } = server;
  await server.stop();
  server.publish();
  await sleep(300);
  await server.listen(port);
  await until('it continues', () => seen.numbers.length === 1, 20_000);
  assert.ok(!types(seen.items).includes('gap'));
});

test('a server without sub-protocols, as others are, is spoken to plainly without offering any', async () => {
  server.knowsProtocols = false;
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.publish();
  server.cut();
  server.publish();
  await until('both have come', () => seen.numbers.length === 2);
  assert.deepEqual(seen.numbers, upTo(2));
  assert.ok(!types(seen.items).includes('gap'));
});

test('a handshake that fails once is no sign of a server without sub-protocols', async () => {
  server.knowsProtocols = false;
  const stream = open();
  await until('it waits', () => stream.state.name === 'waiting');
  server.knowsProtocols = true;
  await opened(stream);
  assert.equal(server.client.plain, false);
});

test('a server without v1 is spoken to plainly, with positions', async () => {
  server.knowsV1 = false;
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  for (let n = 0; n < 3; n++) server.publish();
  server.cut();
  server.publish();
  await until('all have come', () => seen.numbers.length === 4);
  assert.deepEqual(seen.numbers, upTo(4));
  assert.equal(server.handshakes.at(-1)?.url.searchParams.get('position'), 'true');
  assert.deepEqual(types(seen.items).filter((type) => type === 'gap'), []);
  const event = seen.items.find((item) => item.type === 'event');
  assert.ok(event?.type === 'event' && event.position === 'p1' && !('position' in event.event));
});

test('a server without positions is not continued in silence: that is a gap', async () => {
  server.knowsV1 = server.knowsPositions = false;
  const stream = open();
  const seen = collect(stream);
  await opened(stream);
  server.publish();
  await until('it has come', () => seen.numbers.length === 1);
  server.cut();
  await until('it is back', () => types(seen.items).includes('gap'));
  assert.deepEqual(types(seen.items), ['ready', 'event', 'gap', 'ready']);
});

test('a snapshot asked of a server without v1 is an error, not half a stream', async () => {
  server.knowsV1 = false;
  await assert.rejects(open({ snapshot: true })[Symbol.asyncIterator]().next(), /snapshot needs tailrace.v1.json/);
});

test('a snapshot that breaks off begins again, and one that is whole is continued', async () => {
  server.snapshot = [{ _id: 'a' }, { _id: 'b' }];
  server.publish();
  let broken = false;
  server.greet = (client) => {
    if (broken) return server.welcome(client);
    broken = true;
    client.say({ type: 'ready', position: 'p1' });
    client.say({ type: 'snapshot', document: { _id: 'a' } });
    return client.socket.close(1001);
  };
  const seen = collect(open({ snapshot: true }));
  await until('it is whole', () => types(seen.items).includes('snapshotEnd'));
  assert.deepEqual(types(seen.items), ['ready', 'snapshot', 'ready', 'snapshot', 'snapshot', 'snapshotEnd']);
  assert.equal(server.handshakes[1]?.url.searchParams.get('snapshot'), 'true');
  server.cut();
  server.publish();
  await until('it continues', () => seen.numbers.length === 1);
  assert.deepEqual(seen.numbers, [2]);
  assert.equal(server.handshakes[2]?.url.searchParams.get('snapshot'), null);
});

test('a gap in a stream with a snapshot is followed by a new snapshot', async () => {
  server.snapshot = [{ _id: 'a' }];
  const seen = collect(open({ snapshot: true }));
  await until('it is whole', () => types(seen.items).includes('snapshotEnd'));
  server.client.say({ type: 'gap', reason: 'history lost', position: 'p0' });
  await until('it is whole again', () => seen.items.length === 7);
  assert.deepEqual(types(seen.items).slice(3), ['gap', 'ready', 'snapshot', 'snapshotEnd']);
});

test('a snapshot larger than all that may wait is not interrupted', async () => {
  server.snapshot = upTo(100).map((_id) => ({ _id, text: 'x'.repeat(100) }));
  const stream = open({ snapshot: true, buffer: 1_000 });
  const items = stream[Symbol.asyncIterator]();
  await until('it pauses behind it', () => stream.state.name === 'paused');
  const taken = await take(items, 102);
  assert.deepEqual(types(taken).slice(-2), ['snapshot', 'snapshotEnd']);
  server.publish();
  assert.equal((await items.next()).value?.type, 'ready');
  assert.equal((await items.next()).value?.type, 'event');
});

test('an abort ends the stream quietly, and what waited is not handed over', async () => {
  const controller = new AbortController();
  const stream = open({ signal: controller.signal });
  const items = stream[Symbol.asyncIterator]();
  await opened(stream);
  controller.abort();
  assert.deepEqual(await items.next(), { done: true, value: undefined });
  await until('the connection is closed', () => server.clients.size === 0);
  assert.equal(watch(server.url, { WebSocket, signal: controller.signal }).state.name, 'closed');
  assert.equal(server.handshakes.length, 1);
});

test('leaving the loop closes the stream', async () => {
  for await (const item of open()) if (item.type === 'ready') break;
  await until('the connection is closed', () => server.clients.size === 0);
});

test('close ends a loop that waits', async () => {
  const stream = open();
  const items = stream[Symbol.asyncIterator]();
  await take(items, 1);
  const waiting = items.next();
  stream.close();
  assert.deepEqual(await waiting, { done: true, value: undefined });
});

test('a listener that returns a promise is waited for', async () => {
  const stream = open();
  const steps: string[] = [];
  stream.on('event', async ({ event }) => {
    steps.push(`begin ${event.fullDocument!._id}`);
    await sleep(10);
    steps.push(`end ${event.fullDocument!._id}`);
  });
  await opened(stream);
  server.publish();
  server.publish();
  await until('both are through', () => steps.length === 4);
  assert.deepEqual(steps, ['begin 1', 'end 1', 'begin 2', 'end 2']);
});

test('a listener that throws is reported as uncaught, and disturbs nobody; so is an end that nobody listens to', async () => {
  // In a process of its own: the test runner takes what is uncaught for a failure of the test.
  const program = `
    import { watch } from 'tailrace';
    import { WebSocket } from 'ws';
    process.on('unhandledRejection', (error) => console.log('uncaught', error.message));
    const stream = watch('${server.url}', { WebSocket });
    stream.on('event', () => { throw new Error('mine'); });
    stream.on('event', ({ position }) => console.log('event', position));`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (data) => (said += data));
  await until('it is open', () => server.clients.size === 1);
  server.publish();
  server.publish();
  await until('both came', () => said.includes('event p2'));
  server.cut(4002, 'gone');
  await once(child, 'exit');
  assert.deepEqual(said.trim().split('\n').sort(), ['event p1', 'event p2', 'uncaught closed with 4002: gone', 'uncaught mine', 'uncaught mine']);
});

test('a stream has one consumer: a loop or listeners', () => {
  const looped = open();
  looped[Symbol.asyncIterator]();
  assert.throws(() => looped.on('event', () => {}), /iterated/);
  const listened = open();
  listened.on('event', () => {});
  assert.throws(() => listened[Symbol.asyncIterator](), /listeners/);
  assert.doesNotThrow(() => looped.on('state', () => {}));
});

test('the address may be http and have parameters of its own', async () => {
  const stream = open({ avars: { room: 'a b' }, jsonMode: 'canonical' }, `${server.url.replace('ws', 'http')}?x=1#y`);
  await opened(stream);
  assert.equal(server.client.url.search, '?x=1&avars=%7B%22room%22%3A%22a+b%22%7D&jsonMode=canonical');
});

test('what is no address, or has no WebSocket, is told at once', () => {
  assert.throws(() => watch('ftp://host/a', { WebSocket }), /ftp:\/\/host\/a is no address of a stream/);
  assert.throws(() => watch('/relative', { WebSocket }), TypeError);
  if (!globalThis.WebSocket) assert.throws(() => watch(server.url), /give one as the option WebSocket/);
});

test('a token that fits no sub-protocol ends the stream with an error', async () => {
  await assert.rejects(open({ token: 'not a token' })[Symbol.asyncIterator]().next(), StreamError);
});
