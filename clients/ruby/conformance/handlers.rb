# frozen_string_literal: true

# The handlers of protocol/conformance/README.md.

# What the handlers share.
module Conf
  extend Taskerd::StepHandler::Functional

  module_function

  # A line in the ledger.
  def note(event, **more)
    line = JSON.generate({ event: event, **more, pid: Process.pid })
    File.open(ENV.fetch("CONFORMANCE_LEDGER"), File::WRONLY | File::APPEND) { |file| file.syswrite("#{line}\n") }
  end

  # A handler begins.
  def begin!(name, context, event = "begin")
    note(event, handler: name, step_uuid: context.step_uuid, attempt: context.attempt)
  end

  # The file of a gate.
  def gate(name)
    File.join(ENV.fetch("CONFORMANCE_GATES"), name)
  end

  # A block of (context, config) as the handler `name`.
  def handler(name, kind = :step_handler, **options)
    public_send(kind, name, **options) do |context:|
      begin!(name, context)
      yield context, context.step_config
    end
  end

  handler("conf.echo") do |context, config|
    { context: context.context, config: config, inputs: context.step_inputs, attempt: context.retry_count + 1, max_attempts: context.max_retries,
      results: context.dependency_results.keys.to_h { |name| [name, context.get_dependency_result(name)] },
      task_uuid: context.task_uuid, step_uuid: context.step_uuid }
  end

  step_handler("conf.nothing") { nil }

  handler("conf.fail") do |_, config|
    Taskerd::Types::StepHandlerCallResult.error(**config.to_h.transform_keys(&:to_sym).slice(:message, :error_type, :retryable, :error_code))
  end

  handler("conf.error_retryable") { |_, config| raise Taskerd::Errors::RetryableError, config["message"] }
  handler("conf.error_permanent") { |_, config| raise Taskerd::Errors::PermanentError.new(config["message"], error_code: config["error_code"]) }
  handler("conf.raise") { |_, config| raise ArgumentError, config["message"] }

  handler("conf.retry_after") do |context, config|
    raise Taskerd::Errors::RetryableError.new("later", retry_after: config["seconds"]) if context.attempt == 1

    { attempt: context.attempt }
  end

  handler("conf.flaky") do |context, config|
    raise ArgumentError, "not yet" if context.attempt <= config["failures"]

    { attempt: context.attempt }
  end

  handler("conf.wait") do |context, config|
    until File.exist?(gate(config["gate"]))
      context.raise_if_cancelled!
      sleep 0.01
    end
    { waited: true }
  end

  handler("conf.open") do |_, config|
    File.write(gate(config["gate"]), "")
    { opened: config["gate"] }
  end

  handler("conf.sleep_until_cancelled") do |context, _|
    nil while context.sleep(60)
    begin!("conf.sleep_until_cancelled", context, "cancelled")
    {}
  end

  handler("conf.hang") { |_, _| loop { sleep 3600 } }

  handler("conf.save") do |context, config|
    start = context.checkpoint_cursor || 0
    (start + config["every"]).step(config["total"] - 1, config["every"]) do |upto|
      context.save_checkpoint(upto, items_processed: upto)
      raise ArgumentError, "after the first checkpoint" if context.attempt == 1
    end
    { items: config["total"], from: start }
  end

  handler("conf.decision", :decision_handler) do |_, config|
    (config["steps"] || []).empty? ? Decision.skip("none") : Decision.route(config["steps"])
  end

  handler("conf.analyze", :batch_analyzer, worker_template: "work") do |_, config|
    BatchConfig.new(total_items: config["total"], batch_size: config["size"])
  end

  handler("conf.event") { |_, config| { amount: config["amount"] } }

  handler("conf.log") do |_, config|
    Taskerd.logger.public_send(config["level"], config["message"])
    { logged: true }
  end

  handler("conf.progress") do |context, config|
    context.heartbeat({ n: config["n"] })
    { n: config["n"] }
  end

  handler("conf.sizes") { |context, _| context.dependency_results.keys.to_h { |name| [name, context.get_dependency_field(name, "blob").size] } }
  handler("conf.uuids") { |context, config| config["names"].to_h { |name| [name, context.dependency_results[name][:step_uuid]] } }
  handler("conf.unserialisable") { |_, _| { value: method(:note) } }
  handler("conf.nan") { |_, _| { value: Float::NAN } }
  handler("conf.infinite") { |_, _| { value: Float::INFINITY } }
  handler("conf.nul") { |_, _| { value: "a\0b" } }
  handler("conf.broken_text") do |_, config|
    text = "broken: \xED\xA0\x80"
    raise ArgumentError, text if config["in"] == "error"
    next({ value: text }) unless config["in"] == "log"

    Taskerd.logger.warn(text)
    { logged: true }
  end
  handler("conf.cyclic") { |_, _| {}.tap { |made| made[:self] = made } }
  handler("conf.deep") { |_, config| { value: (1..config["depth"]).inject(nil) { |made, _| [made].compact } } }
  handler("conf.wide") { |_, _| { value: 9_007_199_254_740_993 } }
  handler("conf.huge") { |_, config| { blob: "x" * config["bytes"] } }

  handler("conf.crash") do |context, config|
    if context.attempt <= config["attempts"]
      Process.setrlimit(:CORE, 0)
      Process.kill("SEGV", Process.pid)
      sleep 60
    end
    { survived: true }
  end

  handler("conf.exit") do |context, config|
    exit!(3) if context.attempt <= config["attempts"]
    { survived: true }
  end

  handler("conf.garbage_stdout") do |_, config|
    [$stdout, $stderr].each { |out| out.syswrite(Random.bytes(config["bytes"])) }
    { printed: config["bytes"] }
  end

  # Handlers that are classes.
  class Value < Taskerd::StepHandler::Base
    def handler_name
      "conf.value"
    end

    def call(context)
      Conf.begin!(handler_name, context)
      Taskerd::Types::StepHandlerCallResult.success(result: config["value"])
    end
  end

  class Checkpoint < Taskerd::StepHandler::Batchable
    def handler_name
      "conf.checkpoint"
    end

    def call(context)
      Conf.begin!(handler_name, context)
      total, every = config.values_at("total", "every")
      upto = [(context.checkpoint_cursor || 0) + every, total].min
      visits = ((context.accumulated_results || {})["visits"] || 0) + 1
      return checkpoint_yield(cursor: upto, items_processed: upto, accumulated_results: { visits: visits }) if upto < total

      success(result: { items: total, visits: visits })
    end
  end

  class Batch < Taskerd::StepHandler::Batchable
    def handler_name
      "conf.batch"
    end

    def call(context)
      Conf.begin!(handler_name, context)
      batch = get_batch_context(context)
      handle_no_op_worker(batch) ||
        success(result: { items_processed: batch.end_cursor - batch.start_cursor, start: batch.start_cursor, end: batch.end_cursor })
    end
  end

  class Aggregate < Taskerd::StepHandler::Batchable
    def handler_name
      "conf.aggregate"
    end

    def call(context)
      Conf.begin!(handler_name, context)
      scenario = detect_aggregation_scenario(context.dependency_results, config["analyze"], config["prefix"])
      aggregate_batch_worker_results(scenario, zero_metrics: { total: 0 }) do |found|
        { total: found.values.sum { |result| result["items_processed"] } }
      end
    end
  end

  class Methods < Taskerd::StepHandler::Base
    def handler_name
      "conf.methods"
    end

    def call(context)
      Conf.begin!(handler_name, context)
      { method: "call" }
    end

    # The method a template may ask for.
    def other(context)
      Conf.begin!(handler_name, context)
      { method: "other" }
    end
  end

  class Publisher < Taskerd::DomainEvents::BasePublisher
    def name
      "conf.publisher"
    end

    def should_publish?(step_result, _declaration, _context = nil)
      step_result[:result][:amount] >= 0
    end

    def transform_payload(step_result, _declaration, _context = nil)
      raise "13 brings bad luck" if step_result[:result][:amount] == 13

      { amount: step_result[:result][:amount], by: name }
    end

    def additional_metadata(*)
      { note: "conf" }
    end
  end
end

Taskerd::DomainEvents::PublisherRegistry.instance.register(Conf::Publisher)
