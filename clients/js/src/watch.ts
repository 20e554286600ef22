/** Notices a server that says nothing any more: one that hangs, or whose region is cut off, takes no connection down. */

import { race } from './race.ts';

export interface WatchOptions {
  /** Milliseconds without a word from the server after which it is asked for one; 1500, 0: never. */
  quiet?: number;
  /** Milliseconds that it then has for its answer; 500. */
  probe?: number;
}

const QUIET_MS = 1_500;
const PROBE_MS = 500;
/** A server is pinged, and quiet for as long as it is not: so many times that. */
const PINGS = 1.5;

/** Watches one connection. */
export class Watch {
  readonly #options: WatchOptions;
  readonly #server: () => string | undefined;
  readonly #condemn: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts what was heard, so that a late answer is known as one. */
  #heard = 0;

  /** `server`: whose connection it is; `condemn`: called when it says nothing, and does not answer either. */
  constructor(options: WatchOptions, server: () => string | undefined, condemn: () => void) {
    this.#options = options;
    this.#server = server;
    this.#condemn = condemn;
  }

  /** The server has said something; it is pinged each so many seconds. */
  heard(pingSeconds: number): void {
    this.stop();
    const { quiet = QUIET_MS } = this.#options;
    if (quiet <= 0) return;
    const span = Math.max(quiet, pingSeconds * 1_000 * PINGS);
    this.#timer = setTimeout(() => void this.#ask(pingSeconds), span);
  }

  /** There is no connection any more. */
  stop(): void {
    this.#heard += 1;
    clearTimeout(this.#timer);
  }

  async #ask(pingSeconds: number): Promise<void> {
    const [heard, url] = [this.#heard, this.#server()];
    if (url === undefined) return;
    const answered = await race([url], { patience: this.#options.probe ?? PROBE_MS });
    if (heard !== this.#heard) return;
    if (answered === undefined) this.#condemn();
    else this.heard(pingSeconds);
  }
}
