import { defineHandler } from 'taskerd';

/** One more than the step before. */
export const TypeScriptStep = defineHandler('polyglot.typescript', {}, async ({ context }) => {
  const before = context.getDependencyResult(context.getConfig<string>('after') ?? '') as { n: number };
  return { n: before.n + 1, language: 'TypeScript', runtime: `Node ${process.versions.node}` };
});
