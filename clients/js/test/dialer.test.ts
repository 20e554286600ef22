import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';

import { ConnectionError } from 'livekit-client';

import { Dialer } from '../src/dialer.ts';
import { sourceOf } from '../src/source.ts';

async function server(context: TestContext): Promise<string> {
  const it = http.createServer((_, response) => response.end('OK'));
  await new Promise<void>((resolve) => it.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    it.closeAllConnections();
    it.close();
  });
  return `ws://127.0.0.1:${(it.address() as AddressInfo).port}`;
}

async function dialer(urls: string[]) {
  const dialer = new Dialer(sourceOf(urls, 'token'), {});
  await dialer.learn();
  return dialer;
}

const unreachable = () => ConnectionError.serverUnreachable('gone');

test('a server that answers and fails is passed over, and the one that took the call is called first', async (context) => {
  const urls = [await server(context), await server(context)];
  const it = await dialer(urls);
  const called: string[] = [];
  const attempt = (url: string) => {
    called.push(url);
    return url === urls[0] ? Promise.reject(unreachable()) : Promise.resolve('in');
  };
  assert.equal(await it.call(attempt), 'in');
  assert.deepEqual(called, urls);
  assert.equal(it.last, urls[1]);
  await it.call(attempt);
  assert.deepEqual(called.slice(2), [urls[1]]);
});

test('a refusal for good is told at once, by whoever said it', async (context) => {
  const urls = [await server(context), await server(context)];
  let asked = 0;
  const source = {
    fetch: () => {
      asked += 1;
      return Promise.resolve({ serverUrls: urls, participantToken: 't' });
    },
  };
  const it = new Dialer(source, {});
  await it.learn();
  let calls = 0;
  const refused = it.call(() => {
    calls += 1;
    return Promise.reject(ConnectionError.notAllowed('no', 401));
  });
  await assert.rejects(refused, /no/);
  assert.deepEqual([calls, asked], [1, 1]);
});

test('when all fail the last error is told, and the source is asked anew', async (context) => {
  const urls = [await server(context), await server(context)];
  let asked = 0;
  const source = {
    fetch: () => {
      asked += 1;
      return Promise.resolve({ serverUrls: asked < 3 ? urls : [urls[1] as string], participantToken: 't' });
    },
  };
  const it = new Dialer(source, {});
  await it.learn();
  const called: string[] = [];
  const attempt = (url: string) => {
    called.push(url);
    return Promise.reject(unreachable());
  };
  for (let n = 0; n < 3; n += 1) await assert.rejects(it.call(attempt), /gone/);
  assert.deepEqual(called, [...urls, ...urls, urls[1]]);
  assert.equal(asked, 4);
});

test('when nobody answers the first one fails in its own words', async () => {
  const it = await dialer(['ws://127.0.0.1:9', 'ws://127.0.0.1:10']);
  await assert.rejects(it.call(() => Promise.reject(new Error('dial failed'))), /dial failed/);
});

test('a server that was given up is tried last, until another one has taken the call', async (context) => {
  const urls = [await server(context), await server(context)];
  const it = await dialer(urls);
  const attempt = (url: string) => Promise.resolve(url);
  assert.equal(await it.call(attempt), urls[0]);
  it.shun();
  assert.equal(await it.call(attempt), urls[1]);
  assert.equal(await it.call(attempt), urls[1]);
  it.shun();
  const refuses = (url: string) => (url === urls[0] ? Promise.reject(unreachable()) : attempt(url));
  assert.equal(await it.call(refuses), urls[1], 'better than none');
});
