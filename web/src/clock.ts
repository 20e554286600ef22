// One tick of 50 ms for everything that must go on while the page is hidden.

const listeners = new Set<() => void>();
let worker: Worker | undefined;

/** Calls `listener` every 50 ms, hidden or not; returns the way to stop it. */
export function onTick(listener: () => void): () => void {
  if (worker === undefined) {
    worker = new Worker('tick.js');
    worker.onmessage = () => listeners.forEach((each) => each());
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}
