// The list of gateways and what this client believes about each: a pure value, time is an argument.
// It never touches a socket; `failover.ts` does.

/** How long a gateway that failed is passed over while another is believed to be well, in ms. */
export const BAD_FOR_MS = 5_000;

/** One region's door. `origin` is its HTTP origin, for example `https://eu.example.org`. */
export interface Gateway {
  readonly region: string;
  readonly origin: string;
}

/** Gateways in the order of preference, and until when each is passed over. */
export class GatewayList {
  readonly all: readonly Gateway[];
  private readonly badUntil = new Map<string, number>();
  private preferred: Gateway;

  /** `all` must not be empty; the first is preferred. */
  constructor(all: readonly Gateway[]) {
    const [first] = all;
    if (first === undefined) throw new Error('a client needs at least one gateway');
    this.all = all;
    this.preferred = first;
  }

  /** Prefers this one from now on (the region that the person picked, or the one that answers). */
  prefer(gateway: Gateway): void {
    this.preferred = gateway;
  }

  /** The gateway to dial now: the preferred one if it is not passed over, else the next in the list
   *  that is not; when all are passed over, the one whose time ends first. */
  choose(now: number): Gateway {
    const from = this.all.indexOf(this.preferred);
    const ring = [...this.all.slice(from), ...this.all.slice(0, from)];
    const well = ring.find((gateway) => !this.isBad(gateway, now));
    if (well !== undefined) return well;
    return ring.reduce((best, next) => (this.until(next) < this.until(best) ? next : best));
  }

  /** Notes a failure of this gateway; stays on the one that is chosen in its place. */
  failed(gateway: Gateway, now: number): void {
    this.badUntil.set(gateway.origin, now + BAD_FOR_MS);
    if (gateway === this.preferred) this.preferred = this.choose(now);
  }

  /** Notes that this gateway has answered. */
  answered(gateway: Gateway): void {
    this.badUntil.delete(gateway.origin);
  }

  isBad(gateway: Gateway, now: number): boolean {
    return this.until(gateway) > now;
  }

  /** The gateway that owns this URL, whatever its scheme (`ws:` and `http:` are one). */
  owning(url: URL): Gateway | undefined {
    const origin = httpOrigin(url);
    return this.all.find((gateway) => gateway.origin === origin);
  }

  private until(gateway: Gateway): number {
    return this.badUntil.get(gateway.origin) ?? Number.NEGATIVE_INFINITY;
  }
}

/** `wss://host:1/path` -> `https://host:1`. */
export function httpOrigin(url: URL): string {
  return `${url.protocol.replace(/^ws/, 'http')}//${url.host}`;
}

/** The same URL at another gateway, scheme family kept (a `ws:` URL stays a WebSocket URL). */
export function atGateway(url: URL, gateway: Gateway): URL {
  const target = new URL(gateway.origin);
  const moved = new URL(url);
  moved.protocol = url.protocol.startsWith('ws')
    ? target.protocol.replace(/^http/, 'ws')
    : target.protocol;
  moved.host = target.host;
  // `host` without a port keeps the old one.
  if (target.port === '') moved.port = '';
  return moved;
}

/** What the first frame on a signalling socket says. */
export type Welcome = 'joined' | 'resumed' | 'turned-away' | 'other';

/** Reads the tag of a SignalResponse (field 1 join, 19 reconnect, 8 leave); the rest is the SDK's. */
export function welcomeOf(frame: Uint8Array): Welcome {
  const [first, second] = frame;
  if (first === 0x0a) return 'joined';
  if (first === 0x9a && second === 0x01) return 'resumed';
  if (first === 0x42) return 'turned-away';
  return 'other';
}

/** Delay before reconnect attempt `attempt` (0 = the first) in ms; `random` in [0, 1).
 *  The first is nearly at once, since the next gateway is another machine; there is no last. */
export function reconnectDelay(attempt: number, random: number): number {
  if (attempt === 0) return random * 150;
  const base = Math.min(250 * 2 ** (attempt - 1), 4_000);
  return base * (0.5 + random);
}
