// Failover between gateways under an unmodified livekit-client: one Room, several doors.
//
// The SDK redials the one URL that it was given. `Failover` therefore stands where the SDK meets the
// browser: while installed, WebSocket and validate requests to any listed gateway go to the gateway
// that is believed to be well. A *resume* then works through another region's gateway, and media that
// still flows is never touched. What the SDK cannot see fast enough (a gateway that is frozen or
// black-holed accepts and says nothing) is found by a probe after a short quiet.

import { atGateway, type Gateway, GatewayList, type Welcome, welcomeOf } from './gateways.ts';

/** A signalling socket that said nothing this long gets its gateway probed, in ms. The server is
 *  asked for a ping each second, so a quiet of 1.5 s is unusual but not yet a fault. */
const QUIET_MS = 1_500;
/** An unanswered probe after this long condemns the socket, in ms. */
const PROBE_TIMEOUT_MS = 500;
const WATCH_EVERY_MS = 200;
/** Close code for sockets that we gave up on (private range, RFC 6455 section 7.4.2). */
const GIVEN_UP = 4_000;

/** What happened to the signalling path, for displays and measurements; `at` is unix ms. */
export type PathEvent =
  | { readonly kind: 'dialing'; readonly gateway: Gateway; readonly at: number }
  | { readonly kind: 'welcome'; readonly welcome: Welcome; readonly gateway: Gateway; readonly at: number }
  | { readonly kind: 'told'; readonly at: number }
  | { readonly kind: 'lost'; readonly gateway: Gateway; readonly cause: string; readonly at: number };

/** Unix time in ms with sub-millisecond steps, never going back. */
export const now = (): number => performance.timeOrigin + performance.now();

/** Keeps the signalling of one page on a gateway that answers. */
export class Failover {
  readonly list: GatewayList;
  /** The gateway of the youngest signalling socket that was welcomed. */
  current: Gateway | undefined;
  private readonly listeners = new Set<(event: PathEvent) => void>();
  private readonly plainSocket = globalThis.WebSocket;
  private readonly plainFetch = globalThis.fetch;

  constructor(gateways: readonly Gateway[]) {
    this.list = new GatewayList(gateways);
  }

  /** Calls `listener` on every event; returns the way to stop it. */
  on(listener: (event: PathEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The `ws:` URL to give to `room.connect`: of the first gateway that answers a probe, in the order
   *  of preference; the preferred one when none does (the SDK then reports the failure). */
  async url(): Promise<string> {
    const first = this.list.choose(now());
    const others = this.list.all.filter((gateway) => gateway !== first);
    for (const gateway of [first, ...others]) {
      if (await this.probe(gateway)) {
        this.list.prefer(gateway);
        break;
      }
    }
    return this.list.choose(now()).origin.replace(/^http/, 'ws');
  }

  /** `HEAD /` of one gateway within 500 ms; its answer or silence is remembered. */
  async probe(gateway: Gateway): Promise<boolean> {
    try {
      const answer = await this.plainFetch.call(globalThis, `${gateway.origin}/`, {
        method: 'HEAD',
        cache: 'no-store',
        signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
      });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      this.list.answered(gateway);
      return true;
    } catch {
      this.list.failed(gateway, now());
      return false;
    }
  }

  /** Puts this between the SDK and the network of the page; returns the way to undo it. */
  install(): () => void {
    const failover = this;
    const Plain = this.plainSocket;
    class GatewaySocket extends Plain {
      constructor(address: string | URL, protocols?: string | string[]) {
        const url = new URL(address, location.href);
        const gateway = failover.list.owning(url) && failover.list.choose(now());
        super(gateway === undefined ? url : atGateway(url, gateway), protocols);
        if (gateway !== undefined) failover.watch(this, gateway);
      }
    }
    globalThis.WebSocket = GatewaySocket;
    globalThis.fetch = (input, init) => this.fetchAtGateway(input, init);
    return () => {
      globalThis.WebSocket = Plain;
      globalThis.fetch = this.plainFetch;
    };
  }

  /** Validate requests follow the socket that they explain: a dead door would cost 3 s here. */
  private fetchAtGateway(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const plain = (target: RequestInfo | URL) => this.plainFetch.call(globalThis, target, init);
    if (input instanceof Request) return plain(input);
    const url = new URL(input, location.href);
    if (!url.pathname.includes('/rtc') || this.list.owning(url) === undefined) return plain(input);
    return plain(atGateway(url, this.list.choose(now())));
  }

  /** Follows one signalling socket from dial to end. Registered before the SDK's own listeners. */
  private watch(socket: WebSocket, gateway: Gateway): void {
    let heard = now();
    let opened = false;
    let welcomed = false;
    let over = false;
    this.emit({ kind: 'dialing', gateway, at: heard });

    const end = (cause: string) => {
      if (over) return;
      over = true;
      clearInterval(timer);
      this.list.failed(gateway, now());
      this.emit({ kind: 'lost', gateway, cause, at: now() });
    };
    const giveUp = () => {
      end('silent');
      socket.close();
      // A frozen peer never finishes the closing handshake; the SDK must not wait for it.
      const closed = { code: GIVEN_UP, reason: 'gateway is silent', wasClean: false };
      socket.dispatchEvent(new CloseEvent('close', closed));
    };
    let probing = false;
    const check = async () => {
      if (probing || now() - heard < QUIET_MS) return;
      probing = true;
      const asked = now();
      const well = await this.probe(gateway);
      probing = false;
      if (over || heard > asked) return;
      if (well) heard = now();
      else giveUp();
    };
    const timer = setInterval(() => void check(), WATCH_EVERY_MS);

    const listen = <K extends keyof WebSocketEventMap>(
      name: K,
      act: (event: WebSocketEventMap[K]) => void,
    ) => {
      socket.addEventListener(name, (event) => {
        // What the network still reports after we gave up is old news to the SDK.
        if (over && event.isTrusted) event.stopImmediatePropagation();
        else if (event.isTrusted) act(event);
      });
    };
    listen('open', () => {
      opened = true;
      heard = now();
    });
    listen('message', (event) => {
      heard = now();
      if (!(event.data instanceof ArrayBuffer)) return;
      const welcome = welcomeOf(new Uint8Array(event.data));
      if (welcomed) {
        // A leave in a running session: the server moves this client.
        if (welcome === 'turned-away') this.emit({ kind: 'told', at: now() });
        return;
      }
      welcomed = true;
      this.current = gateway;
      this.list.answered(gateway);
      this.list.prefer(gateway);
      this.emit({ kind: 'welcome', welcome, gateway, at: now() });
    });
    listen('close', (event) => {
      // A close frame comes from a live gateway; everything else is a dead one.
      if (event.wasClean) {
        over = true;
        clearInterval(timer);
      } else {
        end(opened ? 'cut' : 'refused');
      }
    });
  }

  private emit(event: PathEvent): void {
    for (const listener of this.listeners) listener(event);
  }
}
