// Makes dist/: types by the compiler, JavaScript by a bundler, because a worker that loads two files starts sooner than one that loads thirty.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });
const { status } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json', '--emitDeclarationOnly'], { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

const common = { bundle: true, format: 'esm', platform: 'node', target: 'es2022', packages: 'external', outdir: 'dist', logLevel: 'warning' };
const sources = (...names) => names.map((name) => `src/${name}.ts`);
// What an application imports and what the command runs are the same classes, so they share their files: those of a worker are one, since all begin with it.
await build({ ...common, splitting: true, entryPoints: sources('index', 'testing', 'cli', 'internal'), inject: sources('core') });
// These run in threads of their own.
await build({ ...common, entryPoints: sources('hooks', 'sync_thread') });
