// What the drivers in JavaScript share. A driver reads commands, one a line, and answers each with a line of JSON:
//   bulk N    creates N units of work and sees all of them finished: {"seconds": S, "steps": how many durable steps that were}
//   serial N  one after the other, each created when the one before was seen finished: {"ms": [N times]}
// The end of its input ends it.
import readline from 'node:readline';

export const database = { host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE };
export const url = `postgresql://${database.user}@localhost/${database.database}?host=${encodeURIComponent(database.host)}`;

export const now = () => Number(process.hrtime.bigint()) / 1e6;

// `work` for each of 0..n-1, at most `width` at a time.
export async function all(n, width, work) {
  let next = 0;
  const lane = async () => { while (next < n) await work(next++); };
  await Promise.all(Array.from({ length: Math.min(width, n) }, lane));
}

export async function timed(steps, work) {
  const begin = now();
  await work();
  return { seconds: (now() - begin) / 1000, steps };
}

export async function oneByOne(n, work) {
  const ms = [];
  for (let i = 0; i < n; i++) {
    const begin = now();
    await work(i);
    ms.push(now() - begin);
  }
  return { ms };
}

export async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

export async function serve(commands, close) {
  process.stdout.write('{"ready": true}\n');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, n] = line.split(' ');
    process.stdout.write(JSON.stringify(await commands[name](Number(n))) + '\n');
  }
  await close?.();
  process.exit(0);
}
