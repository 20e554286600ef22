import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';

import { endpoint, sourceOf } from '../src/source.ts';

async function answering(status: number, body: string, ask: (url: string) => Promise<void>) {
  const heard: { method?: string | undefined; headers?: http.IncomingHttpHeaders; body: string } = { body: '' };
  const it = http.createServer((request, response) => {
    [heard.method, heard.headers] = [request.method, request.headers];
    request.on('data', (part) => (heard.body += part));
    request.on('end', () => response.writeHead(status, { 'content-type': 'application/json' }).end(body));
  });
  await new Promise<void>((resolve) => it.listen(0, '127.0.0.1', resolve));
  await ask(`http://127.0.0.1:${(it.address() as AddressInfo).port}/token`);
  it.closeAllConnections();
  it.close();
  return heard;
}

test('an endpoint is asked as LiveKit asks, and its answer may name several servers', async () => {
  const one = '{"server_url":"wss://a","participant_token":"t","other":1}';
  const heard = await answering(201, one, async (url) => {
    const source = endpoint(url, { headers: { authorization: 'mine' }, body: { room_name: 'r' } });
    assert.deepEqual(await source.fetch(), { serverUrls: ['wss://a'], participantToken: 't' });
  });
  assert.equal(heard.method, 'POST');
  assert.equal(heard.headers?.authorization, 'mine');
  assert.deepEqual(JSON.parse(heard.body), { room_name: 'r' });
  const several = '{"serverUrl":"wss://a","serverUrls":["wss://a","wss://b"],"participantToken":"t"}';
  await answering(200, several, async (url) => {
    assert.deepEqual((await endpoint(url).fetch()).serverUrls, ['wss://a', 'wss://b']);
  });
});

test('an answer that is none is an error that says so', async () => {
  for (const [status, body, said] of [
    [500, '{}', /answered 500/],
    [200, '{}', /without server_url/],
    [200, '{"server_url":"wss://a"}', /without server_url/],
    [200, '{"server_urls":[1],"participant_token":"t"}', /without server_url/],
    [200, 'null', /without server_url/],
  ] as const) {
    await answering(status, body, (url) => assert.rejects(endpoint(url).fetch(), said));
  }
});

test('a list is what it says, and mistakes in it are told', async () => {
  assert.deepEqual(await sourceOf('wss://a', 't').fetch(), { serverUrls: ['wss://a'], participantToken: 't' });
  const source = { fetch: () => Promise.resolve({ serverUrls: ['wss://b'], participantToken: 'u' }) };
  assert.equal(sourceOf(source, undefined), source);
  assert.throws(() => sourceOf([], 't'), /at least one/);
  assert.throws(() => sourceOf(['wss://a', 'nowhere'], 't'), /"nowhere" is no URL/);
  assert.throws(() => sourceOf(['wss://a'], undefined), /needs a token/);
});
