// Looks at every receiver each 50 ms and marks the flows whose decoder produced something new.
// SDK events are not asked: they say what the SDK believes, not what a person hears.

import { type RemoteTrack, type Room, Track } from 'livekit-client';
import { onTick } from './clock.ts';
import { now } from './failover.ts';
import { Flow, GAP_MIN_MS, PICTURE_GAP_MIN_MS } from './silence.ts';

export type Kind = 'sound' | 'picture';

const SOURCES: readonly [Kind, Track.Source][] = [
  ['sound', Track.Source.Microphone],
  ['picture', Track.Source.Camera],
];

/** What is decoded from everybody else. */
export class Measure {
  private readonly flows = new Map<string, Map<Kind, Flow>>();
  private readonly counts = new WeakMap<RTCRtpReceiver, number>();
  private readonly asking = new WeakSet<RTCRtpReceiver>();

  /** Starts to look; returns the way to stop. */
  watch(room: Room): () => void {
    return onTick(() => {
      for (const participant of room.remoteParticipants.values()) {
        for (const [kind, source] of SOURCES) {
          const publication = participant.getTrackPublication(source);
          if (publication?.isMuted === true) this.flow(participant.identity, kind).rest();
          else if (publication?.track) {
            void this.look(participant.identity, kind, publication.track as RemoteTrack);
          }
        }
      }
    });
  }

  /** Identities with their flows, in the order in which they were first heard. */
  entries(): IterableIterator<[string, Map<Kind, Flow>]> {
    return this.flows.entries();
  }

  /** Whether nothing at all of what this one sends has arrived for a while. */
  isSilent(identity: string, at: number): boolean {
    const kinds = this.flows.get(identity);
    return kinds !== undefined && kinds.size > 0 && [...kinds.values()].every((flow) => flow.isSilent(at));
  }

  /** Somebody left for good. */
  forget(identity: string): void {
    this.flows.delete(identity);
  }

  private flow(identity: string, kind: Kind): Flow {
    let kinds = this.flows.get(identity);
    if (kinds === undefined) this.flows.set(identity, (kinds = new Map()));
    let flow = kinds.get(kind);
    if (flow === undefined) kinds.set(kind, (flow = new Flow(kind === 'picture' ? PICTURE_GAP_MIN_MS : GAP_MIN_MS)));
    return flow;
  }

  private async look(identity: string, kind: Kind, track: RemoteTrack): Promise<void> {
    const { receiver } = track;
    if (receiver === undefined || this.asking.has(receiver)) return;
    this.asking.add(receiver);
    try {
      const made = decoded(await receiver.getStats(), kind);
      if (made > (this.counts.get(receiver) ?? 0)) {
        this.counts.set(receiver, made);
        this.flow(identity, kind).mark(now());
      }
    } finally {
      this.asking.delete(receiver);
    }
  }
}

/** Frames decoded, or audio samples that came from packets: concealed ones are made up. */
function decoded(report: RTCStatsReport, kind: Kind): number {
  let made = 0;
  report.forEach((entry: RTCStats) => {
    if (entry.type !== 'inbound-rtp') return;
    const stats = entry as RTCInboundRtpStreamStats;
    made +=
      kind === 'picture'
        ? (stats.framesDecoded ?? 0)
        : (stats.totalSamplesReceived ?? 0) - (stats.concealedSamples ?? 0);
  });
  return made;
}
