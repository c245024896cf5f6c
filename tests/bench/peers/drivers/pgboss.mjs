// pg-boss: plain jobs, fetched and completed in batches.
import { PgBoss } from 'pg-boss';
import { oneByOne, serve, timed, until, url } from './driver.mjs';

const CHUNK = 5000; // jobs of one insert
const BATCH = 500;
const FETCHERS = 4;

const boss = new PgBoss({ connectionString: url, max: 12, useListenNotify: true, schedule: false });
boss.on('error', (e) => console.error(e));
await boss.start();
await boss.createQueue('bulk', { retryLimit: 3 });
await boss.createQueue('chain', { retryLimit: 3, notify: true });

const sql = (text) => boss.getDb().executeSql(text);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

await serve({
  // work() polls no faster than twice a second, so a queue is drained the way its documentation has it for those who want more: fetch and complete.
  bulk: (n) => timed(n, async () => {
    let created = 0, done = 0;
    const create = async () => {
      const some = Math.min(CHUNK, n - created);
      created += some;
      await boss.insert('bulk', Array.from({ length: some }, () => ({ data: {} })));
    };
    const createRest = async () => { while (created < n) await create(); };
    const drain = async () => {
      while (done < n) {
        const jobs = await boss.fetch('bulk', { batchSize: BATCH });
        if (jobs.length === 0) { await pause(2); continue; }
        await boss.complete('bulk', jobs.map((job) => job.id));
        done += jobs.length;
      }
    };
    await create();
    await sql('ANALYZE pgboss.job_common'); // without statistics its query for a batch takes a plan a hundred times slower
    await Promise.all([createRest(), ...Array.from({ length: FETCHERS }, drain)]);
  }),
  serial: async (n) => {
    const worker = await boss.work('chain', { pollingIntervalSeconds: 0.5 }, async ([job]) => {
      if (job.data.left > 1) await boss.send('chain', { left: job.data.left - 1, last: job.data.last }, job.data.left === 2 ? { id: job.data.last } : {});
    });
    const answer = await oneByOne(n, async () => {
      const last = crypto.randomUUID();
      await boss.send('chain', { left: 4, last });
      await until(async () => (await boss.getJobById('chain', last))?.state === 'completed');
    });
    await boss.offWork('chain');
    return answer;
  },
}, () => boss.stop({ graceful: false }));
