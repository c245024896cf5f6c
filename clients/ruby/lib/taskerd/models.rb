# frozen_string_literal: true

require_relative "indifferent"

module Taskerd
  # A step's data as the handlers of other systems know it: the task, the step, its template's definition and the
  # results of earlier steps. Hashes in it take strings and symbols as keys.
  module Models
    # Readers of a Hash.
    class Wrapper
      # @return [Hash] everything
      attr_reader :data

      def self.fields(*names)
        names.each { |name| define_method(name) { @data[name] } unless method_defined?(name) }
      end

      def initialize(data)
        @data = Taskerd.indifferent(Models.plain(data))
      end

      def [](key)
        @data[key]
      end

      def dig(*keys)
        @data.dig(*keys)
      end

      def to_h
        @data.to_h
      end

      def key?(key)
        @data.key?(key)
      end

      def respond_to_missing?(name, all = false)
        (@data.is_a?(Hash) && @data.key?(name)) || super
      end

      # Whatever else the data holds.
      def method_missing(name, *args)
        return super unless args.empty? && @data.is_a?(Hash) && @data.key?(name)

        @data[name]
      end
    end

    # @return [Hash] whatever stands for a Hash
    def self.plain(data)
      return {} if data.nil?

      data.is_a?(Hash) ? data : data.to_h
    end

    # The task that the step is part of.
    class TaskWrapper < Wrapper
      # @return [Hash] what the task was created with
      attr_reader :context

      def initialize(data)
        super
        inner = @data[:task].is_a?(Hash) ? @data[:task] : @data
        @outer = @data
        @data = inner
        @context = inner[:context] || Taskerd.indifferent({})
      end

      fields :task_uuid, :correlation_id, :parent_correlation_id, :initiator, :source_system, :reason, :tags, :identity_hash, :complete,
             :created_at, :updated_at, :requested_at

      def priority
        @data[:priority] || 0
      end

      def task_name
        @outer[:task_name] || @data[:task_name] || @data[:name]
      end
      alias name task_name

      def task_version
        @outer[:task_version] || @data[:task_version] || @data[:version]
      end
      alias version task_version

      def namespace_name
        @outer[:namespace_name] || @data[:namespace_name] || @data[:namespace]
      end
      alias namespace namespace_name
    end

    # The step that runs.
    class WorkflowStepWrapper < Wrapper
      fields :workflow_step_uuid, :task_uuid, :named_step_uuid, :name, :retryable, :in_process, :processed, :processed_at, :last_attempted_at,
             :backoff_request_seconds, :checkpoint, :results, :created_at, :updated_at, :status

      def template_step_name
        @data[:template_step_name] || name
      end

      def max_attempts
        @data[:max_attempts] || @data[:retry_limit] || 3
      end

      alias retry_limit max_attempts

      # @return [Integer] attempts made before this one
      def attempts
        @data[:attempts] || 0
      end

      def inputs
        @data[:inputs] || Taskerd.indifferent({})
      end

      def retryable?
        @data.fetch(:retryable, true) ? true : false
      end
    end

    # The handler entry of a template's step.
    class HandlerWrapper < Wrapper
      fields :callable, :resolver

      def handler_method
        @data[:handler_method] || @data[:method]
      end

      def initialization
        @data[:initialization] || Taskerd.indifferent({})
      end
    end

    # The step as the template defines it.
    class StepDefinitionWrapper < Wrapper
      fields :name, :description, :system_dependency, :timeout_seconds, :retry

      # @return [HandlerWrapper]
      def handler
        @handler ||= HandlerWrapper.new(@data[:handler])
      end

      def dependencies
        @data[:dependencies] || []
      end

      def publishes_events
        @data[:publishes_events] || []
      end
    end

    # Results of earlier steps, each in an envelope `{success, result, metadata, status, ...}`.
    class DependencyResultsWrapper
      include Enumerable

      # @param results [Hash] envelopes by name; a value without `result` stands for itself
      # @param load [Proc, nil] called once for results that were left out
      def initialize(results, load = nil)
        @results = Taskerd.indifferent(results || {})
        @load = load
      end

      # What the daemon sends: pages of outputs without envelopes, and the numbers of their steps in the order of the names.
      # @param task_uuid [String]
      # @param page [Hash] with `dependencies` and `dependency_steps`
      # @param load [Proc, nil] further pages
      def self.of_pages(task_uuid, page, load = nil)
        new(envelopes(task_uuid, page), load && -> { load.call.map { |more| envelopes(task_uuid, more) }.reduce({}, :merge) })
      end

      def self.envelopes(task_uuid, page)
        outputs = page["dependencies"] || {}
        numbers = page["dependency_steps"] || []
        uuids = outputs.size == numbers.size ? outputs.keys.sort.zip(numbers).to_h { |name, no| [name, DependencyResultsWrapper.step_uuid(task_uuid, no)] } : {}
        outputs.to_h do |name, output|
          [name, { "step_uuid" => uuids[name], "success" => true, "result" => output, "metadata" => {}, "status" => "completed", "error" => nil }]
        end
      end

      # The uuid of a task's step.
      def self.step_uuid(task_uuid, number)
        format("%s%06x", task_uuid[0, 30], number + 1)
      end

      # @return [Hash, nil] the envelope of a step
      def get_result(name)
        all[name.to_s]
      end
      alias [] get_result

      # @return [Object, nil] what a step returned
      def get_results(name)
        DependencyResultsWrapper.unwrap(get_result(name))
      end

      # The inside of an envelope; anything else stands for itself.
      def self.unwrap(entry)
        entry.is_a?(Hash) && entry.key?("result") ? entry["result"] : entry
      end

      def keys
        all.keys
      end

      def key?(name)
        all.key?(name.to_s)
      end
      alias has_key? key?
      alias include? key?

      def each_key(&block)
        all.each_key(&block)
      end

      def each(&block)
        all.each(&block)
      end
      alias each_pair each

      def size
        all.size
      end
      alias length size

      def empty?
        all.empty?
      end

      def dig(name, *rest)
        rest.empty? ? get_result(name) : get_result(name)&.dig(*rest)
      end

      def fetch(name, *rest, &block)
        all.fetch(name.to_s, *rest, &block)
      end

      def to_h
        all.to_h
      end

      private

      def all
        if @load
          load, @load = @load, nil
          @results = Taskerd.indifferent(@results.to_h.merge(load.call))
        end
        @results
      end
    end

    # All of it.
    class TaskSequenceStepWrapper
      attr_reader :task, :workflow_step, :dependency_results, :step_definition, :data

      # @param data [Hash] with the keys `task`, `workflow_step`, `dependency_results` and `step_definition`
      def initialize(data)
        @data = Taskerd.indifferent(Models.plain(data))
        @task = TaskWrapper.new(@data[:task])
        @workflow_step = WorkflowStepWrapper.new(@data[:workflow_step])
        @dependency_results = DependencyResultsWrapper.new(@data[:dependency_results])
        @step_definition = StepDefinitionWrapper.new(@data[:step_definition])
      end

      # @return [Hash, nil] the envelope of a step
      def get_dependency_result(name)
        dependency_results.get_result(name)
      end

      def get_task_field(name)
        task.context[name.to_s]
      end

      def get_results(name)
        dependency_results.get_results(name)
      end
    end
  end
end
