// t.play as play.py has it.
import { appendFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { PermanentError, RetryableError, StepHandlerResult, defineHandler } from 'taskerd';

const decision = (names: string[]) => ({ decision_point_outcome: { type: 'create_steps', step_names: names } });

function batches(name: string, count: number) {
  const cursors = Array.from({ length: count }, (_, k) => ({ batch_id: String(k + 1).padStart(3, '0'), start_cursor: 10 * k, end_cursor: 10 * k + 10, batch_size: 10 }));
  return { batch_processing_outcome: { type: 'create_batches', worker_template_name: name, worker_count: count, total_items: 10 * count, cursor_configs: cursors } };
}

/** The result that a word stands for; `names` are those of the template's steps. */
function outcome(word: string, names: string[]): Record<string, unknown> {
  const [kind, ...args] = word.split(':');
  switch (kind) {
    case 'names':
      return decision(args[0].split(',').map((no) => names[Number(no)]));
    case 'none':
      return { decision_point_outcome: { type: 'no_branches' } };
    case 'batches':
      return batches(names[Number(args[0])], Number(args[1]));
    case 'nobatches':
      return { batch_processing_outcome: { type: 'no_batches', ...(args[0] === '-1' ? {} : { worker_template_name: names[Number(args[0])] }) } };
    case 'bad':
      return { ...decision(['nobody']), ...batches('nobody', 1) };
    default:
      return { said: word };
  }
}

export const Play = defineHandler('t.play', {}, ({ context }) => {
  appendFileSync(process.env.TASKERD_TEST_LEDGER!, `${context.taskUuid} ${context.stepName} ${context.attempt} ${process.pid}\n`);
  const epoch = existsSync(join(process.env.TASKERD_TEST_GATES!, `epoch-${context.taskUuid}`)) ? '1' : '0';
  const input = context.inputData as { do: Record<string, Record<string, string[]>>; names: string[] };
  const words = input.do[epoch][context.stepName] ?? ['ok'];
  const word = words[Math.min(context.attempt, words.length) - 1];
  if (word === 'retry') throw new RetryableError('asked to fail');
  if (word === 'delay') throw new RetryableError('asked to fail', { retryAfter: 0.02 });
  if (word === 'perm') throw new PermanentError('asked to fail for good');
  if (word === 'yield' && !context.hasCheckpoint()) {
    return StepHandlerResult.success(
      { type: 'checkpoint_yield', cursor: 5, items_processed: 5, accumulated_results: { pid: process.pid } },
      { checkpoint_yield: true, batch_worker: true },
    );
  }
  return outcome(word, input.names);
});
