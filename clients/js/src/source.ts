/** Where to go, and with which token: what an app gives to `connect`. */

/** What a source answers. */
export interface Servers {
  /** URLs of servers, the one to try first first: `wss://eu.api.example.net`. */
  serverUrls: readonly string[];
  /** Lets its holder into a room. */
  participantToken: string;
}

/** Asked at each `connect`, and again when none of the servers that it named can be reached. */
export interface Source {
  fetch(): Promise<Servers>;
}

/** A URL, several in the order in which they are tried, or whoever knows them. */
export type Where = string | readonly string[] | Source;

/** How an endpoint is asked. */
export interface EndpointOptions {
  /** Added to the request; an app's own authentication. */
  headers?: Record<string, string>;
  /** What LiveKit's token endpoints take: room_name, participant_name, participant_identity and so on. */
  body?: Record<string, unknown>;
  /** Milliseconds until it counts as gone; 5000. */
  timeout?: number;
}

const TIMEOUT_MS = 5_000;

/**
 * An endpoint as LiveKit's `TokenSource.endpoint` knows them: a POST that is answered with `server_url` and `participant_token`.
 * Where the answer has `server_urls`, too, all of them are used.
 */
export function endpoint(url: string, options: EndpointOptions = {}): Source {
  return {
    async fetch(): Promise<Servers> {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...options.headers },
        body: JSON.stringify(options.body ?? {}),
        signal: AbortSignal.timeout(options.timeout ?? TIMEOUT_MS),
      });
      if (!response.ok) throw new Error(`${url} answered ${response.status}`);
      return servers(url, await response.json());
    },
  };
}

function servers(url: string, answer: unknown): Servers {
  const fields = (answer ?? {}) as Record<string, unknown>;
  const pick = (...names: string[]) => names.map((name) => fields[name]).find((it) => it !== undefined);
  const token = pick('participant_token', 'participantToken');
  const one = pick('server_url', 'serverUrl');
  const all = pick('server_urls', 'serverUrls') ?? (one === undefined ? [] : [one]);
  const isText = (it: unknown): it is string => typeof it === 'string' && it !== '';
  if (!isText(token) || !Array.isArray(all) || all.length === 0 || !all.every(isText)) {
    throw new Error(`${url} answered without server_url or participant_token`);
  }
  return { serverUrls: all, participantToken: token };
}

/** A fixed list, or what the source says. */
export function sourceOf(where: Where, token: string | undefined): Source {
  if (typeof where === 'object' && 'fetch' in where) return where;
  const serverUrls = typeof where === 'string' ? [where] : where;
  if (serverUrls.length === 0) throw new TypeError('connect needs at least one URL');
  for (const url of serverUrls) {
    if (!URL.canParse(url)) throw new TypeError(`${JSON.stringify(url)} is no URL`);
  }
  if (token === undefined) throw new TypeError('connect needs a token, or a source that has one');
  return { fetch: () => Promise.resolve({ serverUrls, participantToken: token }) };
}
