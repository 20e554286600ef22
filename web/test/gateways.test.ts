// Where a client dials next, and what it reads off the first frame.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atGateway, BAD_FOR_MS, GatewayList, reconnectDelay, welcomeOf } from '../src/gateways.ts';

const EU = { region: 'eu', origin: 'http://127.0.0.1:7880' };
const US = { region: 'us', origin: 'https://us.example.org' };
const AP = { region: 'ap', origin: 'http://127.0.0.1:8080' };

test('a failed gateway is passed over, in order and round the end of the list', () => {
  const list = new GatewayList([EU, US, AP]);
  list.prefer(AP);
  assert.equal(list.choose(0), AP);
  list.failed(AP, 0);
  assert.equal(list.choose(1), EU);
  list.failed(EU, 1);
  assert.equal(list.choose(2), US);
});

test('with all of them bad, the one that failed first is tried first', () => {
  const list = new GatewayList([EU, US, AP]);
  list.failed(US, 10);
  list.failed(EU, 20);
  list.failed(AP, 30);
  assert.equal(list.choose(40), US);
});

test('a client does not jump back when the old gateway is well again', () => {
  const list = new GatewayList([EU, US, AP]);
  list.failed(EU, 0);
  assert.equal(list.choose(BAD_FOR_MS + 1), US);
  list.failed(US, BAD_FOR_MS + 2);
  list.answered(EU);
  assert.equal(list.choose(BAD_FOR_MS + 3), AP);
});

test('a URL moves to another gateway with path, query and scheme family', () => {
  const dial = new URL('ws://127.0.0.1:7880/rtc/v1?access_token=t');
  assert.equal(new GatewayList([EU, US]).owning(dial), EU);
  assert.equal(atGateway(dial, US).href, 'wss://us.example.org/rtc/v1?access_token=t');
  assert.equal(atGateway(dial, AP).href, 'ws://127.0.0.1:8080/rtc/v1?access_token=t');
  const validate = new URL('https://us.example.org/rtc/v1/validate');
  assert.equal(atGateway(validate, EU).href, 'http://127.0.0.1:7880/rtc/v1/validate');
  assert.equal(new GatewayList([EU]).owning(new URL('wss://elsewhere.example.org/')), undefined);
});

test('the first frame says join, resume or leave', () => {
  assert.equal(welcomeOf(Uint8Array.of(0x0a, 0x10)), 'joined');
  assert.equal(welcomeOf(Uint8Array.of(0x9a, 0x01, 0x00)), 'resumed');
  assert.equal(welcomeOf(Uint8Array.of(0x42, 0x04)), 'turned-away');
  // The answer to a ping (field 20) is no welcome.
  assert.equal(welcomeOf(Uint8Array.of(0xa2, 0x01, 0x00)), 'other');
  assert.equal(welcomeOf(new Uint8Array()), 'other');
});

test('reconnects start at once, slow down, and stay below six seconds for ever', () => {
  assert.ok(reconnectDelay(0, 0.99) < 150);
  for (let attempt = 1; attempt < 1_100; attempt += 1) {
    const delay = reconnectDelay(attempt, 0.99);
    assert.ok(delay > 100 && delay < 6_000, `${attempt}: ${delay}`);
  }
});
