// One person's stay in one room: joins through any gateway, publishes, and comes back by itself until
// the person leaves. The SDK does what it can alone; this does the rest.

import {
  DisconnectReason,
  type LocalTrackPublication,
  type ReconnectPolicy,
  Room,
  RoomEvent,
  Track,
} from 'livekit-client';
import type { Demo } from './demo.ts';
import { type Failover, now } from './failover.ts';
import { reconnectDelay } from './gateways.ts';
import type { Sources } from './sources.ts';

/** Media that does not connect within this is tried anew. The SDK's own 15 s are spent in full when a
 *  node stops between its answer and the first packet. */
const MEDIA_WITHIN_MS = 5_000;
const BYE_TOPIC = 'outlast.bye';
export const CHAT_TOPIC = 'lk.chat';

/** Reasons after which the room does not want this participant back. */
const FINAL: ReadonlySet<DisconnectReason> = new Set([
  DisconnectReason.CLIENT_INITIATED,
  DisconnectReason.DUPLICATE_IDENTITY,
  DisconnectReason.PARTICIPANT_REMOVED,
  DisconnectReason.ROOM_DELETED,
  DisconnectReason.USER_REJECTED,
]);

/** Where a participant is, as it says itself. */
export interface Place {
  readonly region: string;
  readonly node: string;
  readonly gateway: string;
}

export interface Who {
  readonly room: string;
  readonly identity: string;
  readonly name: string;
}

export interface MeetingEvents {
  /** Anything that is shown may have changed. */
  changed(): void;
  /** The room is being rejoined: the SDK was told, or gave up. */
  told(at: number): void;
  /** This participant said goodbye; it will not come back. */
  bye(identity: string): void;
  said(identity: string, text: string): void;
  /** The stay is over and not by the person's wish. */
  ended(reason: string): void;
}

/** The SDK's pauses, without its last attempt. */
class Patient implements ReconnectPolicy {
  nextRetryDelayInMs({ retryCount }: { readonly retryCount: number }): number {
    return reconnectDelay(retryCount, Math.random());
  }
}

export class Meeting {
  readonly room: Room;
  readonly who: Who;
  readonly sources: Sources;
  /** What the person wants, kept over every reconnect. */
  readonly wanted = { microphone: true, camera: true };
  private readonly demo: Demo;
  private readonly failover: Failover;
  private readonly events: MeetingEvents;
  private left = false;
  private shared = '';

  constructor(demo: Demo, failover: Failover, who: Who, sources: Sources, events: MeetingEvents) {
    this.demo = demo;
    this.failover = failover;
    this.who = who;
    this.sources = sources;
    this.events = events;
    this.room = new Room({
      adaptiveStream: { pauseVideoInBackground: false },
      reconnectPolicy: new Patient(),
      // Our tracks outlive every connection.
      stopLocalTrackOnUnpublish: false,
    });
    this.listen();
  }

  /** Joins and publishes; tries until it works. Rejects only if the room or the demo says no. */
  async join(): Promise<void> {
    for (let attempt = 0; !this.left; attempt += 1) {
      try {
        const token = await this.demo.token(this.who.room, this.who.identity, this.who.name);
        await this.room.connect(await this.failover.url(), token, { peerConnectionTimeout: MEDIA_WITHIN_MS });
        await this.publish();
        this.share();
        return;
      } catch (error) {
        if (attempt >= 8) throw error;
        await pause(reconnectDelay(attempt + 1, Math.random()));
      }
    }
  }

  async leave(): Promise<void> {
    this.left = true;
    const bye = this.room.localParticipant.publishData(new Uint8Array(), { topic: BYE_TOPIC, reliable: true });
    await Promise.race([bye.catch(() => undefined), pause(300)]);
    await this.room.disconnect();
    this.sources.audio.stop();
    this.sources.video.stop();
  }

  async setWanted(kind: 'microphone' | 'camera', on: boolean): Promise<void> {
    this.wanted[kind] = on;
    const source = kind === 'camera' ? Track.Source.Camera : Track.Source.Microphone;
    const publication = this.room.localParticipant.getTrackPublication(source);
    if (publication !== undefined) await apply(publication, on);
    this.events.changed();
  }

  async say(text: string): Promise<void> {
    await this.room.localParticipant.sendText(text, { topic: CHAT_TOPIC });
  }

  /** Where this participant is: media at (region, node), signalling through `gateway`. */
  get place(): Place | undefined {
    // `room.serverInfo` stays that of the first join; the engine knows the latest.
    const info = this.room.engine?.latestJoinResponse?.serverInfo ?? this.room.serverInfo;
    const gateway = this.failover.current?.region;
    if (info === undefined || gateway === undefined) return undefined;
    return { region: info.region ?? '', node: info.nodeId ?? '', gateway };
  }

  /** Tells the others where this participant is, when that changed. */
  share(): void {
    const { place } = this;
    if (place === undefined || this.room.state !== 'connected') return;
    const text = JSON.stringify(place);
    if (text === this.shared) return;
    this.shared = text;
    this.room.localParticipant.setAttributes({ ...place }).catch(() => {
      this.shared = '';
    });
  }

  private async publish(): Promise<void> {
    const { localParticipant } = this.room;
    const audio = await localParticipant.publishTrack(this.sources.audio, {
      source: Track.Source.Microphone,
      name: 'microphone',
      // With DTX a pause in speech would look like a fault.
      dtx: false,
    });
    const video = await localParticipant.publishTrack(this.sources.video, {
      source: Track.Source.Camera,
      name: 'camera',
      simulcast: true,
    });
    await apply(audio, this.wanted.microphone);
    await apply(video, this.wanted.camera);
  }

  private listen(): void {
    const { room, events } = this;
    const shown = [
      RoomEvent.ParticipantConnected,
      RoomEvent.ParticipantDisconnected,
      RoomEvent.TrackSubscribed,
      RoomEvent.TrackUnsubscribed,
      RoomEvent.TrackMuted,
      RoomEvent.TrackUnmuted,
      RoomEvent.LocalTrackPublished,
      RoomEvent.ActiveSpeakersChanged,
      RoomEvent.ConnectionStateChanged,
      RoomEvent.ParticipantAttributesChanged,
      RoomEvent.AudioPlaybackStatusChanged,
    ] as const;
    for (const event of shown) room.on(event, () => events.changed());
    room.on(RoomEvent.Reconnecting, () => {
      // A new participant object on the server has no attributes yet.
      this.shared = '';
      events.told(now());
    });
    room.on(RoomEvent.Reconnected, () => this.share());
    room.on(RoomEvent.Disconnected, (reason) => void this.comeBack(reason));
    room.on(RoomEvent.DataReceived, (_payload, participant, _kind, topic) => {
      if (topic === BYE_TOPIC && participant !== undefined) events.bye(participant.identity);
    });
    room.registerTextStreamHandler(CHAT_TOPIC, (reader, { identity }) => {
      reader.readAll().then(
        (text) => events.said(identity, text),
        // The sender vanished in the middle; there is nothing to show.
        () => undefined,
      );
    });
  }

  private async comeBack(reason: DisconnectReason | undefined): Promise<void> {
    this.events.changed();
    if (this.left) return;
    if (reason !== undefined && FINAL.has(reason)) {
      this.events.ended(DisconnectReason[reason].toLowerCase().replaceAll('_', ' '));
      return;
    }
    this.shared = '';
    this.events.told(now());
    try {
      await this.join();
    } catch (error) {
      this.events.ended(error instanceof Error ? error.message : String(error));
    }
  }
}

async function apply(publication: LocalTrackPublication, on: boolean): Promise<void> {
  if (on && publication.isMuted) await publication.unmute();
  if (!on && !publication.isMuted) await publication.mute();
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
