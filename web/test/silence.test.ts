// What counts as silence, and how a fault's story is told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flow, seconds } from '../src/silence.ts';
import { steps, type Story, tell } from '../src/timeline.ts';

function marked(flow: Flow, from: number, to: number): Flow {
  for (let at = from; at <= to; at += 50) flow.mark(at);
  return flow;
}

test('the longest gap around the fault is found, earlier ones are not its', () => {
  const flow = marked(new Flow(), 0, 1_000);
  marked(flow, 5_000, 10_000);
  marked(flow, 10_800, 20_000);
  assert.deepEqual(flow.longest(10_050, 20_000), { start: 10_000, end: 10_800 });
});

test('the cadence of the looks is no gap', () => {
  const flow = marked(new Flow(), 0, 3_000);
  assert.deepEqual(flow.longest(1_000, 3_020), { start: 1_000, end: 1_000 });
});

test('a gap that goes on counts up to now', () => {
  const flow = marked(new Flow(), 0, 1_000);
  assert.deepEqual(flow.longest(1_010, 4_000), { start: 1_000, end: 4_000 });
  assert.equal(flow.isSilent(1_900), false);
  assert.equal(flow.isSilent(2_100), true);
});

test('mute is not silence, and a participant that never sent has nothing to lose', () => {
  const flow = marked(new Flow(), 0, 1_000);
  flow.rest();
  marked(flow, 9_000, 9_500);
  assert.deepEqual(flow.longest(900, 9_500), { start: 900, end: 900 });
  assert.equal(new Flow().longest(0, 10), undefined);
  flow.rest();
  assert.equal(flow.longest(9_600, 9_900), undefined);
});

test('the story counts what came after the fault, and a later full join overrides a resume', () => {
  const gateway = { region: 'us', origin: 'http://127.0.0.1:7980' };
  const story: Story = { fault: { id: 1, at: 1_000, action: 'kill', target: 'eu' } };
  tell(story, { kind: 'lost', gateway, cause: 'cut', at: 800 });
  tell(story, { kind: 'welcome', welcome: 'joined', gateway, at: 1_001 });
  tell(story, { kind: 'lost', gateway, cause: 'cut', at: 1_020 });
  tell(story, { kind: 'welcome', welcome: 'turned-away', gateway, at: 1_100 });
  tell(story, { kind: 'told', at: 1_101 });
  tell(story, { kind: 'welcome', welcome: 'joined', gateway, at: 1_400 });
  assert.deepEqual(steps(story, 1_700, 1_650), [
    { label: 'told', after: 20 },
    { label: 'rejoined', after: 400 },
    { label: 'first frame', after: 650 },
    { label: 'first sound', after: 700 },
  ]);
});

test('a cut that seems to come just before the fault is its work', () => {
  const gateway = { region: 'us', origin: 'http://127.0.0.1:7980' };
  const story: Story = { fault: { id: 1, at: 1_000, action: 'kill', target: 'us-gateway' } };
  tell(story, { kind: 'lost', gateway, cause: 'cut', at: 990 });
  tell(story, { kind: 'welcome', welcome: 'resumed', gateway, at: 1_080 });
  assert.deepEqual(steps(story), [
    { label: 'told', after: 0 },
    { label: 'resumed', after: 80 },
  ]);
});

test('seconds are readable', () => {
  assert.equal(seconds(843), '0.84 s');
  assert.equal(seconds(12_345), '12.3 s');
});
