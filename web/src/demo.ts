// What the page knows of the demo around it: `/demo.json` (from the gateway) and the control endpoint.

import type { Gateway } from './gateways.ts';
import { now } from './failover.ts';

export type Action = 'kill' | 'freeze' | 'drain' | 'start';
export type ProcessState = 'starting' | 'running' | 'draining' | 'frozen' | 'dead';

export interface ProcessReport {
  readonly id: string;
  readonly role: 'gateway' | 'node' | 'etcd' | 'redis' | 'replica' | 'sentinel';
  readonly state: ProcessState;
  readonly pid: number | null;
  readonly since: number;
}
export interface RegionReport {
  readonly name: string;
  readonly label: string;
  readonly gateway: string;
  readonly processes: readonly ProcessReport[];
}
export interface FaultReport {
  readonly id: number;
  readonly at: number;
  readonly action: string;
  readonly target: string;
}
/** Which servers of the directory decide who holds a room; empty while nobody does. */
export interface DirectoryReport {
  readonly engine: string;
  readonly decides: readonly { readonly process: string; readonly region: string; readonly partitions: number }[];
}
export interface State {
  readonly now: number;
  readonly regions: readonly RegionReport[];
  readonly directory: DirectoryReport;
  readonly faults: readonly FaultReport[];
}
interface Page {
  readonly control: string;
  readonly regions: readonly { readonly name: string; readonly label: string; readonly gateway: string }[];
}

const ANSWER_WITHIN_MS = 2_000;

/** The demo's control endpoint. */
export class Demo {
  readonly page: Page;
  /** Adds up to this page's clock: the phone beside the laptop has another one. */
  private clockOffset = 0;

  private constructor(page: Page) {
    this.page = page;
  }

  static async load(): Promise<Demo> {
    const answer = await fetch('demo.json', { cache: 'no-store' });
    if (!answer.ok) throw new Error(`This gateway is not part of a demo (demo.json: ${answer.status}).`);
    return new Demo((await answer.json()) as Page);
  }

  get gateways(): Gateway[] {
    return this.page.regions.map(({ name, gateway }) => ({ region: name, origin: gateway }));
  }

  label(region: string | undefined): string {
    return this.page.regions.find(({ name }) => name === region)?.label ?? region ?? 'unknown';
  }

  async state(): Promise<State> {
    const asked = now();
    const state = await this.call<State>('/state');
    this.clockOffset = (asked + now()) / 2 - state.now;
    return state;
  }

  /** A moment of the demo's clock on this page's clock, unix ms. */
  here(at: number): number {
    return at + this.clockOffset;
  }

  async token(room: string, identity: string, name: string): Promise<string> {
    const query = new URLSearchParams({ room, identity, name });
    return (await this.call<{ token: string }>(`/token?${query}`)).token;
  }

  /** Does it to a region (`regions/eu`) or to a process (`processes/eu-1`). */
  async act(target: `regions/${string}` | `processes/${string}`, action: Action): Promise<void> {
    await this.call(`/${target}/${action}`, 'POST');
  }

  /** Deletes every room from the directory's servers. */
  async wipe(): Promise<void> {
    await this.call('/directory/wipe', 'POST');
  }

  private async call<T>(path: string, method = 'GET'): Promise<T> {
    const answer = await fetch(this.page.control + path, {
      method,
      cache: 'no-store',
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    if (!answer.ok) throw new Error(`demo control: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }
}
