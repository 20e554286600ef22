// Bundles every *.test.ts of the package's folder `test` and runs them with node:test (Node 20 reads no TypeScript itself).
// Usage, from the package's folder: node scripts/test-ts.mjs
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folder = process.cwd();
const { build } = createRequire(join(folder, 'package.json'))('esbuild');
const out = await mkdtemp(join(tmpdir(), 'outlast-test-'));
const tests = (await readdir(join(folder, 'test'))).filter((name) => name.endsWith('.test.ts'));
await build({
  entryPoints: tests.map((name) => join(folder, 'test', name)),
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
