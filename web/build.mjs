// Builds the page into dist/: one script, one worker, the static files beside them.
import { cp, mkdir, rm } from 'node:fs/promises';
import { build } from 'esbuild';

const out = new URL('dist/', import.meta.url).pathname;
await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  entryPoints: ['src/main.ts', 'src/tick.ts'],
  absWorkingDir: new URL('.', import.meta.url).pathname,
  outdir: out,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  sourcemap: process.argv.includes('--sourcemap'),
  legalComments: 'linked',
  logLevel: 'warning',
});
for (const file of ['index.html', 'style.css', 'icon.svg']) {
  await cp(new URL(`src/${file}`, import.meta.url), `${out}${file}`);
}
