// Who is where: media region and node, and the gateway that carries the signalling.

import type { Participant, Room } from 'livekit-client';
import type { Demo } from './demo.ts';
import { h } from './dom.ts';
import type { Place } from './meeting.ts';

/** Draws the list again if something in it changed. */
export function showPeople(list: HTMLElement, room: Room, own: Place | undefined, demo: Demo): void {
  const everybody: Participant[] = [room.localParticipant, ...room.remoteParticipants.values()];
  const rows = everybody.map((participant) => {
    const said = participant.attributes;
    const place: Partial<Place> = participant.isLocal ? (own ?? {}) : said;
    return { name: participant.name || participant.identity, you: participant.isLocal, ...place };
  });
  const state = JSON.stringify(rows);
  if (list.dataset['state'] === state) return;
  list.dataset['state'] = state;
  list.replaceChildren(
    ...rows.map(({ name, you, region, node, gateway }) =>
      h(
        'li',
        { 'data-region': region ?? '' },
        h('span', { class: 'dot', 'aria-hidden': 'true' }),
        h('strong', {}, you ? `${name} (you)` : name),
        region === undefined
          ? h('span', { class: 'hint' }, 'has not said')
          : h('span', { class: 'path' }, `media on ${node ?? '?'} in ${demo.label(region)}, signalling through ${demo.label(gateway)}`),
      ),
    ),
  );
}

/** Links that open one more participant at each gateway. */
export function showInvite(root: HTMLElement, room: string, demo: Demo): void {
  const links = demo.page.regions.map(({ name, label, gateway }) => {
    const query = new URLSearchParams({ room, name: `Guest ${name.toUpperCase()}`, synthetic: '1', join: '1' });
    const link = { href: `${gateway}/?${query}`, target: '_blank', rel: 'noopener', class: 'button' };
    return h('a', link, label);
  });
  root.replaceChildren(h('h2', {}, 'Add a guest through'), h('div', { class: 'actions' }, ...links));
}
