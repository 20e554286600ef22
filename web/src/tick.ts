// A worker that ticks: browsers slow the timers of hidden pages down to one a second, not a worker's.

const EVERY_MS = 50;
setInterval(() => postMessage(0), EVERY_MS);
