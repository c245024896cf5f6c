/** What the worker uses of its runtime, taken before any handler file is imported: one that replaces it for its tests, or by a polyfill, harms itself only. */

import { clearTimeout as forget, setTimeout as later } from 'node:timers';

export const stringify = JSON.stringify;
export const now: () => number = performance.now.bind(performance);
export { forget as clearTimeout, later as setTimeout };
