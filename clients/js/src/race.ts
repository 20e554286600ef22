/** Which of several servers answers: asked one after the other, the next one before the last has given up. */

export interface RaceOptions {
  /** Milliseconds until the next server is asked as well; 300. */
  stagger?: number;
  /** Milliseconds until a server that does not answer counts as gone; 3000. */
  patience?: number;
}

const STAGGER_MS = 300;
const PATIENCE_MS = 3_000;

/**
 * The first of `urls` that answers an HTTP request, whatever it says; `undefined` when none does. The first one is asked at once, and
 * each other one when the one before it has failed, or has not answered for `stagger`.
 */
export async function race(
  urls: readonly string[],
  options: RaceOptions = {},
  signal?: AbortSignal,
): Promise<string | undefined> {
  if (urls.length === 0 || signal?.aborted) return undefined;
  const { stagger = STAGGER_MS, patience = PATIENCE_MS } = options;
  const over = new AbortController();
  const stop = () => over.abort();
  signal?.addEventListener('abort', stop);
  return new Promise<string | undefined>((resolve) => {
    let [next, asked] = [0, 0];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const end = (url?: string) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
      resolve(url);
      over.abort();
    };
    over.signal.addEventListener('abort', () => end());
    const askNext = () => {
      clearTimeout(timer);
      const url = urls[next];
      if (url === undefined) {
        if (asked === 0) end();
        return;
      }
      next += 1;
      asked += 1;
      timer = setTimeout(askNext, stagger);
      void answers(url, patience, over.signal).then((does) => {
        asked -= 1;
        if (does) end(url);
        else if (!over.signal.aborted) askNext();
      });
    };
    askNext();
  });
}

/** Whether there is anybody. What the answer says is of no interest, and may not be looked at across origins. */
async function answers(url: string, patience: number, over: AbortSignal): Promise<boolean> {
  const address = new URL(url);
  address.protocol = address.protocol.replace('ws', 'http');
  [address.pathname, address.search] = ['/', ''];
  const late = AbortSignal.timeout(patience);
  try {
    const signal = AbortSignal.any([late, over]);
    await fetch(address, { mode: 'no-cors', cache: 'no-store', credentials: 'omit', signal });
    return true;
  } catch {
    return false;
  }
}
