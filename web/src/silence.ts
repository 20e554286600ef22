// Silence of one kind of media from one participant, and what a fault did to it. Pure: time comes in.
//
// A "mark" is a look at which a decoder had produced something new since the last look. The longest
// span between two marks around a fault is what a listener missed.

/** Kept gaps per listener; older ones are forgotten first. */
const GAPS_MAX = 64;
/** Shorter gaps are the cadence of the looks and of the video itself, not silence, in ms. */
export const GAP_MIN_MS = 120;
/** A gap belongs to a fault if it starts within this span after it, in ms. */
export const FAULT_SPAN_MS = 60_000;

/** Nothing was decoded from `start` to `end`, unix ms. */
export interface Gap {
  readonly start: number;
  readonly end: number;
}

/** The record of one (participant, kind); survives the tracks that carry it. */
export class Flow {
  private readonly gaps: Gap[] = [];
  private last: number | undefined;

  /** Something new was decoded by `at`. */
  mark(at: number): void {
    if (this.last !== undefined && at - this.last >= GAP_MIN_MS) {
      this.gaps.push({ start: this.last, end: at });
      if (this.gaps.length > GAPS_MAX) this.gaps.shift();
    }
    this.last = at;
  }

  /** Silence is meant from here on (mute, camera off, left): it is nobody's fault. */
  rest(): void {
    this.last = undefined;
  }

  /** When something was decoded last; undefined before the first time and after `rest`. */
  get lastMark(): number | undefined {
    return this.last;
  }

  /** The longest gap around a fault at `fault`, one that still goes on included; undefined if media
   *  was not expected then. A gap of zero length stands for "nothing longer than the cadence". */
  longest(fault: number, at: number): Gap | undefined {
    const open = this.last === undefined ? undefined : { start: this.last, end: at };
    if (open === undefined && this.gaps.length === 0) return undefined;
    const none: Gap = { start: fault, end: fault };
    const candidates = open === undefined ? this.gaps : [...this.gaps, open];
    return candidates
      .filter((gap) => gap.end > fault && gap.start < fault + FAULT_SPAN_MS)
      .filter((gap) => gap.end - gap.start >= GAP_MIN_MS)
      .reduce((best, gap) => (gap.end - gap.start > best.end - best.start ? gap : best), none);
  }

  /** Whether media flows again by `at` after a fault. */
  flows(at: number): boolean {
    return this.last !== undefined && at - this.last < 2 * GAP_MIN_MS;
  }
}

/** "0.84 s"; two digits under ten seconds. */
export function seconds(ms: number): string {
  const value = ms / 1000;
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

/** What the number means to a person in the call. */
export function verdict(ms: number): string {
  if (ms < GAP_MIN_MS) return 'nobody could notice';
  if (ms < 400) return 'a blink';
  if (ms < 1_500) return 'a short hiccup';
  if (ms < 5_000) return 'a noticeable pause';
  return 'a long silence';
}
