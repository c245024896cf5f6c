# frozen_string_literal: true

# t.play as play.py has it.
require "taskerd"
include Taskerd::StepHandler::Functional

module Outcomes
  def self.decision(names) = { decision_point_outcome: { type: "create_steps", step_names: names } }

  def self.batches(name, count)
    cursors = (0...count).map { |k| { batch_id: format("%03d", k + 1), start_cursor: 10 * k, end_cursor: 10 * k + 10, batch_size: 10 } }
    { batch_processing_outcome: { type: "create_batches", worker_template_name: name, worker_count: count, total_items: 10 * count, cursor_configs: cursors } }
  end

  # The result that a word stands for; `names` are those of the template's steps.
  def self.of(word, names)
    kind, *args = word.split(":")
    case kind
    when "names" then decision(args[0].split(",").map { |no| names[no.to_i] })
    when "none" then { decision_point_outcome: { type: "no_branches" } }
    when "batches" then batches(names[args[0].to_i], args[1].to_i)
    when "nobatches" then { batch_processing_outcome: { type: "no_batches", worker_template_name: args[0] == "-1" ? nil : names[args[0].to_i] }.compact }
    when "bad" then { **decision(["nobody"]), **batches("nobody", 1) }
    else { said: word }
    end
  end
end

Play = step_handler("t.play") do |context:|
  File.open(ENV.fetch("TASKERD_TEST_LEDGER"), File::WRONLY | File::APPEND) { |f| f.syswrite("#{context.task_uuid} #{context.step_name} #{context.attempt} #{Process.pid}\n") }
  epoch = File.exist?(File.join(ENV.fetch("TASKERD_TEST_GATES"), "epoch-#{context.task_uuid}")) ? "1" : "0"
  words = context.get_input("do")[epoch][context.step_name] || ["ok"]
  word = words[[context.attempt, words.size].min - 1]
  raise Taskerd::Errors::RetryableError, "asked to fail" if word == "retry"
  raise Taskerd::Errors::RetryableError.new("asked to fail", retry_after: 0.02) if word == "delay"
  raise Taskerd::Errors::PermanentError, "asked to fail for good" if word == "perm"

  if word == "yield" && !context.has_checkpoint?
    next Taskerd::Types::StepHandlerCallResult.checkpoint_yield(cursor: 5, items_processed: 5, accumulated_results: { pid: Process.pid })
  end
  next Outcomes.of(word, context.get_input("names"))
end
