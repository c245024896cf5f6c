// Restate: a handler of four journaled steps in a process of its own, behind a restate-server of this driver's. The driver sends the requests.
import { fork, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as restate from '@restatedev/restate-sdk';
import { all, oneByOne, serve, timed } from './driver.mjs';

const WIDTH = 128; // requests under way

const linear4 = restate.service({
  name: 'bench',
  handlers: {
    linear4: async (ctx) => {
      for (let i = 1; i <= 4; i++) await ctx.run(`step_${i}`, () => ({}));
      return {};
    },
  },
});

if (process.argv[2] === 'service') {
  await restate.serve({ services: [linear4], port: Number(process.argv[3]) });
  process.send('up');
  process.on('disconnect', () => process.exit(0));
} else {
  const freePort = () => new Promise((resolve) => {
    const s = net.createServer().listen(0, '127.0.0.1', () => { const { port } = s.address(); s.close(() => resolve(port)); });
  });
  const [service, ingress, admin, node] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const agent = new http.Agent({ keepAlive: true, maxSockets: WIDTH });
  const post = (port, where, body) => new Promise((resolve, reject) => {
    const r = http.request({ agent, host: '127.0.0.1', port, path: where, method: 'POST', headers: { 'content-type': 'application/json' } }, (answer) => {
      let text = '';
      answer.on('data', (data) => { text += data; });
      answer.on('end', () => (answer.statusCode < 300 ? resolve(text) : reject(new Error(`${where}: ${answer.statusCode} ${text}`))));
    });
    r.on('error', reject);
    r.end(JSON.stringify(body));
  });
  const patiently = async (work) => {
    for (let i = 0; ; i++) {
      try { return await work(); } catch (e) { if (i === 300) throw e; await new Promise((resolve) => setTimeout(resolve, 100)); }
    }
  };

  const child = fork(fileURLToPath(import.meta.url), ['service', String(service)], { stdio: ['ignore', 2, 2, 'ipc'] });
  await new Promise((resolve) => child.once('message', resolve));
  const program = path.join(path.dirname(fileURLToPath(import.meta.url)), `node_modules/@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`);
  const log = fs.openSync(path.join(process.env.BENCH_DIR, 'restate.log'), 'a');
  const server = spawn('setpriv', ['--pdeathsig', 'TERM', program, '--no-logo', '--listen-mode', 'tcp'], { // it ends with this driver, however that ends
    stdio: ['ignore', log, log],
    env: {
      ...process.env, RESTATE_BASE_DIR: path.join(process.env.BENCH_DIR, 'restate'), RESTATE_NODE_NAME: 'bench', RESTATE_DISABLE_TELEMETRY: 'true', RESTATE_DEFAULT_NUM_PARTITIONS: '4', RESTATE_LOG_FILTER: 'warn',
      RESTATE_BIND_ADDRESS: `127.0.0.1:${node}`, RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${node}/`,
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`, RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
    },
  });
  server.once('exit', (code) => { console.error(`restate-server ended with ${code}`); process.exit(1); });
  await patiently(() => post(admin, '/deployments', { uri: `http://127.0.0.1:${service}` }));
  const run = () => post(ingress, '/bench/linear4', {});
  await patiently(run);

  await serve({
    bulk: (n) => timed(4 * n, () => all(n, WIDTH, run)),
    serial: (n) => oneByOne(n, run),
  }, () => new Promise((resolve) => {
    server.removeAllListeners('exit');
    server.once('exit', resolve);
    server.kill('SIGTERM');
    setTimeout(() => server.kill('SIGKILL'), 5000).unref();
  }));
}
