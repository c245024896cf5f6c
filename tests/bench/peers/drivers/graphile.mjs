// Graphile Worker: plain jobs. Several of these processes share the work; the first one also adds the jobs.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker';
import pg from 'pg';
import { database, oneByOne, serve, timed, until } from './driver.mjs';

const PROCESSES = 2;
const CHUNK = 5000; // jobs of one addJobs
const logger = new Logger(() => () => {});
const pgPool = new pg.Pool({ ...database, max: 12 });

// As its page on performance has it, for many small jobs; and for latency, without batches.
const throughput = { worker: { concurrentJobs: 24, localQueue: { size: 500, refetchDelay: { durationMs: 10 } }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } };
const latency = { worker: { concurrentJobs: 4 } };

let onLast;
const taskList = {
  noop: async () => {},
  chain: async (payload, helpers) => { if (payload.left > 1) await helpers.addJob('chain', { left: payload.left - 1 }); },
};

const start = (preset) => run({ pgPool, taskList, logger, preset, noHandleSignals: true });

if (process.argv[2] === 'worker') {
  const runner = await start(throughput);
  process.send('up');
  process.on('message', async () => { await runner.stop(); process.exit(0); });
} else {
  await runMigrations({ pgPool, logger });
  const utils = await makeWorkerUtils({ pgPool, logger });
  const left = async () => (await pgPool.query('SELECT EXISTS (SELECT FROM graphile_worker._private_jobs) AS some')).rows[0].some;
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  const helper = () => new Promise((resolve) => {
    const child = fork(fileURLToPath(import.meta.url), ['worker']);
    child.once('message', () => resolve(child));
  });

  await serve({
    bulk: async (n) => {
      const others = await Promise.all(Array.from({ length: PROCESSES - 1 }, helper));
      const runner = await start(throughput);
      const answer = await timed(n, async () => {
        for (let i = 0; i < n; i += CHUNK)
          await utils.addJobs(Array.from({ length: Math.min(CHUNK, n - i) }, () => ({ identifier: 'noop', payload: {} })));
        await until(async () => { const some = await left(); if (some) await pause(10); return !some; });
      });
      await Promise.all([runner.stop(), ...others.map((child) => new Promise((resolve) => { child.once('exit', resolve); child.send('end'); }))]);
      return answer;
    },
    serial: async (n) => {
      const runner = await start(latency);
      runner.events.on('job:complete', ({ job, error }) => { if (!error && job.payload.left === 1) onLast?.(); });
      const answer = await oneByOne(n, async () => {
        const done = new Promise((resolve) => { onLast = resolve; });
        await utils.addJob('chain', { left: 4 });
        await done;
      });
      await runner.stop();
      return answer;
    },
  });
}
