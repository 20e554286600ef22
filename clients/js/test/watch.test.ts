import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';

import { Watch } from '../src/watch.ts';

async function server(context: TestContext, answers: boolean) {
  const asked = { times: 0, gone: 0 };
  const it = http.createServer((request, response) => {
    asked.times += 1;
    request.socket.on('close', () => (asked.gone += 1));
    if (answers) response.end();
  });
  await new Promise<void>((resolve) => it.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    it.closeAllConnections();
    it.close();
  });
  return { url: `ws://127.0.0.1:${(it.address() as AddressInfo).port}`, asked };
}

const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};

test('a server that is quiet and does not answer is condemned', async (context) => {
  const hung = await server(context, false);
  const condemned = await new Promise((resolve) => {
    const watch = new Watch({ quiet: 20, probe: 50 }, () => hung.url, () => resolve(true));
    watch.heard(0);
  });
  assert.ok(condemned);
  assert.equal(hung.asked.times, 1);
});

test('one that answers is left alone, and asked again when it stays quiet', async (context) => {
  const well = await server(context, true);
  const watch = new Watch({ quiet: 10, probe: 5_000 }, () => well.url, () => assert.fail('condemned'));
  watch.heard(0);
  await until(() => well.asked.times >= 3);
  watch.stop();
});

test('a word while the question is under way is an answer, and so is an end', async (context) => {
  const hung = await server(context, false);
  for (const end of [(it: Watch) => it.heard(1e6), (it: Watch) => it.stop()]) {
    const { times: before, gone } = hung.asked;
    const watch = new Watch({ quiet: 10, probe: 50 }, () => hung.url, () => assert.fail('condemned'));
    watch.heard(0);
    await until(() => hung.asked.times > before);
    end(watch);
    // The question is given up, and whatever follows from that has happened.
    await until(() => hung.asked.gone > gone);
    await new Promise((resolve) => setImmediate(resolve));
    watch.stop();
  }
});

test('a server that is pinged seldom may be quiet for longer, and one that is not to be watched is not', async (context) => {
  const well = await server(context, true);
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const fail = () => assert.fail('condemned');
  let looks = 0;
  const looked = () => {
    looks += 1;
    return well.url;
  };
  new Watch({ quiet: 0 }, looked, fail).heard(0);
  const seldom = new Watch({ quiet: 10 }, looked, fail);
  seldom.heard(10);
  context.mock.timers.tick(14_999);
  assert.equal(looks, 0);
  context.mock.timers.tick(1);
  assert.equal(looks, 1);
  seldom.stop();
});
