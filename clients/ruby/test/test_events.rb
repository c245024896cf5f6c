# frozen_string_literal: true

require_relative "support"
require "taskerd/testing"

# Publishers and subscribers, without a daemon; test_daemon has them with one.
class TestEvents < Minitest::Test
  include Taskerd::Testing
  D = Taskerd::DomainEvents

  # Notes what happens to it.
  class Recorder < D::BasePublisher
    attr_reader :seen
    attr_accessor :failing

    def initialize(failing = nil)
      super()
      @seen = []
      @failing = failing
    end

    def name = "recorder"

    def should_publish?(step_result, declaration, context = nil)
      seen << [:should, step_result[:success], declaration["name"], context && context[:step_name]]
      raise "on purpose" if failing == :should

      step_result.dig(:result, :go) != false
    end

    def transform_payload(step_result, _declaration) = { n: step_result.dig("result", "n") }
    def additional_metadata(*) = { note: 1 }
    def before_publish(name, payload, metadata) = seen << [:before, name, payload, metadata["note"] || metadata[:note]]
    def after_publish(name, _payload, _metadata) = failing == :after ? raise("late") : seen << [:after, name]
    def on_publish_error(name, error, _payload) = seen << [:error, name, error.message]
  end

  def setup
    @registry = D::PublisherRegistry.instance
    @registry.reset
  end

  def teardown
    @registry.reset
  end

  # The `events` of the result of a step that declares these.
  def events_of(result, *declared, **more)
    context = make_context({ a: 1 }, publishes_events: declared.map { |d| { condition: "success", **d } }, step: "pay", **more)
    D::Collect.step_events(context.step["publishes_events"], context, result)
  end

  def success(value)
    Taskerd::Types::StepHandlerCallResult.success(result: value)
  end

  def failure(retryable)
    Taskerd::Types::StepHandlerCallResult.error(message: "m", retryable: retryable)
  end

  def test_what_a_publisher_makes_of_an_event
    @registry.register(publisher = Recorder.new)
    found = events_of(success({ n: 7 }), { name: "a.b", publisher: "recorder" }, { name: "a.c" }, { name: "a.d", publisher: "unknown" })
    assert_equal [{ "name" => "a.b", "payload" => { "n" => 7 } }], (found.map { |e| e.slice("name", "payload").transform_values { |v| v.is_a?(Hash) ? v.transform_keys(&:to_s) : v } })
    metadata = Taskerd.indifferent(found.first["metadata"])
    assert_equal [1, "recorder", "pay", "default"], metadata.values_at(:note, :publisher, :step_name, :namespace)
    assert_equal [[:should, true, "a.b", "pay"], [:before, "a.b", { n: 7 }, 1], [:after, "a.b"]], publisher.seen
  end

  def test_an_event_that_is_stopped_and_hooks_that_fail
    @registry.register(publisher = Recorder.new)
    declared = { name: "a.b", publisher: "recorder" }
    assert_equal [{ "name" => "a.b", "skip" => true }], events_of(success({ go: false }), declared)
    publisher.failing = :should
    assert_equal [{ "name" => "a.b", "failed" => "on purpose" }], events_of(success({ n: 1 }), declared)
    assert_equal [:error, "a.b", "on purpose"], publisher.seen.last
    publisher.failing = :after
    assert_equal "a.b", events_of(success({ n: 1 }), declared).first["name"]
    assert_match(/NaN/i, events_of(success({ n: Float::NAN }), declared).first["failed"], "what cannot be sent is not replaced by something else")
  end

  def test_conditions
    @registry.register(Recorder.new)
    conditions = %w[success failure retryable_failure permanent_failure always]
    fired = ->(result, **more) { (events_of(result, *conditions.map { |c| { name: c, publisher: "recorder", condition: c } }, **more) || []).map { |e| e["name"] } }
    assert_equal %w[success always], fired.(success({ n: 1 }))
    assert_equal %w[failure retryable_failure always], fired.(failure(true))
    assert_equal %w[failure permanent_failure always], fired.(failure(false))
    assert_equal %w[failure permanent_failure always], fired.(failure(true), attempt: 3)
    assert_equal [], fired.(Taskerd::Types::StepHandlerCallResult.checkpoint_yield(cursor: 1))
  end

  def test_the_registry_of_publishers
    @registry.register(Recorder)
    assert_raises(D::PublisherRegistry::DuplicatePublisherError) { @registry.register(Recorder.new) }
    assert_kind_of Recorder, @registry.get("recorder")
    assert_kind_of D::DefaultPublisher, @registry.get_or_default("other")
    assert_raises(D::PublisherRegistry::PublisherNotFoundError) { @registry.get_strict("other") }
    error = assert_raises(D::PublisherRegistry::ValidationError) { @registry.validate_required(%w[recorder other]) }
    assert_includes error.message, "other"
    @registry.validate_required(%w[recorder default])
    assert @registry.frozen?
    assert_raises(D::PublisherRegistry::RegistryFrozenError) { @registry.register(Recorder.new) }
  end

  def test_publishing_by_hand_only_runs_the_hooks
    publisher = Recorder.new
    assert_equal true, publisher.publish({ event_name: "x.y", step_result: { success: true, result: { n: 1 } }, event_declaration: { name: "x.y" }, step_context: nil })
    assert_equal [:after, "x.y"], publisher.seen.last
  end

  def test_subscribers
    seen = []
    kind = Class.new(D::BaseSubscriber) do
      subscribes_to "a.*", "exact.name"
      define_method(:before_handle) { |event| event[:metadata][:skip] != true }
      define_method(:handle) { |event| event[:event_name] == "a.bad" ? raise("bad") : seen << event }
      define_method(:on_handle_error) { |event, error| seen << [event["event_name"], error.message] }
    end
    assert_equal ["*"], Class.new(D::BaseSubscriber).subscribes_to
    assert_equal ["a.*", "exact.name"], Class.new(kind).subscribes_to
    poller = D::Poller.new(socket: "/nonexistent")
    registry = D::SubscriberRegistry.new
    registry.register(kind)
    registry.start_all!(poller)
    wire = ->(name, **metadata) { { "event_id" => "i", "event_name" => name, "payload" => { "payload" => { "n" => 7 }, "execution_result" => { "success" => true } }, "metadata" => metadata } }
    ["a.b", "b.a", "exact.name", "exact.name.not", "a.bad"].each { |name| poller.dispatch(wire.(name)) }
    poller.dispatch(wire.("a.c", skip: true))
    assert_equal ["a.b", "exact.name", "bad"], (seen.map { |e| e.is_a?(Array) ? e.last : e[:event_name] })
    event = seen.first
    assert_equal [7, 7, 7, true], [event[:payload][:n], event["business_payload"]["n"], event[:payload][:payload][:n], event[:execution_result][:success]]
    assert_equal [1, 1], registry.stats.values_at(:total_subscribers, :active_subscribers)
    registry.stop_all!
    poller.dispatch(wire.("a.b"))
    assert_equal 3, seen.size
    assert_equal 0, registry.stats[:active_count]
  ensure
    poller&.stop
  end
end
