// The last fault: what was silent, for how long, and when what happened. Numbers come from decoders.

import type { Demo } from './demo.ts';
import { h } from './dom.ts';
import { now, type PathEvent } from './failover.ts';
import type { Kind, Measure } from './measure.ts';
import { type Gap, seconds, verdict } from './silence.ts';
import { type Fault, steps, type Story, tell } from './timeline.ts';

/** A fault is measured this long; afterwards its card stands still, in ms. */
const MEASURE_MS = 60_000;
const AFTER: Readonly<Record<string, string>> = { kill: 'killed', freeze: 'frozen', drain: 'drained', wipe: 'wiped' };

interface Loss {
  readonly name: string;
  readonly sound: Gap | undefined;
  readonly picture: Gap | undefined;
}

export class FaultCard {
  private readonly root: HTMLElement;
  private readonly measure: Measure;
  private readonly nameOf: (identity: string) => string;
  private story: Story | undefined;
  private drawn = '';
  /** What was done before this page was in the room did nothing to it. */
  private readonly since = now();

  constructor(root: HTMLElement, measure: Measure, nameOf: (identity: string) => string) {
    this.root = root;
    this.measure = measure;
    this.nameOf = nameOf;
    this.draw(0);
  }

  /** Takes up the youngest fault that the demo reports. */
  report(faults: readonly Fault[], demo: Demo): void {
    const last = faults.findLast((fault) => fault.action in AFTER && demo.here(fault.at) > this.since);
    if (last === undefined || last.id === this.story?.fault.id) return;
    this.story = { fault: { ...last, at: demo.here(last.at) } };
    // What the page saw before the demo's report arrived belongs to it too.
    for (const event of this.recent) tell(this.story, event);
  }

  private recent: PathEvent[] = [];

  /** Hears what happens to the signalling path. */
  heard(event: PathEvent): void {
    this.recent = [...this.recent, event].slice(-16);
    if (this.story !== undefined) tell(this.story, event);
  }

  draw(at: number): void {
    const { story } = this;
    if (story === undefined) {
      this.put('empty', [
        h('h2', {}, 'Last fault'),
        h('p', { class: 'hint' }, 'None yet. Kill, freeze or drain something below; what you missed is measured here.'),
      ]);
      return;
    }
    if (at - story.fault.at > MEASURE_MS) return;
    const losses = this.losses(story.fault, at);
    const title = `${story.fault.target} ${AFTER[story.fault.action] ?? story.fault.action}`;
    const head = h('h2', {}, 'Last fault: ', h('b', {}, title));
    if (losses.length === 0) {
      this.put('alone', [head, h('p', { class: 'hint' }, 'Nobody else sends anything here, so there is nothing to miss. Open a second window.')]);
      return;
    }
    const sound = longest(losses.map((loss) => loss.sound));
    const picture = longest(losses.map((loss) => loss.picture));
    // A call without sound is worse than one without pictures: that number is the large one.
    const onlyPicture = lengthOf(sound) === 0 && lengthOf(picture) > 0;
    const first = onlyPicture ? picture : (sound ?? picture);
    const worst = lengthOf(first);
    const going = first !== undefined && first.end >= at;
    const told = steps(story, ended(sound, at), ended(picture, at));
    const body = [
      head,
      h(
        'p',
        { class: going ? 'figure going' : 'figure' },
        h('b', {}, seconds(worst)),
        h('span', {}, going ? 'and counting' : `${onlyPicture ? 'without a picture' : 'of silence'}: ${verdict(worst)}`),
      ),
      bar(story.fault, sound, picture, told, at),
      h('ol', { class: 'steps' }, ...told.map((step) => h('li', {}, h('b', {}, `+${seconds(step.after)}`), ` ${step.label}`))),
      h('table', {}, tableHead(), h('tbody', {}, ...losses.map(row))),
    ];
    this.put(JSON.stringify([story, losses, told]), body);
  }

  private losses(fault: Fault, at: number): Loss[] {
    const losses: Loss[] = [];
    for (const [identity, kinds] of this.measure.entries()) {
      const gap = (kind: Kind) => kinds.get(kind)?.longest(fault.at, at);
      const loss = { name: this.nameOf(identity), sound: gap('sound'), picture: gap('picture') };
      if (loss.sound !== undefined || loss.picture !== undefined) losses.push(loss);
    }
    return losses;
  }

  private put(state: string, children: Node[]): void {
    if (state === this.drawn) return;
    this.drawn = state;
    this.root.replaceChildren(...children);
  }
}

const lengthOf = (gap: Gap | undefined): number => (gap === undefined ? 0 : gap.end - gap.start);

function longest(gaps: readonly (Gap | undefined)[]): Gap | undefined {
  return gaps.reduce((best, gap) => (best === undefined || lengthOf(gap) > lengthOf(best) ? gap : best), undefined);
}

/** When the gap was over; undefined while it goes on, or when there was none. */
function ended(gap: Gap | undefined, at: number): number | undefined {
  return gap === undefined || lengthOf(gap) === 0 || gap.end >= at ? undefined : gap.end;
}

function tableHead(): HTMLElement {
  return h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'From'), h('th', { scope: 'col' }, 'Sound'), h('th', { scope: 'col' }, 'Picture')));
}

function row(loss: Loss): HTMLElement {
  const cell = (gap: Gap | undefined) => (gap === undefined ? 'off' : lengthOf(gap) === 0 ? 'no gap' : seconds(lengthOf(gap)));
  return h('tr', {}, h('th', { scope: 'row' }, loss.name), h('td', {}, cell(loss.sound)), h('td', {}, cell(loss.picture)));
}

/** The line from a little before the fault to a little after the last step. */
function bar(fault: Fault, sound: Gap | undefined, picture: Gap | undefined, told: readonly { after: number; label: string }[], at: number): HTMLElement {
  const holes = [sound, picture].filter((gap) => gap !== undefined && lengthOf(gap) > 0);
  const last = Math.max(500, ...holes.map((gap) => (gap?.end ?? 0) - fault.at), ...told.map((step) => step.after));
  const from = fault.at - last * 0.08;
  // Nothing is drawn beyond now.
  const span = Math.max(last * 1.08, Math.min(last * 1.2, at - from));
  const place = (moment: number) => Math.min(100, Math.max(0, ((moment - from) / span) * 100));
  const lane = (gap: Gap | undefined) => {
    const line = h('div', { class: 'lane' });
    if (gap === undefined) line.classList.add('off');
    else if (lengthOf(gap) > 0) {
      const hole = h('i', { class: 'hole' });
      hole.style.left = `${place(gap.start)}%`;
      hole.style.width = `${Math.max(0.8, place(Math.min(gap.end, at)) - place(gap.start))}%`;
      line.append(hole);
    }
    return line;
  };
  const marks = [{ after: 0, label: 'fault' }, ...told].map(({ after, label }) => {
    const mark = h('i', { class: `mark ${label.replace(' ', '-')}`, title: `${label} +${seconds(after)}` });
    mark.style.left = `${place(fault.at + after)}%`;
    return mark;
  });
  const label = `Timeline: ${told.map((step) => `${step.label} after ${seconds(step.after)}`).join(', ')}`;
  const names = h('div', { class: 'names' }, h('span', {}, 'sound'), h('span', {}, 'picture'));
  const track = h('div', { class: 'track' }, lane(sound), lane(picture), ...marks);
  return h('div', { class: 'timeline', role: 'img', 'aria-label': label }, names, track);
}
