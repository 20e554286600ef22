/** Dials servers until one takes the call. */
import { ConnectionError, ConnectionErrorReason } from 'livekit-client';

import { race, type RaceOptions } from './race.ts';
import type { Source } from './source.ts';

/** Not a matter of who is asked. */
const FINAL = new Set([
  ConnectionErrorReason.NotAllowed,
  ConnectionErrorReason.Cancelled,
  ConnectionErrorReason.LeaveRequest,
]);

/** The servers of one session. */
export class Dialer {
  #urls: readonly string[] = [];
  #last: string | undefined;
  #shunned: string | undefined;
  readonly #source: Source;
  readonly #options: RaceOptions;

  constructor(source: Source, options: RaceOptions) {
    this.#source = source;
    this.#options = options;
  }

  /** The server that took the last call. */
  get last(): string | undefined {
    return this.#last;
  }

  /** The server of the last call does not answer: it is tried last, until there is another one. */
  shun(): void {
    this.#shunned = this.#last;
  }

  /** Asks the source. Returns the URL to begin with, and the token. */
  async learn(): Promise<{ url: string; token: string }> {
    const { serverUrls, participantToken } = await this.#source.fetch();
    const [url] = serverUrls;
    if (url === undefined) throw new Error('the source named no server');
    this.#urls = [...serverUrls];
    return { url, token: participantToken };
  }

  /**
   * Makes one call: at the server of the last one, if it answers, or else at the next one that does. A server that answers and then fails is passed over.
   * When all have failed, the last error is thrown; it is for livekit-client to try again later.
   */
  async call<T>(attempt: (url: string) => Promise<T>, signal?: AbortSignal): Promise<T> {
    let left = this.#order();
    let failure: unknown;
    while (left.length > 0) {
      const answering = await race(left, this.#options, signal);
      // When nobody answers the first one fails in livekit-client's own words.
      const url = answering ?? (failure === undefined ? left[0] : undefined);
      if (url === undefined) break;
      try {
        const done = await attempt(url);
        this.#last = url;
        this.#shunned = undefined;
        return done;
      } catch (error) {
        if (isFinal(error) || signal?.aborted) throw error;
        failure = error;
        if (answering === undefined) break;
      }
      left = left.filter((other) => other !== url);
    }
    // Not waited for: a source that does not answer is not to delay the next try.
    void this.#renew();
    throw failure;
  }

  #order(): string[] {
    const rank = (url: string) => (url === this.#shunned ? 2 : url === this.#last ? 0 : 1);
    return [...this.#urls].sort((one, other) => rank(one) - rank(other));
  }

  /** There may be other servers by now. */
  async #renew(): Promise<void> {
    try {
      await this.learn();
    } catch {
      // what is known has to do
    }
  }
}

function isFinal(error: unknown): boolean {
  return error instanceof ConnectionError && FINAL.has(error.reason);
}
