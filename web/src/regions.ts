// The regions and their processes, with the buttons that break them and bring them back.

import type { Action, Demo, ProcessReport, ProcessState, RegionReport, State } from './demo.ts';
import { h, setText } from './dom.ts';
import type { Place } from './meeting.ts';

const SAY: Readonly<Record<ProcessState, string>> = {
  starting: 'starting',
  running: 'running',
  draining: 'draining',
  frozen: 'frozen',
  dead: 'killed',
};
const ACTIONS: readonly [Action, string][] = [
  ['kill', 'Kill'],
  ['freeze', 'Freeze'],
  ['drain', 'Drain'],
  ['start', 'Bring back'],
];

type Target = `regions/${string}` | `processes/${string}`;

interface Row {
  readonly row: HTMLElement;
  readonly state: HTMLElement;
  readonly badge: HTMLElement;
  readonly buttons: ReadonlyMap<Action, HTMLButtonElement>;
}
interface Card {
  readonly card: HTMLElement;
  readonly summary: HTMLElement;
  readonly buttons: ReadonlyMap<Action, HTMLButtonElement>;
  readonly rows: ReadonlyMap<string, Row>;
}

export class Regions {
  private readonly root: HTMLElement;
  private readonly demo: Demo;
  private readonly cards = new Map<string, Card>();
  private readonly trouble = h('p', { class: 'error', role: 'alert' });

  constructor(root: HTMLElement, demo: Demo) {
    this.root = root;
    this.demo = demo;
    root.append(this.trouble);
  }

  /** Shows the demo's state and which processes carry this page. */
  show(state: State, place: Place | undefined): void {
    setText(this.trouble, '');
    for (const region of state.regions) {
      const card = this.cards.get(region.name) ?? this.add(region);
      const states = region.processes.map((process) => process.state);
      card.card.dataset['state'] = summaryOf(states);
      setText(card.summary, summaryOf(states));
      enable(card.buttons, region.processes);
      for (const process of region.processes) {
        const row = card.rows.get(process.id);
        const decides = state.directory.decides.some((one) => one.process === process.id);
        if (row !== undefined) showProcess(row, process, region, place, decides);
      }
    }
  }

  /** The control endpoint did not answer. */
  lost(message: string): void {
    setText(this.trouble, `The demo does not answer (${message}). Is it still running?`);
  }

  private add(region: RegionReport): Card {
    const summary = h('span', { class: 'summary', role: 'status' });
    const buttons = this.buttons(`regions/${region.name}`, `region ${region.label}`);
    const rows = new Map<string, Row>();
    const list = h('ul', { class: 'processes' });
    for (const { id } of region.processes) {
      const state = h('span', { class: 'state' });
      const badge = h('span', { class: 'badge', hidden: true });
      const small = this.buttons(`processes/${id}`, id);
      const row = h(
        'li',
        {},
        h('span', { class: 'dot', 'aria-hidden': 'true' }),
        h('span', { class: 'id' }, id),
        badge,
        state,
        h('span', { class: 'small', role: 'group', 'aria-label': id }, ...small.values()),
      );
      list.append(row);
      rows.set(id, { row, state, badge, buttons: small });
    }
    const element = h(
      'article',
      { class: 'region card', 'data-region': region.name, 'aria-label': `Region ${region.label}` },
      h('header', {}, h('h2', {}, region.label), summary, h('div', { class: 'actions' }, ...buttons.values())),
      list,
    );
    this.root.insertBefore(element, this.trouble);
    const card = { card: element, summary, buttons, rows };
    this.cards.set(region.name, card);
    return card;
  }

  private buttons(target: Target, of: string): Map<Action, HTMLButtonElement> {
    return new Map(
      ACTIONS.map(([action, label]) => {
        const press = () => void this.press(target, action);
        const button = h(
          'button',
          { type: 'button', class: action, 'aria-label': `${label} ${of}`, title: `${label} ${of}`, onclick: press },
          label,
        );
        return [action, button];
      }),
    );
  }

  private async press(target: Target, action: Action): Promise<void> {
    try {
      await this.demo.act(target, action);
    } catch (error) {
      this.lost(error instanceof Error ? error.message : String(error));
    }
  }
}

function summaryOf(states: readonly ProcessState[]): string {
  const [first] = states;
  if (first !== undefined && states.every((state) => state === first)) {
    return first === 'dead' ? 'down' : SAY[first];
  }
  if (states.includes('starting')) return 'starting';
  return states.some((state) => state === 'dead' || state === 'frozen') ? 'degraded' : 'draining';
}

function enable(buttons: ReadonlyMap<Action, HTMLButtonElement>, processes: readonly ProcessReport[]): void {
  const some = (...wanted: ProcessState[]) => processes.some(({ state }) => wanted.includes(state));
  const allowed: Readonly<Record<Action, boolean>> = {
    kill: some('starting', 'running', 'draining', 'frozen'),
    freeze: some('starting', 'running', 'draining'),
    drain: processes.some(({ role, state }) => role === 'node' && state === 'running'),
    start: some('dead', 'frozen', 'draining'),
  };
  for (const [action, button] of buttons) {
    // `aria-disabled` keeps the focus where it is when a button stops to apply.
    button.setAttribute('aria-disabled', String(!allowed[action]));
  }
}

function showProcess(
  row: Row,
  process: ProcessReport,
  region: RegionReport,
  place: Place | undefined,
  decides: boolean,
): void {
  row.row.dataset['state'] = process.state;
  setText(row.state, SAY[process.state]);
  // Green says it already; the word is for those who do not see the dot.
  row.state.classList.toggle('unseen', process.state === 'running');
  enable(row.buttons, [process]);
  const signalling = process.role === 'gateway' && place?.gateway === region.name;
  const media = process.role === 'node' && place?.node === process.id;
  row.badge.hidden = !signalling && !media && !decides;
  setText(row.badge, decides ? 'decides' : signalling ? 'your signalling' : 'your media');
}
