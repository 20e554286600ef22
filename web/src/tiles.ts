// One tile per participant. Tiles outlive connections: somebody who comes back finds the own place,
// and the last picture stays until the first new frame.

import { type Participant, type RemoteTrack, type Room, Track } from 'livekit-client';
import { h, setText } from './dom.ts';
import { hueOf, initials } from './sources.ts';

/** How long a tile waits for somebody who vanished without a goodbye, in ms. */
const GRACE_MS = 20_000;

interface Tile {
  readonly element: HTMLElement;
  readonly screen: HTMLElement;
  readonly note: HTMLElement;
  readonly place: HTMLElement;
  readonly muted: HTMLElement;
  video: HTMLVideoElement | undefined;
  videoTrack: Track | undefined;
  audioTrack: Track | undefined;
  awaySince: number | undefined;
}

export class Tiles {
  private readonly grid: HTMLElement;
  private readonly tiles = new Map<string, Tile>();
  private readonly gone: (identity: string) => void;

  /** `gone` hears of everybody whose tile is taken away. */
  constructor(grid: HTMLElement, gone: (identity: string) => void) {
    this.grid = grid;
    this.gone = gone;
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

  remove(identity: string): void {
    const tile = this.tiles.get(identity);
    if (tile === undefined) return;
    tile.videoTrack?.detach();
    tile.audioTrack?.detach();
    tile.element.remove();
    this.tiles.delete(identity);
    this.gone(identity);
  }

  clear(): void {
    for (const identity of [...this.tiles.keys()]) this.remove(identity);
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
      tile.audioTrack?.detach().forEach((element) => element.remove());
      tile.audioTrack = microphone.track;
      tile.element.append((microphone.track as RemoteTrack).attach());
    }
    // While only the signalling is being resumed, media flows and nothing is shown.
    const reconnecting = room.state === 'reconnecting' || room.state === 'disconnected';
    const waiting = !isLocal && camera === undefined && microphone === undefined;
    tile.element.classList.toggle('speaking', participant.isSpeaking);
    // Somebody who is just back has no camera yet: the last picture stays.
    tile.element.classList.toggle('dark', camera?.isMuted === true || tile.video === undefined);
    tile.element.classList.toggle('away', reconnecting);
    tile.muted.hidden = microphone?.isMuted !== true;
    setText(tile.note, reconnecting ? 'reconnecting' : waiting ? 'joining' : '');
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
  const screen = h('div', { class: 'screen' });
  const label = h('figcaption', {}, h('span', { class: 'name' }, isLocal ? `${name} (you)` : name), muted, place);
  const element = h('figure', { class: isLocal ? 'tile own dark' : 'tile dark' }, avatar, screen, note, label);
  return {
    element,
    screen,
    note,
    place,
    muted,
    video: undefined,
    videoTrack: undefined,
    audioTrack: undefined,
    awaySince: undefined,
  };
}

/** Puts the new picture over the old one when it has one, so that nothing flashes. */
function showVideo(tile: Tile, track: Track, isLocal: boolean): void {
  if (track === tile.videoTrack) return;
  const previous = { video: tile.video, track: tile.videoTrack };
  tile.videoTrack = track;
  const video = h('video', { autoplay: true, playsinline: true, muted: true, 'aria-hidden': 'true' });
  video.muted = true;
  video.classList.toggle('mirrored', isLocal && track.mediaStreamTrack.getSettings().facingMode === 'user');
  track.attach(video);
  tile.video = video;
  const swap = () => {
    if (previous.video !== undefined) previous.track?.detach(previous.video);
    previous.video?.remove();
  };
  tile.screen.prepend(video);
  video.requestVideoFrameCallback(swap);
}
