// The story of one fault as this page saw it: fault, told, back in the room, first sound, first picture.
// Pure; `fault_card.ts` draws it.

import type { PathEvent } from './failover.ts';

/** A fault as the demo reports it; `at` is unix ms by this page's clock. */
export interface Fault {
  readonly id: number;
  readonly at: number;
  readonly action: string;
  readonly target: string;
}

/** Moments after the fault, unix ms; absent = has not happened (or was not needed). */
export interface Story {
  readonly fault: Fault;
  told?: number;
  rejoined?: number;
  how?: 'joined' | 'resumed';
}

/** Two clocks are compared over HTTP, and a killed gateway is noticed within a millisecond: what seems
 *  to have happened this shortly before the fault is its work, in ms. */
const CLOCKS_DIFFER_MS = 150;

/** Tells the story on: what the signalling path did, and whether the room said it reconnects. */
export function tell(story: Story, event: PathEvent): void {
  if (event.at < story.fault.at - CLOCKS_DIFFER_MS) return;
  if (event.kind === 'lost' || event.kind === 'told') story.told ??= event.at;
  if (event.kind !== 'welcome' || story.told === undefined) return;
  if (event.welcome === 'joined' || event.welcome === 'resumed') {
    // A resume that is overtaken by a full join counts as the join.
    story.rejoined = event.at;
    story.how = event.welcome;
  }
}

/** One labelled moment of the drawn timeline, ms after the fault. */
export interface Step {
  readonly label: string;
  readonly after: number;
}

/** The steps in the order in which they happened. */
export function steps(story: Story, firstSound?: number, firstPicture?: number): Step[] {
  const named: [string, number | undefined][] = [
    ['told', story.told],
    [story.how === 'resumed' ? 'resumed' : 'rejoined', story.rejoined],
    ['first sound', firstSound],
    ['first frame', firstPicture],
  ];
  return named
    .filter((entry): entry is [string, number] => entry[1] !== undefined)
    .map(([label, at]) => ({ label, after: Math.max(0, at - story.fault.at) }))
    .sort((a, b) => a.after - b.after);
}
