// One tile per participant. Tiles outlive connections: somebody who comes back finds the own place,
// and the last picture stays until the first new frame. The SDK empties the video of a track that it
// loses, so that picture is copied at the first sign of trouble.

import { type Participant, type RemoteTrack, type Room, Track } from 'livekit-client';
import { h, setText } from './dom.ts';
import type { Measure } from './measure.ts';
import { hueOf, initials } from './sources.ts';

/** How long a tile waits for somebody who vanished without a goodbye, in ms. */
const GRACE_MS = 20_000;

interface Tile {
  readonly element: HTMLElement;
  readonly screen: HTMLElement;
  /** The last picture of a lost track; under the video, which is transparent until it has a frame. */
  readonly still: HTMLCanvasElement;
  readonly note: HTMLElement;
  readonly place: HTMLElement;
  readonly muted: HTMLElement;
  video: HTMLVideoElement | undefined;
  videoTrack: Track | undefined;
  audio: HTMLMediaElement | undefined;
  audioTrack: Track | undefined;
  awaySince: number | undefined;
}

export class Tiles {
  private readonly grid: HTMLElement;
  private readonly tiles = new Map<string, Tile>();
  private readonly measure: Measure;

  /** `measure` says who is silent, and forgets everybody whose tile is taken away. */
  constructor(grid: HTMLElement, measure: Measure) {
    this.grid = grid;
    this.measure = measure;
  }

  /** Brings the tiles up to what the room knows at `at` (unix ms). */
  sync(room: Room, at: number): void {
    const here: Participant[] = [room.localParticipant, ...room.remoteParticipants.values()];
    for (const participant of here) {
      if (participant.identity !== '') this.show(participant, room, at);
    }
    const known = new Set(here.map(({ identity }) => identity));
    for (const [identity, tile] of this.tiles) {
      if (known.has(identity)) continue;
      tile.awaySince ??= at;
      if (room.state === 'connected' && at - tile.awaySince > GRACE_MS) this.remove(identity);
      else this.away(tile);
    }
    this.grid.dataset['count'] = String(Math.min(this.tiles.size, 9));
  }

  /** Copies every picture, for the time in which the SDK has none. Cheap; to be called on any doubt. */
  keep(): void {
    for (const tile of this.tiles.values()) keep(tile);
  }

  remove(identity: string): void {
    const tile = this.tiles.get(identity);
    if (tile === undefined) return;
    tile.videoTrack?.detach();
    tile.audioTrack?.detach();
    tile.element.remove();
    this.tiles.delete(identity);
    this.measure.forget(identity);
  }

  private show(participant: Participant, room: Room, at: number): void {
    const { identity, isLocal } = participant;
    const name = participant.name || identity;
    let tile = this.tiles.get(identity);
    if (tile === undefined) {
      tile = makeTile(name, isLocal);
      this.tiles.set(identity, tile);
      this.grid.append(tile.element);
    }
    tile.awaySince = undefined;
    const camera = participant.getTrackPublication(Track.Source.Camera);
    const microphone = participant.getTrackPublication(Track.Source.Microphone);
    if (camera?.track) showVideo(tile, camera.track, isLocal);
    if (!isLocal && microphone?.track && microphone.track !== tile.audioTrack) {
      // The SDK detaches a track that it loses, and then no longer knows the element.
      tile.audioTrack?.detach();
      tile.audio?.remove();
      tile.audioTrack = microphone.track;
      tile.audio = (microphone.track as RemoteTrack).attach();
      tile.element.append(tile.audio);
    }
    // While only the signalling is being resumed, media flows and nothing is shown.
    const reconnecting = room.state === 'reconnecting' || room.state === 'disconnected';
    const waiting = !isLocal && camera === undefined && microphone === undefined;
    const silent = !isLocal && this.measure.isSilent(identity, at);
    tile.element.classList.toggle('speaking', participant.isSpeaking && !reconnecting && !silent);
    // Somebody who is just back has no camera yet: the last picture stays.
    tile.element.classList.toggle('dark', camera?.isMuted === true || tile.video === undefined);
    tile.element.classList.toggle('away', reconnecting || silent);
    tile.muted.hidden = microphone?.isMuted !== true;
    setText(tile.note, reconnecting ? 'reconnecting' : waiting ? 'joining' : silent ? 'nothing arrives' : '');
    const { region, node } = participant.attributes;
    tile.place.hidden = region === undefined;
    tile.place.dataset['region'] = region ?? '';
    setText(tile.place, node ?? '');
    if (reconnecting) tile.awaySince = at;
  }

  private away(tile: Tile): void {
    tile.element.classList.add('away');
    tile.element.classList.remove('speaking');
    setText(tile.note, 'coming back');
  }
}

function makeTile(name: string, isLocal: boolean): Tile {
  const note = h('span', { class: 'note', role: 'status' });
  const place = h('span', { class: 'chip', hidden: true });
  const muted = h('span', { class: 'muted', title: 'microphone off', hidden: true }, 'muted');
  const avatar = h('div', { class: 'avatar', 'aria-hidden': 'true' }, initials(name));
  avatar.style.setProperty('--hue', String(hueOf(name)));
  const still = h('canvas');
  const screen = h('div', { class: 'screen', 'aria-hidden': 'true' }, still);
  const label = h('figcaption', {}, h('span', { class: 'name' }, isLocal ? `${name} (you)` : name), muted, place);
  const element = h('figure', { class: isLocal ? 'tile own dark' : 'tile dark' }, avatar, screen, note, label);
  return {
    element,
    screen,
    still,
    note,
    place,
    muted,
    video: undefined,
    videoTrack: undefined,
    audio: undefined,
    audioTrack: undefined,
    awaySince: undefined,
  };
}

/** The picture that the tile shows now becomes its still, if it shows one. */
function keep({ video, still }: Tile): void {
  if (video === undefined || video.videoWidth === 0 || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.classList.toggle('mirrored', video.classList.contains('mirrored'));
  still.getContext('2d', { alpha: false })?.drawImage(video, 0, 0);
}

/** Puts the new picture over the old one, so that nothing flashes. */
function showVideo(tile: Tile, track: Track, isLocal: boolean): void {
  if (track === tile.videoTrack) return;
  keep(tile);
  if (tile.video !== undefined) tile.videoTrack?.detach(tile.video);
  tile.video?.remove();
  const video = h('video', { autoplay: true, playsinline: true, muted: true });
  video.muted = true;
  video.classList.toggle('mirrored', isLocal && track.mediaStreamTrack.getSettings().facingMode === 'user');
  tile.screen.append(video);
  track.attach(video);
  tile.video = video;
  tile.videoTrack = track;
}
