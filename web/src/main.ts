// The page: lobby, meeting, and the loop that keeps what is shown true.

import { Chat } from './chat.ts';
import { Demo } from './demo.ts';
import { DirectoryCard } from './directory.ts';
import { byId, h, setText } from './dom.ts';
import { Failover, now } from './failover.ts';
import { FaultCard } from './fault_card.ts';
import { Measure } from './measure.ts';
import { Meeting, type Who } from './meeting.ts';
import { showInvite, showPeople } from './people.ts';
import { Regions } from './regions.ts';
import { openSources } from './sources.ts';
import { setUpTheme } from './theme.ts';
import { Tiles } from './tiles.ts';

const STATE_EVERY_MS = 500;
const DRAW_EVERY_MS = 200;
const PANELS = ['regions', 'people', 'chat'] as const;
type Panel = (typeof PANELS)[number];
const SAY: Readonly<Record<string, string>> = {
  connecting: 'joining',
  signalReconnecting: 'changing gateway',
  reconnecting: 'rejoining',
  disconnected: 'rejoining',
};

const query = new URLSearchParams(location.search);
const TRADES = ['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara', 'Ken', 'Radia', 'Leslie'];

function openLobby(demo: Demo): void {
  const name = byId<HTMLInputElement>('name');
  const room = byId<HTMLInputElement>('room');
  name.value = query.get('name') ?? TRADES[Math.floor(Math.random() * TRADES.length)] ?? 'Ada';
  room.value = query.get('room') ?? 'lobby';
  const synthetic = byId<HTMLInputElement>('synthetic');
  synthetic.checked = query.has('synthetic');
  const here = location.origin.replace('localhost', '127.0.0.1');
  byId('region-choice').append(
    ...demo.page.regions.map((region, index) => {
      const checked = region.gateway === here || (index === 0 && !demo.page.regions.some((r) => r.gateway === here));
      const input = h('input', { type: 'radio', name: 'region', value: region.name, checked });
      return h('label', { 'data-region': region.name }, input, h('span', {}, h('span', { class: 'dot', 'aria-hidden': 'true' }), region.label));
    }),
  );
  const form = byId<HTMLFormElement>('join');
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const region = String(new FormData(form).get('region'));
    void enter(demo, name.value.trim(), room.value.trim(), region, synthetic.checked);
  });
  if (query.has('join')) form.requestSubmit();
}

/** The same tab keeps its identity over reloads; two tabs are two people. */
function identityFor(name: string): string {
  const slug = name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '') || 'guest';
  const key = `outlast.identity.${slug}`;
  const kept = sessionStorage.getItem(key);
  if (kept !== null) return kept;
  const made = `${slug}-${Math.random().toString(36).slice(2, 6)}`;
  sessionStorage.setItem(key, made);
  return made;
}

async function enter(demo: Demo, name: string, roomName: string, region: string, synthetic: boolean): Promise<void> {
  const form = byId<HTMLFormElement>('join');
  const error = byId('join-error');
  form.classList.add('busy');
  setText(error, '');
  const failover = new Failover(demo.gateways);
  const wish = failover.list.all.find((gateway) => gateway.region === region);
  if (wish !== undefined) failover.list.prefer(wish);
  const uninstall = failover.install();
  const sources = await openSources(name, synthetic);
  const who: Who = { room: roomName, identity: identityFor(name), name };
  const stay = new Stay(demo, failover, who, sources);
  try {
    await stay.meeting.join();
  } catch (reason) {
    uninstall();
    setText(error, `Could not join: ${reason instanceof Error ? reason.message : String(reason)}`);
    form.classList.remove('busy');
    return;
  }
  stay.open();
}

/** Everything on the screen while one is in a room. */
class Stay {
  readonly meeting: Meeting;
  private readonly demo: Demo;
  private readonly failover: Failover;
  private readonly measure = new Measure();
  private readonly tiles: Tiles;
  private readonly regions: Regions;
  private readonly directory: DirectoryCard;
  private readonly fault: FaultCard;
  private readonly chat: Chat;
  private panel: Panel = 'regions';

  constructor(demo: Demo, failover: Failover, who: Who, sources: Awaited<ReturnType<typeof openSources>>) {
    this.demo = demo;
    this.failover = failover;
    this.tiles = new Tiles(byId('tiles'), this.measure);
    this.regions = new Regions(byId('regions'), demo);
    this.directory = new DirectoryCard(byId('directory'), demo);
    this.fault = new FaultCard(byId('fault'), this.measure, (identity) => this.nameOf(identity));
    this.meeting = new Meeting(demo, failover, who, sources, {
      changed: () => this.draw(),
      told: (at) => this.fault.heard({ kind: 'told', at }),
      bye: (identity) => this.tiles.remove(identity),
      said: (identity, text) => this.chat.add(this.nameOf(identity), text, this.panel === 'chat'),
      ended: (reason) => this.close(`You were disconnected: ${reason}.`),
    });
    this.chat = new Chat((text) => this.meeting.say(text));
    failover.on((event) => {
      this.fault.heard(event);
      // Heard before the SDK acts on it.
      if (event.kind === 'lost' || event.kind === 'told') this.tiles.keep();
      if (event.kind === 'welcome') queueMicrotask(() => this.meeting.share());
    });
  }

  open(): void {
    byId('lobby').hidden = true;
    byId('meeting').hidden = false;
    document.body.classList.add('in-meeting');
    setText(byId('room-name'), this.meeting.who.room);
    this.measure.watch(this.meeting.room);
    this.setUpControls();
    this.choose('regions');
    showInvite(byId('invite'), this.meeting.who.room, this.demo);
    setInterval(() => this.draw(), DRAW_EVERY_MS);
    void this.pollState();
    this.draw();
  }

  private readonly names = new Map<string, string>();

  private nameOf(identity: string): string {
    const name = this.meeting.room.remoteParticipants.get(identity)?.name;
    // Somebody who is coming back has no participant object in between.
    if (name) this.names.set(identity, name);
    return name || this.names.get(identity) || identity;
  }

  private draw(): void {
    if (byId('meeting').hidden) return;
    const { room } = this.meeting;
    const at = now();
    this.meeting.share();
    this.tiles.sync(room, at);
    showPeople(byId('people'), room, this.meeting.place, this.demo);
    this.fault.draw(at);
    const { current } = this.failover;
    const connected = room.state === 'connected';
    byId('status').dataset['state'] = connected ? 'well' : 'moving';
    setText(byId('status'), connected ? `via ${this.demo.label(current?.region)}` : (SAY[room.state] ?? ''));
    byId('sound').hidden = room.canPlaybackAudio;
    const { microphone, camera } = this.meeting.wanted;
    control('microphone', microphone, 'Mute', 'Unmute');
    control('camera', camera, 'Camera off', 'Camera on');
  }

  private async pollState(): Promise<void> {
    for (;;) {
      try {
        const state = await this.demo.state();
        this.fault.report(state.faults, this.demo);
        this.regions.show(state, this.meeting.place);
        this.directory.show(state);
      } catch (error) {
        this.regions.lost(error instanceof Error ? error.message : String(error));
      }
      await new Promise((resolve) => setTimeout(resolve, STATE_EVERY_MS));
    }
  }

  private setUpControls(): void {
    const { meeting } = this;
    byId('microphone').addEventListener('click', () => void meeting.setWanted('microphone', !meeting.wanted.microphone));
    byId('camera').addEventListener('click', () => void meeting.setWanted('camera', !meeting.wanted.camera));
    byId('leave').addEventListener('click', () => void meeting.leave().then(() => this.close('')));
    byId('start-audio').addEventListener('click', () => void meeting.room.startAudio());
    PANELS.forEach((panel, index) => {
      const tab = byId(`tab-${panel}`);
      tab.addEventListener('click', () => this.choose(panel));
      tab.addEventListener('keydown', (event) => {
        const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
        const next = PANELS[(index + step + PANELS.length) % PANELS.length];
        if (step === 0 || next === undefined) return;
        this.choose(next);
        byId(`tab-${next}`).focus();
      });
    });
  }

  private choose(chosen: Panel): void {
    this.panel = chosen;
    for (const panel of PANELS) {
      const is = panel === chosen;
      byId(`tab-${panel}`).setAttribute('aria-selected', String(is));
      byId(`tab-${panel}`).tabIndex = is ? 0 : -1;
      byId(`panel-${panel}`).hidden = !is;
    }
    if (chosen === 'chat') this.chat.seen();
  }

  /** Back to the lobby by a fresh page: nothing of the stay is left over. */
  private close(reason: string): void {
    if (reason !== '') sessionStorage.setItem('outlast.reason', reason);
    const back = new URLSearchParams({ room: this.meeting.who.room, name: this.meeting.who.name });
    if (query.has('synthetic')) back.set('synthetic', '1');
    location.assign(`${location.pathname}?${back}`);
  }
}

function control(id: string, on: boolean, off: string, back: string): void {
  const button = byId(id);
  button.setAttribute('aria-pressed', String(on));
  setText(button, on ? off : back);
}

setUpTheme(byId<HTMLButtonElement>('theme'));
setText(byId('join-error'), sessionStorage.getItem('outlast.reason') ?? '');
sessionStorage.removeItem('outlast.reason');
Demo.load().then(openLobby, (error: unknown) => {
  setText(byId('join-error'), error instanceof Error ? error.message : String(error));
});
