/** The signals of a worker's process belong to the worker: what a handler file wants at one of them must not keep it from draining, or end it before it has. */

import { log } from './log.js';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGUSR1'];

/** Call `listener` at these signals, and nothing else, whatever handlers do. */
export function ownSignals(listener: (signal: NodeJS.Signals) => void): void {
  const ours = (event: string | symbol): event is NodeJS.Signals => (SIGNALS as readonly (string | symbol)[]).includes(event);
  const told = new Set<string>();
  for (const signal of SIGNALS) {
    process.removeAllListeners(signal);
    process.on(signal, listener);
  }
  process.on('newListener', (event: string | symbol, other: (...args: any[]) => void) => { // eslint-disable-line @typescript-eslint/no-explicit-any
    if (!ours(event) || other === listener) return;
    queueMicrotask(() => process.off(event, other));
    if (!told.has(event)) log.warn(`a handler listens for ${event}: that is left out, the worker's own way of ending holds`);
    told.add(event);
  });
  process.on('removeListener', (event: string | symbol, removed: (...args: any[]) => void) => { // eslint-disable-line @typescript-eslint/no-explicit-any
    if (ours(event) && removed === listener) queueMicrotask(back);
  });
  const back = (): void => {
    for (const signal of SIGNALS) if (!process.listeners(signal).includes(listener)) process.on(signal, listener);
  };
  const { removeAllListeners } = process; // of which not every runtime tells listeners
  process.removeAllListeners = (event) => {
    removeAllListeners.call(process, event);
    back();
    return process;
  };
}
