/** The package as it is packed, and every snippet of the README. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AsyncTaskerClient, HandlerSystem } from 'taskerd';
import { EmbeddedTaskerd } from 'taskerd/testing';
import { scratch, within } from './support.js';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const program = join(process.env['TASKERD_BUILD'] ?? '/nowhere', 'daemon', 'taskerd');
const runtime = 'Deno' in globalThis ? 'deno' : 'Bun' in globalThis ? 'bun' : 'node';
const readme = readFileSync(join(PACKAGE, 'README.md'), 'utf8');

/** Named blocks of the README: file -> text. */
function blocks(): Map<string, string> {
  const found = readme.matchAll(/```(?:ts|yaml)\n(?:\/\/|#) (\S+)\n([\s\S]*?)```/g);
  return new Map([...found].map((match) => [match[1] as string, match[2] as string]));
}

/** A project of a user, with the package installed and the files of the README compiled. */
function project(): string {
  const root = scratch();
  for (const [name, text] of blocks()) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  mkdirSync(join(root, 'node_modules'));
  symlinkSync(PACKAGE, join(root, 'node_modules', 'taskerd'));
  symlinkSync(join(PACKAGE, 'node_modules', '@types'), join(root, 'node_modules', '@types'));
  symlinkSync(join(PACKAGE, 'node_modules', 'undici-types'), join(root, 'node_modules', 'undici-types'));
  writeFileSync(join(root, 'package.json'), JSON.stringify({ name: 'shop', type: 'module', dependencies: { taskerd: '*' } }));
  const options = { strict: true, target: 'ES2022', module: 'NodeNext', moduleResolution: 'NodeNext', types: ['node'], skipLibCheck: true, outDir: 'out' };
  writeFileSync(join(root, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['*.ts'] }));
  return root;
}

function command(file: string, isTest: boolean): [string, string[]] {
  const how = { node: isTest ? ['--test'] : [], bun: isTest ? ['test', '--timeout', '60000'] : ['run'], deno: isTest ? ['test', '-A', '--no-check'] : ['run', '-A'] }[runtime];
  return [process.execPath, [...how, file]];
}

async function runFile(root: string, file: string, env: NodeJS.ProcessEnv, isTest = false): Promise<string> {
  const [executable, args] = command(file, isTest);
  const child = spawn(executable, args, { cwd: root, env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const status = await within(new Promise((resolve) => child.on('close', resolve)), `the end of ${file}`);
  assert.equal(status, 0, text);
  return text;
}

describe('the package', { skip: runtime === 'node' ? false : 'once is enough' }, () => {
  test('is packed whole, and works where it is installed', () => {
    const root = scratch();
    const packed = spawnSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', root], { cwd: PACKAGE, encoding: 'utf8' });
    assert.equal(packed.status, 0, packed.stderr);
    const file = readdirSync(root).find((name) => name.endsWith('.tgz')) as string;
    const target = join(root, 'node_modules', 'taskerd');
    mkdirSync(target, { recursive: true });
    assert.equal(spawnSync('tar', ['-xzf', join(root, file), '-C', target, '--strip-components=1']).status, 0);
    const names = readdirSync(target, { recursive: true }) as string[];
    for (const name of ['package.json', 'README.md', 'dist/index.js', 'dist/index.d.ts', 'dist/testing.d.ts', 'dist/cli.js', 'dist/hooks.js']) assert.ok(names.includes(name), name);
    assert.deepEqual(names.filter((name) => /(?:^|\/)(?:src|test|test-dist|conformance|node_modules)\/|\.node$/.test(name)), []);
    const shown = spawnSync(process.execPath, ['--input-type=module', '-e', "import * as t from 'taskerd'; import 'taskerd/testing'; console.log(Object.keys(t).length, t.VERSION)"], { cwd: root, encoding: 'utf8' });
    assert.match(shown.stdout, /^\d{2,} 0\.1\.0$/m, shown.stderr);
    const version = spawnSync(process.execPath, [join(target, 'dist/cli.js'), '--version'], { encoding: 'utf8' });
    assert.equal(version.stdout, 'taskerd-typescript 0.1.0\n');
  });
});

describe('the tarball', { skip: runtime !== 'node' ? 'once is enough' : existsSync(program) ? false : 'there is no taskerd: set TASKERD_BUILD' }, () => {
  const root = scratch();
  const bin = join(PACKAGE, 'node_modules', '.bin'); // bunx and deno
  let daemon: EmbeddedTaskerd;
  before(async () => {
    daemon = await EmbeddedTaskerd.start({ program });
    spawnSync('npm', ['pack', '--ignore-scripts', '--pack-destination', root], { cwd: PACKAGE });
    const app = join(root, 'app');
    mkdirSync(join(app, 'templates'), { recursive: true });
    writeFileSync(join(app, 'package.json'), '{"name": "shop", "type": "module"}');
    for (const name of ['shop.ts', 'templates/order.yaml']) writeFileSync(join(app, name), blocks().get(name) as string);
    const tarball = readdirSync(root).find((name) => name.endsWith('.tgz')) as string;
    const installed = spawnSync('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', join(root, tarball)], { cwd: app, encoding: 'utf8' });
    assert.equal(installed.status, 0, installed.stderr);
  });
  after(async () => daemon?.stop());

  const sh = (line: string) =>
    spawn('sh', ['-c', `exec ${line}`], {
      cwd: join(root, 'app'),
      env: { ...process.env, PATH: [dirname(process.execPath), process.env['PATH'], bin].join(delimiter), TASKERD_SOCKET: daemon.socket },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // npx does not pass signals on: its group gets them
    });

  for (const [, line] of readme.matchAll(/^ {4}((?:npx|bunx|deno run) .*worker .*?)(?: +#.*)?$/gm)) {
    test(`installed by npm: ${line}`, async () => {
      const worker = sh(line as string);
      let said = '';
      for (const stream of [worker.stdout, worker.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
      const ended = new Promise((resolve) => worker.on('close', resolve));
      const client = new AsyncTaskerClient({ socket: daemon.socket });
      while (!said.includes('connected to')) await Promise.race([once(worker.stderr, 'data'), ended.then(() => assert.fail(said))]);
      const task = await client.createTask({ name: 'order', namespace: 'shop', context: { cart_id: 7 } });
      const done = await client.waitForTask(task.task_uuid, { timeoutMs: 60_000 });
      assert.equal(done.status, 'complete');
      const step = done.steps.find(({ name }) => name === 'ship')?.step_uuid as string;
      await client.close();
      process.kill(-(worker.pid as number), 'SIGTERM');
      await within(ended, 'the end of the worker');
      assert.match(said, /the worker has ended; .*"recorded":4/);
      const replay = sh((/^ {4}(npx taskerd replay .*)$/m.exec(readme)?.[1] as string).replace('STEP_UUID', step));
      let shown = '';
      replay.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
      await within(new Promise((resolve) => replay.on('close', resolve)), 'the end of the replay');
      assert.match(shown, /shipped/);
    });
  }

  test('the page has a line for each runtime', () => {
    assert.equal([...readme.matchAll(/^ {4}(?:npx|bunx|deno run) .*worker /gm)].length, 3);
  });
});

describe('the README', { skip: runtime !== 'node' ? 'once is enough' : existsSync(program) ? false : 'there is no taskerd: set TASKERD_BUILD' }, () => {
  let daemon: EmbeddedTaskerd;
  let root: string;
  before(async () => {
    daemon = await EmbeddedTaskerd.start({ program });
    root = project();
    const compiled = spawnSync(process.env['TASKERD_NODE'] ?? 'node', [join(PACKAGE, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', root], { encoding: 'utf8' });
    assert.equal(compiled.status, 0, compiled.stdout);
    cpSync(join(root, 'templates'), join(root, 'out', 'templates'), { recursive: true });
  });
  after(async () => daemon?.stop());

  test('has a named block for every snippet', () => {
    assert.equal(blocks().size, [...readme.matchAll(/```(?:ts|yaml)/g)].length);
  });

  test('its handlers are offered', async () => {
    const system = new HandlerSystem();
    for (const name of ['shop', 'patient', 'approval', 'rows', 'bank', 'events']) await system.loadFromPath(join(root, 'out', `${name}.js`));
    assert.deepEqual(system.importFailures, []);
    assert.deepEqual(system.listHandlers(), [
      ...['bank.balance', 'bank.charge', 'patient.fetch', 'rows.analyze', 'rows.sum', 'rows.work', 'rows.work_simply'],
      ...['shop.approval', 'shop.approval_class', 'shop.charge', 'shop.load_cart', 'shop.ship'],
    ]);
  });

  test('its worker and its client', async () => {
    const env = { TASKERD_SOCKET: daemon.socket };
    await daemon.apply(join(root, 'templates', 'order.yaml'));
    const [executable, args] = command('out/app.js', false);
    const app = spawn(executable, args, { cwd: root, env: { ...process.env, ...env }, stdio: 'ignore' });
    const ended = new Promise((resolve) => app.on('close', resolve));
    const said = await runFile(root, 'out/client.js', env);
    assert.match(said, /task complete/);
    assert.match(said, /^0 were not created/m);
    process.kill(app.pid as number, 'SIGTERM');
    assert.equal(await within(ended, 'the end of the worker'), 0);
  });

  test('its tests', async () => {
    await runFile(join(root, 'out'), './shop.test.js', { TASKERD_PROGRAM: program }, true);
  });

  test('its porting of a file', async () => {
    const handlers = join(root, 'handlers');
    mkdirSync(handlers);
    writeFileSync(join(handlers, 'old.mjs'), "import { defineHandler } from '@tasker-systems/tasker';\nexport const Old = defineHandler('old', {}, () => ({}));\n");
    const line = /^    (grep -rl .*)$/m.exec(readme)?.[1] as string;
    assert.equal(spawnSync('sh', ['-c', line], { cwd: root }).status, 0);
    const system = new HandlerSystem();
    assert.equal(await system.loadFromPath(handlers), 1);
    assert.match(readFileSync(join(handlers, 'old.mjs'), 'utf8'), /from 'taskerd'/);
    const client = new AsyncTaskerClient({ socket: daemon.socket });
    assert.equal((await client.healthCheck()).healthy, true);
    await client.close();
  });
});
