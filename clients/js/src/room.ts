import { ConnectionState, Room, type RoomConnectOptions, type RoomOptions } from 'livekit-client';

import { Dialer } from './dialer.ts';
import type { RaceOptions } from './race.ts';
import { sourceOf, type Where } from './source.ts';
import { Watch, type WatchOptions } from './watch.ts';

/** livekit-client's options, and how servers are chosen. */
export interface FallbackRoomOptions extends RoomOptions {
  fallback?: RaceOptions & WatchOptions;
}

export type FallbackConnectOptions = RoomConnectOptions;

/** Milliseconds that a WebSocket may take to open; livekit-client's own are 15,000. */
const WEBSOCKET_TIMEOUT_MS = 3_000;

/** The part of livekit-client in which all calls to a server are made. */
interface SignalClient {
  join(url: string, token: string, options: unknown, signal?: AbortSignal, ...rest: unknown[]): Promise<unknown>;
  reconnect(url: string, ...rest: unknown[]): Promise<unknown>;
  /** Seconds between two pings, as the server has said. */
  pingIntervalDuration?: number;
  /** Called with each message. */
  resetPingTimeout?(): void;
  /** Called when there is no connection any more. */
  clearPingTimeout?(): void;
  /** Gives a connection up. */
  handleOnClose?(reason: string): unknown;
}

/**
 * livekit-client's `Room` with several servers. `connect` takes their URLs, or a source of them; whenever the room is to be reached,
 * at first or again, the server that answers is dialled. Everything else, the events included, is livekit-client's.
 */
export class FallbackRoom extends Room {
  #dialer: Dialer | undefined;
  readonly #fallback: RaceOptions & WatchOptions;
  // The one that livekit-client has set by now.
  readonly #connect = (this as Room).connect;

  constructor(options: FallbackRoomOptions = {}) {
    const { fallback = {}, ...rest } = options;
    super(rest);
    this.#fallback = fallback;
    let engine = this.engine;
    const equip = () => this.#equip((engine as unknown as { client?: SignalClient } | undefined)?.client);
    equip();
    // livekit-client makes a new engine after each failed connect.
    Object.defineProperty(this, 'engine', {
      configurable: true,
      enumerable: true,
      get: () => engine,
      set: (made: typeof engine) => {
        engine = made;
        equip();
      },
    });
  }

  /** The server in use, or last used. */
  get serverUrl(): string | undefined {
    return this.#dialer?.last;
  }

  /**
   * Joins a room.
   *
   * @param where URLs, the one to try first first; or a source, whose token is used then
   * @throws what livekit-client throws, or the source; `TypeError` when there is no URL, or something is none
   */
  override connect = async (
    where: Where,
    token?: string,
    options: FallbackConnectOptions = {},
  ): Promise<void> => {
    const dialer = new Dialer(sourceOf(where, token), this.#fallback);
    const first = await dialer.learn();
    // One that is in a room, or about to be, stays where it is, as livekit-client has it.
    const stays = this.state === ConnectionState.Connected || this.state === ConnectionState.Connecting;
    if (!stays || this.#dialer === undefined) this.#dialer = dialer;
    await this.#connect(first.url, first.token, { websocketTimeout: WEBSOCKET_TIMEOUT_MS, ...options });
  };

  #equip(client: SignalClient | undefined): void {
    if (typeof client?.join !== 'function' || typeof client.reconnect !== 'function') {
      throw new Error('this version of livekit-client is not known to outlast-client; see its README');
    }
    const join = client.join.bind(client);
    const reconnect = client.reconnect.bind(client);
    client.join = (url, token, options, signal, ...rest) =>
      this.#call(url, (it) => join(it, token, options, signal, ...rest), signal);
    client.reconnect = (url, ...rest) => this.#call(url, (it) => reconnect(it, ...rest));
    this.#watch(client);
  }

  #watch(client: SignalClient): void {
    const { resetPingTimeout: reset, clearPingTimeout: clear, handleOnClose: close } = client;
    // Without these the server's own ping timeout has to do.
    if (!reset || !clear || !close) return;
    const condemn = () => {
      this.#dialer?.shun();
      void close.call(client, 'the server does not answer');
    };
    const watch = new Watch(this.#fallback, () => this.#dialer?.last, condemn);
    client.resetPingTimeout = () => {
      reset.call(client);
      watch.heard(client.pingIntervalDuration ?? 0);
    };
    client.clearPingTimeout = () => {
      clear.call(client);
      watch.stop();
    };
  }

  #call<T>(url: string, attempt: (url: string) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#dialer ? this.#dialer.call(attempt, signal) : attempt(url);
  }
}
