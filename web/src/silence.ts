// Silence of one kind of media from one participant, and what a fault did to it. Pure: time comes in.
//
// A "mark" is a look at which a decoder had produced something new since the last look. The longest
// span between two marks around a fault is what a listener missed.

/** Kept gaps per listener; older ones are forgotten first. */
const GAPS_MAX = 64;
/** Shorter gaps in sound are the cadence of the looks, not silence, in ms. */
export const GAP_MIN_MS = 150;
/** The same for pictures, in ms: cameras give 15 frames a second in the dark, and one may be late. */
export const PICTURE_GAP_MIN_MS = 250;
/** Silence that is shown while it lasts, in ms. */
const SILENT_AFTER_MS = 1_000;
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
  private readonly least: number;

  /** Gaps shorter than `least` ms are none. */
  constructor(least = GAP_MIN_MS) {
    this.least = least;
  }

  /** Something new was decoded by `at`. */
  mark(at: number): void {
    if (this.last !== undefined && at - this.last >= this.least) {
      this.gaps.push({ start: this.last, end: at });
      if (this.gaps.length > GAPS_MAX) this.gaps.shift();
    }
    this.last = at;
  }

  /** Silence is meant from here on (mute, camera off, left): it is nobody's fault. */
  rest(): void {
    this.last = undefined;
  }

  /** Whether something is awaited and has not come for longer than a person takes for a hiccup. */
  isSilent(at: number): boolean {
    return this.last !== undefined && at - this.last > SILENT_AFTER_MS;
  }

  /** The longest gap around a fault at `fault`, one that still goes on included; undefined if media
   *  was not expected then. A gap of zero length stands for "nothing longer than the cadence". */
  longest(fault: number, at: number): Gap | undefined {
    const open = this.last === undefined ? undefined : { start: this.last, end: at };
    const none: Gap | undefined = open && { start: fault, end: fault };
    const candidates = open === undefined ? this.gaps : [...this.gaps, open];
    return candidates
      .filter((gap) => gap.end > fault && gap.start < fault + FAULT_SPAN_MS)
      .filter((gap) => gap.end - gap.start >= this.least)
      .reduce((best, gap) => (best === undefined || gap.end - gap.start > best.end - best.start ? gap : best), none);
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
