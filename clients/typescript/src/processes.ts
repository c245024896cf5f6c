/** Several worker processes below one that looks after them. */

import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { log } from './log.js';
import { Backoff } from './transport.js';

/** Set in the environment of the processes below. */
export const SUPERVISED = 'TASKERD_SUPERVISED';
/** A process whose event loop says nothing for so long is stuck in a handler. */
const STUCK_MS = 60_000;
const ALIVE_MS = 1000;
const GOOD_MS = 5000;

/** A place for a worker process, and the process that is in it. */
interface Place {
  number: number;
  child: ChildProcess | undefined;
  /** True once the process has said that it could start. */
  ready: boolean;
  born: number;
  heard: number;
  backoff: Backoff;
}

/** Runs several copies of this program until a signal ends them. */
export class Supervisor {
  private readonly places: Place[];
  private signals = 0;
  private status = 0;
  private done: (status: number) => void = () => undefined;

  constructor(
    count: number,
    private readonly args: readonly string[],
    private readonly name: string,
    private readonly stuckMs = STUCK_MS,
  ) {
    this.places = Array.from({ length: count }, (_, i) => ({ number: i + 1, child: undefined, ready: false, born: 0, heard: 0, backoff: new Backoff(10_000) }));
  }

  /** Fulfilled with the exit status: 0 if the last process in each place has delivered everything. */
  async run(): Promise<number> {
    process.on('SIGTERM', () => this.onSignal(143));
    process.on('SIGINT', () => this.onSignal(130));
    process.on('SIGUSR1', () => this.signalAll('SIGUSR1'));
    const finished = new Promise<number>((resolve) => (this.done = resolve));
    const watch = setInterval(() => this.lookForStuck(), ALIVE_MS);
    for (const place of this.places) this.start(place);
    const status = await finished;
    clearInterval(watch);
    return status;
  }

  private start(place: Place): void {
    const { number } = place;
    const child = fork(fileURLToPath(new URL('./cli.js', import.meta.url)), [...this.args, '--name', `${this.name}.${number}`], {
      env: { ...process.env, [SUPERVISED]: '1' },
      detached: true, // what a terminal sends reaches it by this process, once
    });
    place.child = child;
    place.ready = false;
    place.born = place.heard = performance.now();
    child.on('message', (message) => {
      place.heard = performance.now();
      if (message === 'ready') place.ready = true;
    });
    child.on('exit', (code, signal) => this.onExit(place, code, signal));
    child.on('error', (error) => log.error(`worker process ${number}: ${error.message}`));
  }

  private onSignal(status: number): void {
    this.signals += 1;
    if (this.signals > 1) this.status = status;
    this.signalAll(this.signals === 1 ? 'SIGTERM' : 'SIGKILL');
    this.endIfEmpty();
  }

  private signalAll(signal: NodeJS.Signals): void {
    for (const { child } of this.places) if (child?.pid !== undefined) process.kill(child.pid, signal);
  }

  private lookForStuck(): void {
    for (const { child, number, heard, ready } of this.places) {
      if (!child || !ready || performance.now() - heard < this.stuckMs) continue;
      log.error(`worker process ${number} is stuck: a handler has kept its event loop for ${this.stuckMs / 1000} s; it is killed`);
      child.kill('SIGKILL');
    }
  }

  private onExit(place: Place, code: number | null, signal: NodeJS.Signals | null): void {
    place.child = undefined;
    if (this.signals > 0) {
      if (code !== 0 && this.status === 0) this.status = 1;
    } else if (!place.ready && code !== null && code > 0) {
      log.error(`worker process ${place.number} could not start`); // it said why; another one would say the same
      this.status = code;
      this.onSignal(code);
    } else this.replace(place, code, signal);
    this.endIfEmpty();
  }

  private replace(place: Place, code: number | null, signal: NodeJS.Signals | null): void {
    if (performance.now() - place.born >= GOOD_MS) place.backoff.reset();
    const delay = place.backoff.next();
    const how = code === null ? `by ${signal}` : `with status ${code}`;
    log.error(`worker process ${place.number} ended ${how}; another one starts in ${(delay / 1000).toFixed(1)} s`);
    setTimeout(() => {
      if (this.signals === 0) this.start(place);
    }, delay);
  }

  private endIfEmpty(): void {
    if (this.signals > 0 && this.places.every(({ child }) => child === undefined)) this.done(this.status);
  }
}

/** In a process below: tell the one above that it runs, and drain when that one is gone. */
export function underSupervision(drain: () => void): void {
  if (!process.env[SUPERVISED] || !process.send) return;
  const tell = (message: string): void => {
    if (process.connected) process.send?.(message);
  };
  tell('ready');
  setInterval(() => tell('alive'), ALIVE_MS).unref();
  process.on('disconnect', drain);
}
