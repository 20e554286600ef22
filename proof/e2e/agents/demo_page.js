// Runs before the demo's own page: what a person sees there, and what its decoders produce.
const connections = [];
const Plain = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Plain {
  constructor(...args) {
    super(...args);
    connections.push(this);
  }
};

/** Frames decoded, or samples that came from packets, of the track that this element plays now. */
async function decoded(element, kind) {
  const track = element?.srcObject?.getTracks().find((each) => each.kind === kind);
  const receivers = connections.flatMap((connection) => connection.getReceivers());
  const receiver = receivers.find((each) => track !== undefined && each.track.id === track.id);
  let made = 0;
  for (const report of (await receiver?.getStats())?.values() ?? []) {
    if (report.type !== 'inbound-rtp') continue;
    made += kind === 'video' ? (report.framesDecoded ?? 0) : (report.totalSamplesReceived ?? 0) - (report.concealedSamples ?? 0);
  }
  return { track: track?.id ?? '', made };
}

const textOf = (selector, root = document) => root.querySelector(selector)?.textContent ?? '';

window.actions = {
  async look() {
    const tiles = [...document.querySelectorAll('.tile')].map(async (tile) => ({
      name: textOf('.name', tile),
      node: textOf('.chip', tile),
      note: textOf('.note', tile),
      elements: tile.querySelectorAll('video, audio').length,
      video: await decoded(tile.querySelector('video'), 'video'),
      audio: await decoded(tile.querySelector('audio'), 'audio'),
    }));
    return {
      in_room: document.querySelector('#meeting')?.hidden === false,
      error: textOf('#join-error'),
      status: textOf('#status'),
      silence: textOf('.figure:not(.going) b'),
      steps: [...document.querySelectorAll('.steps li')].map((step) => step.textContent),
      directory: textOf('#directory .decides'),
      decides: document.querySelector('#directory')?.dataset.region ?? '',
      regions: [...document.querySelectorAll('.region .summary')].map((summary) => summary.textContent),
      tiles: await Promise.all(tiles),
    };
  },

  press({ region, action }) {
    const button = document.querySelector(`.region[data-region="${region}"] header .${action}`);
    if (button?.getAttribute('aria-disabled') !== 'false') throw new Error(`${action} of ${region} cannot be pressed`);
    button.click();
  },

  pressDirectory({ action }) {
    const card = document.querySelector('#directory');
    const button = card?.querySelector(`header .${action}`);
    if (card?.hidden !== false || button?.getAttribute('aria-disabled') !== 'false') {
      throw new Error(`${action} of the directory's region cannot be pressed`);
    }
    const { region } = card.dataset;
    button.click();
    return region;
  },

  say({ text }) {
    document.querySelector('#text').value = text;
    document.querySelector('#say').requestSubmit();
  },

  messages() {
    return [...document.querySelectorAll('#messages p')].map((each) => each.textContent);
  },
};
