/** What every worker loads. The bundler puts it before each entry point, so that all share it as one file: each file costs a start a turn through the loader. */

import './events/registry.js';
import './worker.js';
