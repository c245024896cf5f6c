# frozen_string_literal: true

require "json"
require "securerandom"
require_relative "../taskerd"

module Taskerd
  # For tests of handlers: one attempt without a daemon ({Handlers#run_handler}), or a whole workflow against a taskerd of the
  # test's own ({EmbeddedTaskerd}).
  #
  # Include it into a test case of Minitest, or a group of RSpec:
  #
  #     RSpec.configure { |config| config.include Taskerd::Testing }
  module Testing
    autoload :EmbeddedTaskerd, File.expand_path("testing/embedded", __dir__)
    autoload :TaskFailed, File.expand_path("testing/embedded", __dir__)

    # Stands for the worker: keeps what a handler tells it.
    class RecordingHost
      # @return [Array] what {Types::StepContext#heartbeat} was given
      attr_reader :progress
      # @return [Array<Hash>] what {Types::StepContext#save_checkpoint} was given
      attr_reader :checkpoints
      # @return [Array<Array>] level, message and fields of what was logged
      attr_reader :logs

      def initialize
        @progress = []
        @checkpoints = []
        @logs = []
      end

      # All results are there from the beginning.
      def fetch_dependencies(_step_uuid, _names)
        []
      end

      def store_checkpoint(params)
        @checkpoints << params.reject { |key, _| %w[step_uuid attempt claim].include?(key) }
        "recorded"
      end

      def send_progress(_step_uuid, _attempt, progress)
        @progress << progress
      end

      def send_log(_step_uuid, level, message, fields)
        @logs << [level, message, fields]
      end
    end

    module_function

    # A context as the worker makes it.
    #
    # @param context [Hash] what the task was created with
    # @param dependencies [Hash] results of earlier steps by name (not their envelopes)
    # @param config [Hash] the template's `initialization`
    # @param inputs [Hash] inputs of a batch worker
    # @param more [Hash] further fields of `step.execute`: `namespace:`, `step:`, `correlation_id:`, ...
    # @return [Types::StepContext]
    def make_context(context = {}, dependencies: {}, config: nil, inputs: nil, checkpoint: nil, handler: "handler", method: nil, attempt: 1,
                     max_attempts: 3, host: RecordingHost.new, **more)
      uuid = "#{SecureRandom.uuid[0, 30]}000000"
      step = {
        step_uuid: Models::DependencyResultsWrapper.step_uuid(uuid, dependencies.size), task_uuid: uuid, attempt: attempt, max_attempts: max_attempts, namespace: "default", template: "test",
        version: "1.0.0", step: "step", handler: { callable: handler, initialization: config, method: method }.compact, context: context,
        dependencies: dependencies, dependency_steps: (0...dependencies.size).to_a, correlation_id: uuid, inputs: inputs, checkpoint: checkpoint, **more
      }
      wire = Codec::Plain.of(step.compact, "", Codec::MAX_PARAMS_DEPTH)
      # As it comes over the wire: plain hashes with strings as keys.
      Types::StepContext.from_step(Codec::FACTORY.load(Codec.pack({ **wire, "claim" => "\0".b * 16 })), host, Transport.now)
    end

    # One attempt of a handler: a class, an instance, or a registered name.
    #
    # Goes the whole way of the worker: exceptions become failures, and a result that could not be sent is the failure that the
    # daemon would get. The other arguments are those of {#make_context}. `to_the_end`: a handler that yields at a checkpoint is
    # called again until it is done.
    # @return [Types::StepHandlerCallResult::Success, Types::StepHandlerCallResult::Error, Types::StepHandlerCallResult::CheckpointYield]
    def run_handler(handler, context = {}, to_the_end: false, **options)
      registry = Registry::HandlerRegistry.new
      entry = handler.is_a?(String) ? Taskerd.registry.resolver_chain.explicit.entry(handler) : handler
      registry.resolver_chain.register("handler", entry || raise(ArgumentError, "there is no handler #{handler}"))
      runner = Worker::Runner.new(registry)
      loop do
        made = make_context(context, **options)
        result = sent(runner, made, runner.attempt(made))
        return result unless to_the_end && result.checkpoint?

        options[:checkpoint] = result.result.transform_keys(&:to_s).except("type")
      end
    end

    # The result itself, or the failure that is sent in its place.
    # @api private
    def sent(runner, context, result)
      item = Codec::FACTORY.load(runner.encode(context, result, 0.0))
      return result if item["success"] || result.failure?

      error = item["error"]
      Types::StepHandlerCallResult.error(error_type: error["error_type"], message: error["message"], retryable: error["retryable"])
    end
  end
end
