// Absurd: a task of four steps. `absurdctl init` has made its schema.
import { Absurd } from 'absurd-sdk';
import pg from 'pg';
import { all, database, oneByOne, serve, timed, until } from './driver.mjs';

const WIDTH = 32;
const POLL_S = 0.01; // of the worker, while it has nothing to do; 0.25 unless said

const pool = new pg.Pool({ ...database, max: WIDTH });
const app = new Absurd({ db: pool });
await app.createQueue();
app.registerTask({ name: 'linear4' }, async (params, ctx) => {
  for (let i = 1; i <= 4; i++) await ctx.step(`step_${i}`, async () => ({}));
  return {};
});
await app.startWorker({ concurrency: WIDTH, pollInterval: POLL_S });

const unfinished = async () => (await pool.query(`SELECT count(*) AS n FROM absurd.t_default WHERE state <> 'completed'`)).rows[0].n;
const seenFinished = async (id) => until(async () => (await app.fetchTaskResult(id)).state === 'completed');

await serve({
  bulk: (n) => timed(4 * n, async () => {
    await all(n, WIDTH, () => app.spawn('linear4', {}));
    await until(async () => {
      if (await unfinished() === '0') return true;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return false;
    });
  }),
  serial: (n) => oneByOne(n, async () => seenFinished((await app.spawn('linear4', {})).taskID)),
}, () => app.close());
