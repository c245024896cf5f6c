// DBOS Transact: a workflow of four steps. Client and worker are one process, as its documentation has it.
import { DBOS } from '@dbos-inc/dbos-sdk';
import { all, oneByOne, serve, timed, url } from './driver.mjs';

const WIDTH = 32;

const linear4 = DBOS.registerWorkflow(async () => {
  for (let i = 1; i <= 4; i++) await DBOS.runStep(async () => ({}), { name: `step_${i}` });
  return {};
}, { name: 'linear4' });

DBOS.setConfig({ name: 'bench', systemDatabaseUrl: url, systemDatabasePoolSize: WIDTH, logLevel: 'error' });
await DBOS.launch();
await serve({
  bulk: (n) => timed(4 * n, () => all(n, WIDTH, () => linear4())),
  serial: (n) => oneByOne(n, () => linear4()),
}, () => DBOS.shutdown());
