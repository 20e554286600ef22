// What this person sends: camera and microphone, or a drawn picture and a quiet tone in their place.

import { onTick } from './clock.ts';

export interface Sources {
  readonly video: MediaStreamTrack;
  readonly audio: MediaStreamTrack;
  /** Which of the two are drawn and hummed. */
  readonly synthetic: { readonly video: boolean; readonly audio: boolean };
}

const WIDTH = 640;
const HEIGHT = 360;
/** Of full scale; audible beside a voice, not tiring. */
const TONE_VOLUME = 0.03;

/** Asks for devices unless `synthetic`; what is missing or refused is made. Never fails. */
export async function openSources(name: string, synthetic: boolean): Promise<Sources> {
  const [camera, microphone] = synthetic
    ? [undefined, undefined]
    : await Promise.all([
        device({ video: { width: WIDTH, height: HEIGHT, frameRate: 30 } }),
        device({ audio: { echoCancellation: true, noiseSuppression: true } }),
      ]);
  return {
    video: camera ?? drawnTrack(name),
    audio: microphone ?? toneTrack(name),
    synthetic: { video: camera === undefined, audio: microphone === undefined },
  };
}

async function device(wanted: MediaStreamConstraints): Promise<MediaStreamTrack | undefined> {
  try {
    const stream = await navigator.mediaDevices.getUserMedia(wanted);
    return stream.getTracks()[0];
  } catch {
    return undefined;
  }
}

/** A number from a name, for a colour and a pitch that stay. */
export function hueOf(name: string): number {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return sum;
}

function drawnTrack(name: string): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const pen = canvas.getContext('2d', { alpha: false });
  if (pen === null) throw new Error('this browser has no 2d canvas');
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  draw(pen, name, still.matches);
  // Every 50 ms, from the worker: a hidden page goes on sending.
  onTick(() => draw(pen, name, still.matches));
  const [track] = canvas.captureStream(20).getVideoTracks();
  if (track === undefined) throw new Error('this browser cannot capture a canvas');
  return track;
}

function draw(pen: CanvasRenderingContext2D, name: string, still: boolean): void {
  const at = Date.now();
  const hue = hueOf(name);
  const sky = pen.createLinearGradient(0, 0, WIDTH, HEIGHT);
  sky.addColorStop(0, `hsl(${hue} 45% 34%)`);
  sky.addColorStop(1, `hsl(${(hue + 50) % 360} 50% 18%)`);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, WIDTH, HEIGHT);

  // The hand goes round once in four seconds: a frozen picture is seen at a glance.
  const turn = still ? 0 : ((at % 4_000) / 4_000) * 2 * Math.PI;
  pen.strokeStyle = 'rgb(255 255 255 / 25%)';
  pen.lineWidth = 6;
  pen.beginPath();
  pen.arc(WIDTH / 2, 116, 70, 0, 2 * Math.PI);
  pen.stroke();
  pen.strokeStyle = 'white';
  pen.lineCap = 'round';
  pen.beginPath();
  pen.arc(WIDTH / 2, 116, 70, turn - Math.PI / 2, turn - Math.PI / 2 + 0.9);
  pen.stroke();

  pen.fillStyle = 'white';
  pen.textAlign = 'center';
  pen.textBaseline = 'middle';
  pen.font = '600 56px system-ui, sans-serif';
  pen.fillText(initials(name), WIDTH / 2, 118);
  pen.font = '500 40px ui-monospace, monospace';
  pen.fillText(clockFace(at), WIDTH / 2, 232);
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/).slice(0, 2);
  return words.map((word) => [...word][0]?.toUpperCase() ?? '').join('') || '?';
}

function clockFace(at: number): string {
  const tenths = Math.floor((at % 1_000) / 100);
  return `${new Date(at).toLocaleTimeString('en-GB')}.${tenths}`;
}

function toneTrack(name: string): MediaStreamTrack {
  const context = new AudioContext();
  const tone = new OscillatorNode(context, { frequency: 180 + hueOf(name) });
  const volume = new GainNode(context, { gain: TONE_VOLUME });
  const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
  tone.connect(volume).connect(out);
  tone.start();
  // Without a click in this page the context may wait for one.
  if (context.state === 'suspended') {
    addEventListener('pointerdown', () => void context.resume(), { once: true });
    addEventListener('keydown', () => void context.resume(), { once: true });
  }
  const [track] = out.stream.getAudioTracks();
  if (track === undefined) throw new Error('this browser has no audio destination');
  return track;
}
