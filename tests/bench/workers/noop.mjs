// The handler of the TypeScript client's workers in a benchmark: it does nothing, so that what a run takes is the engine's and the client's time.

export class Noop {
  static handlerName = 'bench.noop';

  async call() {
    return {};
  }
}
