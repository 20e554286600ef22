import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';

import { race } from '../src/race.ts';

/** A server that answers after that many milliseconds, or never; and how often it was asked. */
async function server(context: TestContext, delay: number | undefined, status = 200) {
  const asked = { times: 0 };
  const it = http.createServer((_, response) => {
    asked.times += 1;
    if (delay !== undefined) setTimeout(() => response.writeHead(status).end(), delay);
  });
  await new Promise<void>((resolve) => it.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    it.closeAllConnections();
    it.close();
  });
  const { port } = it.address() as AddressInfo;
  return { url: `ws://127.0.0.1:${port}/rtc?x=1`, asked };
}

/** A port at which nobody listens. */
async function nobody(): Promise<string> {
  const it = http.createServer();
  await new Promise<void>((resolve) => it.listen(0, '127.0.0.1', resolve));
  const { port } = it.address() as AddressInfo;
  await new Promise((resolve) => it.close(resolve));
  return `ws://127.0.0.1:${port}`;
}

test('the first wins when it answers in time, and nobody else is asked', async (context) => {
  const [first, second] = [await server(context, 50), await server(context, 0)];
  assert.equal(await race([first.url, second.url], { stagger: 2_000 }), first.url);
  assert.equal(second.asked.times, 0);
});

test('one that hangs is passed by the next, and one that refuses at once', async (context) => {
  const [hung, well] = [await server(context, undefined), await server(context, 0)];
  assert.equal(await race([hung.url, well.url], { stagger: 50 }), well.url);
  // Not after the stagger, which is longer than this test.
  assert.equal(await race([await nobody(), well.url], { stagger: 1e6 }), well.url);
});

test('whoever answers is there, whatever it says', async (context) => {
  const busy = await server(context, 0, 503);
  assert.equal(await race([busy.url]), busy.url);
});

test('a slow first one still wins when the second is slower', async (context) => {
  const [first, second] = [await server(context, 300), await server(context, undefined)];
  assert.equal(await race([first.url, second.url], { stagger: 50 }), first.url);
  assert.equal(second.asked.times, 1);
});

test('nobody is nobody, and it ends when it is called off', async (context) => {
  const hung = await server(context, undefined);
  assert.equal(await race([]), undefined);
  assert.equal(await race([await nobody(), hung.url], { stagger: 10, patience: 100 }), undefined);
  const off = new AbortController();
  const racing = race([hung.url], { patience: 1e6 }, off.signal);
  off.abort();
  assert.equal(await racing, undefined);
  assert.equal(await race([hung.url], {}, off.signal), undefined);
});
