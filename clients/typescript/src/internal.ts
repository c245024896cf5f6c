/** What the package's own tests look into. Not exported. */

export * from './codec.js';
export * from './index.js';
export { setLevels } from './log.js';
