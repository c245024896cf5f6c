# frozen_string_literal: true

require_relative "support"
require "ostruct"
require "taskerd/testing"

# What handlers return and raise, and what becomes of it. The handlers are files as applications have them.
class TestHandlers < Minitest::Test
  include Taskerd::Testing

  FILES = File.expand_path("handlers", __dir__)
  REGISTRY = Taskerd::Registry::HandlerRegistry.new.tap { |registry| registry.discover_handlers(FILES) }

  def run_named(name, context = {}, **more)
    run_handler(REGISTRY.resolver_chain.explicit.entry(name), context, **more)
  end

  def base(&block)
    Class.new(Taskerd::StepHandler::Base) { define_method(:call, &block) }
  end

  def block(**options, &block)
    Taskerd::StepHandler::Functional.step_handler("b", **options, &block)
  end

  # -- files of handlers -------------------------------------------------------------------------

  def test_the_names_that_files_of_handlers_offer
    assert_equal [], REGISTRY.load_failures.map(&:to_s)
    names = REGISTRY.offered
    %w[Shop::StepHandlers::ValidateCartHandler Taskerd::BatchProcessing::StepHandlers::WorkRows blocks.load_cart blocks.approve LoadCart].each do |name|
      assert_includes names, name
    end
  end

  def test_a_class_with_its_own_constants_and_helpers
    items = [{ price: 2, quantity: 3 }, { price: 1 }]
    result = run_named("Shop::StepHandlers::ValidateCartHandler", { items: items }, config: { currency: "EUR" })
    assert_equal [7, "EUR"], [result.result[:total], result.result[:currency]]
    assert_equal({ operation: "validate_cart", item_count: 2 }, result.metadata)
    empty = run_named("Shop::StepHandlers::ValidateCartHandler", { items: [] })
    assert_equal ["PermanentError", "EMPTY_CART", false, "Cart is empty"], [empty.error_type, empty.error_code, empty.retryable, empty.message]
    many = run_named("Shop::StepHandlers::ValidateCartHandler", { items: [{ price: 1 }] * 4 })
    assert_equal [false, "TOO_MANY", { field: "items", count: 4 }], [many.retryable, many.error_code, many.metadata[:context]]
  end

  def test_a_constructor_with_config_and_the_method_of_a_template
    charged = run_named("Shop::StepHandlers::ChargeHandler", {}, dependencies: { validate_cart: { total: 7 } }, config: { gateway: "g" }, attempt: 2, step: "charge")
    assert_equal({ charged: 7, gateway: "g", attempt: 2, step: "charge", total_again: 7 }, charged.result)
    none = run_named("Shop::StepHandlers::ChargeHandler")
    assert_equal ["UnexpectedError", "NO_CART", false], [none.error_type, none.error_code, none.retryable]
    busy = run_named("Shop::StepHandlers::ChargeHandler", { busy: true }, dependencies: { validate_cart: { total: 7 } })
    assert_equal ["RetryableError", true, 30, { gateway: "test" }], [busy.error_type, busy.retryable, busy.retry_after, busy.metadata[:context]]
    assert_equal({ refunded: 5 }, run_named("Shop::StepHandlers::ChargeHandler", { amount: 5 }, method: "refund").result)
    missing = run_named("Shop::StepHandlers::ChargeHandler", {}, method: "gone")
    assert_equal ["handler_not_found", false], [missing.error_type, missing.retryable]
  end

  def test_batches_of_classes
    space = "Taskerd::BatchProcessing::StepHandlers"
    result = run_named("#{space}::CountRows", { rows: 5 }).result
    outcome = result["batch_processing_outcome"]
    assert_equal ["create_batches", "work", 2, 5], outcome.values_at(:type, :worker_template_name, :worker_count, :total_items)
    assert_equal [["001", 0, 3, 3, "part 0"], ["002", 3, 5, 2, "part 1"]],
                 (outcome[:cursor_configs].map { |c| c.values_at("batch_id", "start_cursor", "end_cursor", "batch_size", "label") })
    assert_equal "test", result[:source]
    assert_equal "no_batches", run_named("#{space}::CountRows", { rows: 0 }).result.dig(:batch_processing_outcome, :type)
    inputs = { cursor: { batch_id: "001", start_cursor: 0, end_cursor: 5, batch_size: 5 }, batch_metadata: {}, is_no_op: false }
    first = run_named("#{space}::WorkRows", {}, inputs: inputs)
    assert first.checkpoint?
    assert_equal({ type: "checkpoint_yield", cursor: 2, items_processed: 2, accumulated_results: { "seen" => 2 } }, first.result)
    done = run_named("#{space}::WorkRows", {}, inputs: inputs, to_the_end: true).result
    assert_equal [5, 5, 0, "001"], done.values_at(:items_processed, :last_cursor, :items_failed, :batch_id)
    nothing = run_named("#{space}::WorkRows", {}, inputs: { cursor: { batch_id: "000", start_cursor: 0, end_cursor: 0 }, is_no_op: true })
    assert_equal({ "batch_id" => "000", "no_op" => true, "processed_count" => 0 }, nothing.result.to_h)
    bad = run_named("#{space}::WorkRows", {}, inputs: { cursor: { start_cursor: 4, end_cursor: 1 } })
    assert_includes bad.message, "start_cursor 4 is behind end_cursor 1"
    sum = run_named("#{space}::SumRows", {}, dependencies: { count: {}, work_001: { items_processed: 3 }, work_002: { items_processed: 2 } })
    assert_equal({ "total" => 5, "worker_count" => 2, "scenario" => "with_batches" }, sum.result.to_h)
    none = run_named("#{space}::SumRows", {}, dependencies: { count: { batch_processing_outcome: { type: "no_batches" } }, work_000: { no_op: true } })
    assert_equal({ "worker_count" => 0, "scenario" => "no_batches", "total" => 0 }, none.result.to_h)
  end

  def test_blocks
    loaded = run_named("blocks.load_cart", { cart_id: 7, items: [{ price: 3 }, { price: 4 }] })
    assert_equal [7, 7], loaded.result.values_at(:cart_id, :sum)
    assert_equal({ empty: true }, run_named("blocks.load_cart", { cart_id: 7 }).result)
    assert_equal "NO_CART", run_named("blocks.load_cart").error_code
    charged = run_named("blocks.charge", { token: "t" }, dependencies: { load_cart: { sum: 7 } }, attempt: 3)
    assert_equal [{ sum: 7, token: "t", twice: 14 }, { n: 2 }], [charged.result, charged.metadata]
    routed = run_named("blocks.approve", { amount: 500 }).result
    assert_equal({ "type" => "create_steps", "step_names" => %w[manager finance] }, routed["decision_point_outcome"].to_h)
    assert_equal({ "amount" => 500 }, routed["routing_context"].to_h)
    skipped = run_named("blocks.approve", { amount: 5 }).result
    assert_equal ["no_branches", "small"], [skipped.dig(:decision_point_outcome, :type), skipped[:reason]]
    analyzed = run_named("blocks.analyze", { rows: 10 }).result
    assert_equal [3, "test"], [analyzed.dig("batch_processing_outcome", "worker_count"), analyzed["source"]]
    assert_equal "no_batches", run_named("blocks.analyze", { rows: 0 }).result.dig(:batch_processing_outcome, :type)
    worked = run_named("blocks.work", {}, inputs: { cursor: { batch_id: "002", start_cursor: 4, end_cursor: 8, batch_size: 4 } })
    assert_equal({ batch_id: "002", items_processed: 4 }, worked.result)
  end

  # -- what handlers return ----------------------------------------------------------------------

  def test_a_handler_that_exits
    left, said = [-> { exit 3 }, -> { abort "no settings" }].map { |how| run_handler(base { |_| how.call }) }
    assert_equal ["exit was called with status 3", true], [left.message, left.retryable]
    assert_equal "exit was called with status 1: no settings", said.message
  end

  def test_what_a_class_may_return
    success = Taskerd::Types::StepHandlerCallResult::Success
    { { success: true, result: { a: 1 } } => { a: 1 }, { "success" => true, "x" => 1 } => { "success" => true, "x" => 1 }, { a: 1 } => { a: 1 }, nil => nil, 7 => 7,
      [1] => [1], "text" => "text" }.each do |value, wanted|
      result = run_handler(base { |_| value })
      assert_kind_of success, result
      wanted.nil? ? assert_nil(result.result) : assert_equal(wanted, result.result)
    end
    wrapped = run_handler(base { |_| 7 })
    assert_equal({ wrapped: true, original_type: "Integer" }, wrapped.metadata)
    failed = run_handler(base { |_| { success: false, message: "no", retryable: true } })
    assert_equal ["UnexpectedError", "no", true], [failed.error_type, failed.message, failed.retryable]
    assert_equal ["Unknown error", false], run_handler(base { |_| { success: false } }).then { |r| [r.message, r.retryable] }
    lenient = run_handler(base { |_| Taskerd::Types::StepHandlerCallResult.failure(error_message: "m", error_type: "AnyType", retryable: false) })
    assert_equal %w[AnyType m], [lenient.error_type, lenient.message]
  end

  def test_what_a_block_may_return
    point = Struct.new(:x)
    { nil => {}, { a: 1 } => { a: 1 }, 7 => { result: 7 }, "s" => { result: "s" }, [1, 2] => { result: [1, 2] }, point.new(1) => { x: 1 },
      OpenStruct.new(a: 1) => { a: 1 } }.each { |value, wanted| assert_equal wanted, run_handler(block { value }).result }
    assert_equal 5, run_handler(block { |context:| Taskerd::Types::StepHandlerCallResult.success(result: context.get_input(:n)) }, { n: 5 }).result
  end

  def test_a_block_takes_what_it_names
    assert_equal({ got: 1 }, run_handler(block(inputs: [:a]) { |a:| { got: a } }, { a: 1 }).result)
    assert_equal({ keys: %i[a context] }, run_handler(block(inputs: [:a]) { |**all| { keys: all.keys.sort } }, { a: 1 }).result)
    assert_equal({ got: 1 }, run_handler(block { |context| { got: context.get_input(:a) } }, { a: 1 }).result)
    assert_equal({ left: true }, run_handler(leaving_early).result)
    missing = run_handler(block(inputs: []) { |gone:, context:| [gone, context] })
    assert_equal ["UnexpectedError", true], [missing.error_type, missing.retryable]
  end

  def leaving_early
    block { |context:| return { left: true } if context } # rubocop:disable Lint/NonLocalExitFromIterator -- what the test is about
  end

  def test_models
    model = Struct.new(:name, :age, keyword_init: true)
    checked = Class.new do
      attr_reader :name

      def self.attribute_names
        [:name]
      end

      def initialize(name: "nobody")
        @name = name
      end

      def validate!
        raise Taskerd::Errors::PermanentError, "bad name" if @name == "bad"
      end
    end
    typed = block(depends_on: { person: ["load", model] }) { |person:| { age: person.respond_to?(:age) ? person.age : person } }
    assert_equal({ age: 7 }, run_handler(typed, {}, dependencies: { load: { name: "x", age: 7, more: 1 } }).result)
    assert_equal({ age: 5 }, run_handler(typed, {}, dependencies: { load: 5 }).result)
    named = block(inputs: checked) { |inputs:| { name: inputs.name } }
    assert_equal({ name: "nobody" }, run_handler(named, { other: 1 }).result)
    assert_equal "bad name", run_handler(named, { name: "bad" }).message
  end

  def test_definitions_that_are_wrong
    dsl = Taskerd::StepHandler::Functional
    assert_raises(ArgumentError) { dsl.step_handler("") { nil } }
    assert_raises(ArgumentError) { dsl.step_handler("a") }
    assert_raises(ArgumentError) { dsl.step_handler("a", depends_on: { x: 7 }) { nil } }
  end

  def test_methods_of_blocks_in_a_module
    inside = Module.new { extend Taskerd::StepHandler::Functional }
    inside.module_eval "Made = decision_handler('m') { |context:| Decision.route('a') }", __FILE__, __LINE__
    assert_equal ["a"], run_handler(inside::Made).result.dig(:decision_point_outcome, :step_names)
  end

  # -- what handlers raise -----------------------------------------------------------------------

  def test_what_an_exception_means
    errors = Taskerd::Errors
    {
      errors::PermanentError.new("m", error_code: "C") => ["PermanentError", false, "C"], errors::NotFoundError.new("m", resource_type: "x") => ["PermanentError", false, nil],
      errors::RetryableError.new("m") => ["RetryableError", true, nil], errors::NetworkError.new("m", status_code: 502) => ["RetryableError", true, nil],
      errors::TimeoutError.new("m", timeout_duration: 3) => ["RetryableError", true, nil], errors::ConfigurationError.new("m") => ["UnexpectedError", false, nil],
      errors::DatabaseError.new("m") => ["UnexpectedError", false, nil], errors::Error.new("m") => ["UnexpectedError", true, nil],
      ArgumentError.new("m") => ["UnexpectedError", true, nil], NotImplementedError.new("m") => ["UnexpectedError", true, nil]
    }.each do |error, wanted|
      [base { |_| raise error }, block { raise error }].each do |handler|
        result = run_handler(handler)
        assert_equal [*wanted, "m"], [result.error_type, result.retryable, result.error_code, result.message], error.class
      end
    end
    bare = run_handler(base { |_| raise Taskerd::PermanentError })
    assert_equal "Taskerd::Errors::PermanentError", bare.message
  end

  def test_an_unexpected_error_says_where
    result = run_handler(base { |_| raise "boom" })
    assert_equal "RuntimeError", result.metadata[:exception_class]
    assert_includes result.backtrace.join("\n"), File.basename(__FILE__)
  end

  def test_results_that_cannot_be_sent
    cycle = {}
    cycle[:a] = cycle
    { { a: Float::NAN } => "result.a", cycle => "nested too deeply", { a: Object.new } => "result.a", { a: "x\0" } => "result.a", { f: -> {} } => "result.f" }.each do |value, place|
      result = run_handler(base { |_| { success: true, result: value } })
      assert_equal ["serialization_error", false], [result.error_type, result.retryable]
      assert_includes result.message, place
    end
    huge = run_handler(base { |_| { a: "x" * (5 << 20) } })
    assert_equal "result_too_large", huge.error_type
    angry = Class.new { def to_h = raise("never") }.new
    assert_equal "serialization_error", run_handler(base { |_| { a: angry } }).error_type
  end

  def test_a_failure_keeps_its_message_whatever_goes_with_it
    result = run_handler(base { |_| failure(message: "m\0\xff", metadata: { bad: Object.new, nan: Float::NAN }) })
    runner = Taskerd::Worker::Runner.new(REGISTRY)
    item = MessagePack.unpack(runner.encode(make_context, result, 1.0))
    assert_equal "m??", item.dig("error", "message")
    assert_includes item.dig("metadata", "bad"), "#<Object"
  end

  def test_retry_after_reaches_the_daemon
    runner = Taskerd::Worker::Runner.new(REGISTRY)
    sent = ->(handler) { MessagePack.unpack(runner.encode(make_context, run_handler(handler), 1.0))["retry_after_ms"] }
    assert_equal 30_000, sent.(base { |_| raise Taskerd::Errors::RetryableError.new("m", retry_after: 30) })
    assert_equal 1_500, sent.(base { |_| failure(message: "m", retryable: true, metadata: { retry_after: 1.5 }) })
    assert_equal 120_000, sent.(base { |_| failure(message: "m", retryable: true, retry_after: 2.minutes) })
    assert_nil sent.(base { |_| failure(message: "m", retryable: false, retry_after: 3) })
    assert_nil sent.(base { |_| failure(message: "m", retryable: true, retry_after: "soon") })
  end

  def test_the_methods_of_a_handler
    handler = REGISTRY.resolve("Shop::StepHandlers::ValidateCartHandler")
    assert_equal ["validate_cart_handler", "2.1.0", ["process"]], [handler.handler_name, handler.version, handler.capabilities]
    assert_raises(ArgumentError) { handler.success }
    assert handler.validate_config({})
    assert_equal "Shop::StepHandlers::ValidateCartHandler", handler.metadata[:handler_class]
  end

  def test_older_signatures
    three = Class.new(Taskerd::StepHandler::Base) { def call(task, sequence, step) = { n: task.context["n"], dep: sequence.get_results("a"), name: step.name } }
    assert_equal({ n: 1, dep: 2, name: "step" }, run_handler(three, { n: 1 }, dependencies: { a: 2 }).result)
    bare = Class.new(Taskerd::StepHandler::Base) do
      def initialize; end
      def call(_context) = { ok: true }
    end
    assert_equal({ ok: true }, run_handler(bare).result)
    [proc { |c = {}| @seen = c }, proc { |config: {}, **| @seen = config }, proc { @seen = nil }].each do |constructor|
      kind = Class.new(Taskerd::StepHandler::Base) do
        define_method(:initialize, &constructor)
        def call(_context) = { seen: @seen && [@seen[:a], @seen["a"]], config: config && config[:a] }
      end
      result = run_handler(kind, {}, config: { a: 1 }).result
      assert_equal 1, result[:config] || result[:seen].first
      assert_includes [nil, [1, 1]], result[:seen]
    end
  end

  def test_decisions_of_classes
    decide = ->(&block) { run_handler(Class.new(Taskerd::StepHandler::Decision) { define_method(:call, &block) }) }
    result = decide.call { |_| decision_success(steps: "a", result_data: { why: 1 }) }
    assert_equal [{ "type" => "create_steps", "step_names" => ["a"] }, 1], [result.result[:decision_point_outcome].to_h, result.result["why"]]
    assert_equal ["create_steps", 1, true], result.metadata.values_at(:outcome_type, :branches_created, :decision_point)
    assert_equal "INVALID_DECISION_OUTCOME", decide.call { |_| decision_success(steps: []) }.error_code
    assert_equal "INVALID_DECISION_OUTCOME", decide.call { |_| decision_success(steps: [1]) }.error_code
    assert_equal "no_branches", decide.call { |_| skip_branches(result_data: { reason: "x" }) }.result.dig("decision_point_outcome", "type")
    custom = decide.call { |_| decision_with_custom_outcome(outcome: { type: "create_steps", step_names: ["z"] }) }
    assert_equal ["z"], custom.result.dig("decision_point_outcome", "step_names")
  end
end
