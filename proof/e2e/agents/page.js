// One participant on the unmodified livekit-client, driven by the node process around the tab.
//
// Arrivals are polled from getStats each 50 ms: a video arrival is a poll in which framesDecoded
// grew, an audio arrival one in which samples that were not concealed grew by 5 ms or more. Times
// are wall-clock seconds.
import { FallbackRoom, endpoint } from 'outlast-client';
import { Room, RoomEvent, Track, VideoPresets, VideoQuality } from 'livekit-client';

const POLL_MS = 50;
const REAL_SAMPLES_MIN = 240;
const CHAT_TOPIC = 'lk.chat';
const QUALITIES = { low: VideoQuality.LOW, medium: VideoQuality.MEDIUM, high: VideoQuality.HIGH };

const now = () => (performance.timeOrigin + performance.now()) / 1000;
const tellEvent = (event, detail = {}) => window.tell({ event, at: now(), ...detail });

let room;
let audio;
const sent = new Map(); // our name -> LocalTrackPublication's track
const streams = new Map(); // identity/source -> Stream
const elements = new Map(); // remote track -> what plays it

class Stream {
  constructor() {
    this.arrivals = [];
    this.sizes = []; // [width, height, first, last, frames]
    this.counters = {};
    this.last = undefined; // {track, count} of the poll before
  }

  seen(at, track, report) {
    const isVideo = report.kind === 'video';
    const count = isVideo
      ? (report.framesDecoded ?? 0)
      : (report.totalSamplesReceived ?? 0) - (report.concealedSamples ?? 0);
    const before = this.last?.track === track ? this.last.count : isVideo ? 0 : count;
    if (count - before >= (isVideo ? 1 : REAL_SAMPLES_MIN)) {
      this.arrivals.push(at);
      if (isVideo) this.picture(at, report.frameWidth, report.frameHeight, count - before);
    }
    this.last = { track, count };
    for (const name of COUNTERS) this.counters[name] = report[name] ?? 0;
  }

  picture(at, width, height, frames) {
    const size = this.sizes.at(-1);
    if (size && size[0] === width && size[1] === height) {
      size[3] = at;
      size[4] += frames;
    } else {
      this.sizes.push([width, height, at, at, frames]);
    }
  }
}

const COUNTERS = [
  'framesReceived',
  'framesDecoded',
  'framesDropped',
  'keyFramesDecoded',
  'pliCount',
  'nackCount',
  'freezeCount',
  'totalFreezesDuration',
  'packetsReceived',
  'packetsDiscarded',
  'packetsLost',
  'totalSamplesReceived',
  'concealedSamples',
];

// What is told of a stream that stays silent: how far it came, and what plays it.
function state(key, { counters }) {
  const { mediaStreamTrack: source, attachedElements = [] } = published(key)?.track ?? {};
  const element = attachedElements[0];
  return [
    `${counters.packetsReceived} packets, ${counters.packetsDiscarded} discarded`,
    `${counters.totalSamplesReceived} samples, ${counters.concealedSamples} concealed`,
    `track ${source?.readyState}, muted ${source?.muted}, enabled ${source?.enabled}`,
    `${attachedElements.length} elements, paused ${element?.paused}, at ${element?.currentTime}`,
    `plays it ${element?.srcObject?.getTracks().includes(source)}, ready ${element?.readyState}`,
  ].join('; ');
}

// As the Python agent: `identity/source`, or `identity/name` for a second track of a source.
const streamKey = (who, publication) => {
  const source = publication.source === 'unknown' ? 'unknown' : publication.source;
  const plain = !publication.trackName || publication.trackName === source;
  return `${who.identity}/${plain ? source : publication.trackName}`;
};

function play(track) {
  const element = elements.get(track) ?? document.createElement(track.kind);
  element.width = 160;
  elements.set(track, element);
  document.body.append(track.attach(element));
}

function subscribed() {
  const byTrack = new Map();
  for (const who of room?.remoteParticipants.values() ?? []) {
    for (const publication of who.trackPublications.values()) {
      const id = publication.track?.mediaStreamTrack.id;
      if (id) byTrack.set(id, streamKey(who, publication));
    }
  }
  return byTrack;
}

async function poll() {
  const byTrack = subscribed();
  for (const connection of window.connections) {
    if (connection.connectionState === 'closed') continue;
    const reports = await connection.getStats();
    const at = now();
    for (const report of reports.values()) {
      if (report.type !== 'inbound-rtp') continue;
      const key = byTrack.get(report.trackIdentifier);
      if (!key) continue;
      if (!streams.has(key)) streams.set(key, new Stream());
      streams.get(key).seen(at, report.trackIdentifier, report);
    }
  }
}

async function pollForEver() {
  for (;;) {
    const due = performance.now() + POLL_MS;
    try {
      await poll();
    } catch {
      // a connection that was closed under the poll has no statistics
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(4, due - performance.now())));
  }
}

function listen() {
  for (const name of ['Connected', 'SignalReconnecting', 'Reconnecting', 'Reconnected']) {
    const event = RoomEvent[name].replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    room.on(RoomEvent[name], () => tellEvent(event));
  }
  room.on(RoomEvent.Disconnected, (reason) => tellEvent('disconnected', { reason: `${reason}` }));
  room.on(RoomEvent.ParticipantConnected, (who) =>
    tellEvent('participant_connected', { identity: who.identity, sid: who.sid }),
  );
  room.on(RoomEvent.ParticipantDisconnected, (who) =>
    tellEvent('participant_disconnected', { identity: who.identity, sid: who.sid }),
  );
  room.on(RoomEvent.TrackSubscribed, (track, publication, who) => {
    play(track);
    tellEvent('track_subscribed', { stream: streamKey(who, publication) });
  });
  room.on(RoomEvent.TrackUnsubscribed, (track, publication, who) => {
    track.detach();
    elements.get(track)?.remove();
    elements.delete(track);
    tellEvent('track_unsubscribed', { stream: streamKey(who, publication) });
  });
  room.on(RoomEvent.TrackMuted, (publication, who) =>
    tellEvent('track_muted', { stream: streamKey(who, publication) }),
  );
  room.on(RoomEvent.TrackUnmuted, (publication, who) =>
    tellEvent('track_unmuted', { stream: streamKey(who, publication) }),
  );
  room.on(RoomEvent.DataReceived, (payload, who, _kind, topic) =>
    tellEvent('data', {
      sender: who?.identity ?? '',
      topic: topic ?? '',
      text: new TextDecoder().decode(payload),
    }),
  );
  room.registerTextStreamHandler(CHAT_TOPIC, async (reader, { identity }) =>
    tellEvent('chat', { sender: identity, text: await reader.readAll() }),
  );
}

function published(stream) {
  const identity = stream.slice(0, stream.lastIndexOf('/'));
  const who = room.remoteParticipants.get(identity);
  return [...(who?.trackPublications.values() ?? [])].find(
    (publication) => streamKey(who, publication) === stream,
  );
}

function theirs(stream) {
  const found = published(stream);
  if (!found) throw new Error(`no publication ${stream}`);
  return found;
}

// A steady tone as a media stream track.
function tone(hertz) {
  // Rendered to no device: it shares none with the sound that is received, whose playing it would disturb.
  audio ??= new AudioContext({ sinkId: { type: 'none' } });
  const oscillator = audio.createOscillator();
  oscillator.frequency.value = hertz;
  const gain = audio.createGain();
  gain.gain.value = 0.4;
  const out = audio.createMediaStreamDestination();
  oscillator.connect(gain).connect(out);
  oscillator.start();
  return out.stream.getAudioTracks()[0];
}

// A moving bar as a media stream track: what a shared screen is here.
function drawing(width, height, fps) {
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const pen = canvas.getContext('2d');
  let step = 0;
  setInterval(() => {
    pen.fillStyle = '#224466';
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = '#ffffff';
    pen.fillRect((step++ % 30) * (width / 30), 0, width / 12, height);
  }, 1000 / fps);
  return canvas.captureStream(fps).getVideoTracks()[0];
}

async function camera(width, height, fps) {
  const video = { width, height, frameRate: fps };
  return (await navigator.mediaDevices.getUserMedia({ video })).getVideoTracks()[0];
}

window.actions = {
  // With `urls` or an `endpoint` in place of `url` by outlast-client.
  async join({ url, urls, endpoint: asked, token, auto_subscribe: autoSubscribe = true }) {
    room = urls || asked ? new FallbackRoom() : new Room();
    const headers = { authorization: `Bearer ${token}` };
    const where = asked ? endpoint(asked, { headers }) : (urls ?? url);
    listen();
    room.registerRpcMethod(
      'echo',
      async (call) => `${room.localParticipant.identity} heard ${call.payload}`,
    );
    const started = now();
    await room.connect(where, token, { autoSubscribe });
    return { seconds: now() - started, sid: room.localParticipant.sid };
  },

  async leave() {
    await room.disconnect();
  },

  async rejoin(options) {
    sent.clear();
    streams.clear();
    return window.actions.join(options);
  },

  // `device: true` is Chromium's own beeping microphone through getUserMedia.
  async publish_audio({ name = 'microphone', source = 'microphone', hertz = 440, device = false }) {
    if (device) {
      const publication = await room.localParticipant.setMicrophoneEnabled(true);
      sent.set(name, publication.track);
      return publication.trackSid;
    }
    const publication = await room.localParticipant.publishTrack(tone(hertz), {
      name,
      source,
      dtx: false,
    });
    sent.set(name, publication.track);
    return publication.trackSid;
  },

  async publish_video({ name = 'camera', source = 'camera', width = 320, height = 180, fps = 15, simulcast = false }) {
    const track = await (source === 'screen_share' ? drawing : camera)(width, height, fps);
    const publication = await room.localParticipant.publishTrack(track, {
      name,
      source,
      simulcast,
      videoCodec: 'vp8',
      degradationPreference: 'maintain-resolution',
      [source === 'screen_share' ? 'screenShareEncoding' : 'videoEncoding']: {
        maxBitrate: simulcast ? 1_500_000 : width * height * 8,
        maxFramerate: fps,
      },
      ...(simulcast ? { videoSimulcastLayers: [VideoPresets.h180, VideoPresets.h360] } : {}),
    });
    sent.set(name, publication.track);
    return publication.trackSid;
  },

  async unpublish({ name }) {
    const track = sent.get(name);
    sent.delete(name);
    await room.localParticipant.unpublishTrack(track, true);
  },

  async mute({ name, muted }) {
    await (muted ? sent.get(name).mute() : sent.get(name).unmute());
  },

  async subscribe({ stream, on }) {
    theirs(stream).setSubscribed(on);
  },

  async quality({ stream, quality }) {
    theirs(stream).setVideoQuality(QUALITIES[quality]);
  },

  async dimensions({ stream, width, height }) {
    theirs(stream).setVideoDimensions({ width, height });
  },

  async send_data({ text, reliable = true, topic = 'e2e', to = [] }) {
    await room.localParticipant.publishData(new TextEncoder().encode(text), {
      reliable,
      topic,
      destinationIdentities: to,
    });
  },

  async chat({ text }) {
    await room.localParticipant.sendText(text, { topic: CHAT_TOPIC });
  },

  async rpc({ to, payload, method = 'echo' }) {
    return room.localParticipant.performRpc({
      destinationIdentity: to,
      method,
      payload,
      responseTimeout: 8000,
    });
  },

  async where() {
    const server = room.serverUrl ?? '';
    return { server, node: room.serverInfo?.nodeId ?? '', region: room.serverInfo?.region ?? '' };
  },

  async counters({ stream }) {
    return streams.get(stream).counters;
  },

  // From now on descriptions of the other side take so much longer to apply.
  async slow({ ms }) {
    window.applying = ms;
  },

  // RTP packets of sound until now: those that we sent, and those received of each stream.
  async sound() {
    const counts = { sent: 0, received: {} };
    const byTrack = subscribed();
    for (const connection of window.connections) {
      if (connection.connectionState === 'closed') continue;
      for (const report of (await connection.getStats()).values()) {
        if (report.kind !== 'audio') continue;
        if (report.type === 'outbound-rtp') counts.sent += report.packetsSent;
        const key = byTrack.get(report.trackIdentifier);
        if (report.type === 'inbound-rtp' && key) counts.received[key] = report.packetsReceived;
      }
    }
    return counts;
  },

  async look({ since }) {
    const report = {};
    for (const [key, stream] of streams) {
      report[key] = {
        arrivals: stream.arrivals.filter((at) => at >= since),
        total: stream.arrivals.length,
        state: state(key, stream),
        sizes: stream.sizes.filter((size) => size[3] >= since),
        at: now(),
      };
    }
    const remote = [...room.remoteParticipants.values()];
    return {
      at: now(),
      streams: report,
      participants: Object.fromEntries(remote.map((who) => [who.identity, who.sid])),
      publications: remote.flatMap((who) =>
        [...who.trackPublications.values()].map((publication) => streamKey(who, publication)),
      ),
      sid: room.localParticipant.sid,
    };
  },
};

pollForEver();
