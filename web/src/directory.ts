// Where the directory's database decides who holds a room, with the buttons that break the region it is in and that empty it.

import type { Action, Demo, DirectoryReport, State } from './demo.ts';
import { h, setText } from './dom.ts';

const NAMES: Readonly<Record<string, string>> = { etcd: 'etcd', sentinel: 'Redis, Sentinel', cluster: 'Redis Cluster' };
const BREAKS: readonly [Action, string][] = [
  ['kill', 'Kill'],
  ['freeze', 'Freeze'],
];

/** Hidden with the embedded directory, which is in no place of its own. */
export class DirectoryCard {
  private readonly root: HTMLElement;
  private readonly demo: Demo;
  private readonly engine = h('h2');
  private readonly words = h('p', { class: 'decides', role: 'status' });
  private readonly buttons: ReadonlyMap<string, HTMLButtonElement>;
  private readonly wipe = h('button', { type: 'button', class: 'wipe', onclick: () => void this.press((demo) => demo.wipe()) }, 'Wipe');
  /** The region of whoever decides most. */
  private region: string | undefined;

  constructor(root: HTMLElement, demo: Demo) {
    this.root = root;
    this.demo = demo;
    this.buttons = new Map(
      BREAKS.map(([action, label]) => [
        label,
        h('button', { type: 'button', class: action, onclick: () => void this.break(action) }),
      ]),
    );
    root.append(h('header', {}, this.engine, h('div', { class: 'actions' }, ...this.buttons.values(), this.wipe)), this.words);
  }

  show(state: State): void {
    const { directory } = state;
    this.root.hidden = directory.engine === 'embedded';
    setText(this.engine, `Directory: ${NAMES[directory.engine] ?? directory.engine}`);
    const most = [...directory.decides].sort((one, other) => other.partitions - one.partitions)[0];
    this.region = most?.region;
    this.root.dataset['region'] = most?.region ?? '';
    setText(this.words, this.say(directory));
    for (const [label, button] of this.buttons) {
      setText(button, `${label} ${this.demo.label(most?.region)}`);
      button.setAttribute('aria-disabled', String(most === undefined));
    }
    this.wipe.setAttribute('aria-disabled', String(most === undefined));
  }

  private say(directory: DirectoryReport): string {
    if (directory.decides.length === 0) return 'Nobody decides at the moment: rooms are placed without it.';
    const all = directory.decides.reduce((sum, { partitions }) => sum + partitions, 0);
    const places = directory.decides.map(({ process, region, partitions }) => {
      const share = directory.decides.length > 1 ? ` (${partitions} of ${all})` : '';
      return `${process} in ${this.demo.label(region)}${share}`;
    });
    return `${places.join(', ')} ${places.length > 1 ? 'decide' : 'decides'} who gets a room.`;
  }

  private async break(action: Action): Promise<void> {
    const { region } = this;
    if (region !== undefined) await this.press((demo) => demo.act(`regions/${region}`, action));
  }

  private async press(act: (demo: Demo) => Promise<void>): Promise<void> {
    try {
      await act(this.demo);
    } catch (error) {
      setText(this.words, `The demo does not answer (${error instanceof Error ? error.message : String(error)}).`);
    }
  }
}
