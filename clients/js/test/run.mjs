// Bundles every *.test.ts and runs them with node:test (Node 20 reads no TypeScript itself).
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';

const here = new URL('.', import.meta.url).pathname;
const out = await mkdtemp(join(tmpdir(), 'outlast-client-'));
const tests = (await readdir(here)).filter((name) => name.endsWith('.test.ts'));
await build({
  entryPoints: tests.map((name) => join(here, name)),
  outdir: out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  sourcemap: 'inline',
});
const files = tests.map((name) => join(out, name.replace(/ts$/, 'mjs')));
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...files], { stdio: 'inherit' });
await rm(out, { recursive: true });
process.exit(status ?? 1);
