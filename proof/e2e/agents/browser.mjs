// Headless Chromium with one tab per participant, driven by JSON lines on stdin and stdout:
// `{"id", "tab", "do": "open" | "close" | an action of page.js, ...}`; the answer has the same id.
// `open` with a `url` opens the demo's page there, whose actions are those of demo_page.js.
import http from 'node:http';
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import readline from 'node:readline';
import esbuild from 'esbuild';
import { chromium } from 'playwright-core';

const here = new URL('.', import.meta.url).pathname;
const tell = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

const bundle = esbuild.buildSync({
  entryPoints: [`${here}page.js`],
  // One livekit-client, the one that is tested, below the wrapper as well.
  alias: {
    'outlast-client': `${here}../../../clients/js/src/index.ts`,
    'livekit-client': `${here}../node_modules/livekit-client`,
  },
  bundle: true,
  write: false,
  format: 'iife',
  target: 'chrome120',
}).outputFiles[0].text;

const server = http.createServer((request, response) => {
  const isScript = request.url === '/page.js';
  response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
  response.end(isScript ? bundle : readFileSync(`${here}page.html`));
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const pageUrl = `http://127.0.0.1:${server.address().port}/`;

// Chromium gathers no candidate at all when loopback is the only interface that is up.
const onlyLoopback = Object.values(networkInterfaces())
  .flat()
  .every((address) => address.internal);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--use-fake-device-for-media-stream=fps=15',
    '--use-fake-ui-for-media-stream',
    '--autoplay-policy=no-user-gesture-required',
    '--disable-background-timer-throttling',
    '--disable-renderer-backgrounding',
    '--disable-backgrounding-occluded-windows',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-features=AsyncDns,WebRtcHideLocalIpsWithMdns',
    '--no-proxy-server',
    ...(onlyLoopback ? ['--allow-loopback-in-peer-connection'] : []),
  ],
});
const context = await browser.newContext({ permissions: ['camera', 'microphone'] });
const tabs = new Map();

async function open(tab, { url }) {
  const page = await context.newPage();
  if (url !== undefined) await page.addInitScript({ path: `${here}demo_page.js` });
  await page.exposeFunction('tell', (message) => tell({ tab, ...message }));
  page.on('pageerror', (error) => tell({ tab, event: 'page_error', at: Date.now() / 1000, text: `${error}` }));
  await page.goto(url ?? pageUrl);
  tabs.set(tab, page);
  return { agent: await page.evaluate(() => navigator.userAgent) };
}

async function handle({ id, tab, do: name, ...args }) {
  try {
    let ok;
    if (name === 'open') ok = await open(tab, args);
    else if (name === 'close') {
      await tabs.get(tab).close();
      tabs.delete(tab);
    } else {
      ok = await tabs.get(tab).evaluate(([n, a]) => window.actions[n](a), [name, args]);
    }
    tell({ id, ok: ok ?? null });
  } catch (error) {
    tell({ id, error: `${name}: ${error}` });
  }
}

tell({ event: 'ready', at: Date.now() / 1000 });
for await (const line of readline.createInterface({ input: process.stdin })) {
  handle(JSON.parse(line));
}
await browser.close();
server.close();
