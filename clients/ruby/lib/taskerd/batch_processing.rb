# frozen_string_literal: true

module Taskerd
  # What the handlers of batches work with.
  module BatchProcessing
    # The part of a batch that a worker's step has.
    class BatchWorkerContext
      # @return [Hash] `batch_id`, `start_cursor`, `end_cursor`, `batch_size`
      attr_reader :cursor
      # @return [Hash]
      attr_reader :batch_metadata
      # @return [Boolean] true for the placeholder of a batch without work
      attr_reader :is_no_op
      # @return [Hash, nil] what the last checkpoint stored
      attr_reader :checkpoint
      alias no_op? is_no_op

      # @param data [Types::StepContext, Models::WorkflowStepWrapper] the step
      def self.from_step_data(data)
        inputs = data.respond_to?(:step_inputs) ? data.step_inputs : data.inputs
        new(inputs, checkpoint: data.checkpoint)
      end

      # @param inputs [Hash] the inputs of a worker's step; ArgumentError if they have no usable cursor
      def initialize(inputs, checkpoint: nil)
        inputs = Taskerd.indifferent(inputs || {})
        @is_no_op = inputs[:is_no_op] ? true : false
        @cursor = inputs[:cursor] || Taskerd.indifferent({})
        @batch_metadata = inputs[:batch_metadata] || Taskerd.indifferent({})
        @checkpoint = checkpoint && Taskerd.indifferent(checkpoint)
        check unless @is_no_op
      end

      def batch_id
        cursor[:batch_id] || "unknown"
      end

      # @return [Integer, Object] where the part begins; a number is an Integer, any other cursor as it is
      def start_cursor
        number(cursor[:start_cursor])
      end

      # @return [Integer, Object] where it ends, exclusive
      def end_cursor
        number(cursor[:end_cursor])
      end

      def batch_size
        found = cursor[:batch_size]
        return found unless found.nil?

        start_cursor.is_a?(Integer) && end_cursor.is_a?(Integer) ? end_cursor - start_cursor : nil
      end

      def has_checkpoint?
        !checkpoint_cursor.nil?
      end

      def checkpoint_cursor
        checkpoint && checkpoint[:cursor]
      end

      def accumulated_results
        checkpoint && checkpoint[:accumulated_results]
      end

      def checkpoint_items_processed
        (checkpoint && checkpoint[:items_processed]) || 0
      end

      private

      def number(value)
        case value
        when nil then 0
        when Float then value.to_i
        when /\A-?\d+\z/ then value.to_i
        else value
        end
      end

      def check
        raise ArgumentError, "the step has no cursor: it is no worker of a batch" unless @cursor.is_a?(Hash) && !@cursor.empty?

        first, last = @cursor.values_at(:start_cursor, :end_cursor)
        raise ArgumentError, "the cursor has no start_cursor" if first.nil?
        raise ArgumentError, "the cursor has no end_cursor" if last.nil?
        return unless first.is_a?(Numeric) || last.is_a?(Numeric)

        check_numbers(number(first), number(last))
      end

      def check_numbers(first, last)
        raise ArgumentError, "start_cursor #{first.inspect} and end_cursor #{last.inspect} are of different kinds" unless first.is_a?(Integer) && last.is_a?(Integer)
        raise ArgumentError, "a cursor must not be negative" if first.negative? || last.negative?
        raise ArgumentError, "start_cursor #{first} is behind end_cursor #{last}" if first > last
      end
    end

    # What the steps before an aggregation have left: nothing to do, or the workers' results.
    class BatchAggregationScenario
      # @return [Object] what the analyzer returned
      attr_reader :batchable_result
      # @return [Hash] results of the workers by step name
      attr_reader :batch_results
      # @return [Integer]
      attr_reader :worker_count

      class << self
        # @param dependency_results [Models::DependencyResultsWrapper, Types::StepContext, Hash]
        # @param batchable_step_name [String] name of the analyzer's step
        # @param batch_worker_prefix [String] with what the names of the workers' steps begin
        def detect(dependency_results, batchable_step_name, batch_worker_prefix)
          results = wrapper(dependency_results)
          analyzed = results.get_results(batchable_step_name)
          found = worker_results(results, batch_worker_prefix.to_s, batchable_step_name.to_s)
          return new(analyzed, {}, true) if found.empty? || no_batches?(analyzed)

          new(analyzed, found, false)
        end

        private

        def wrapper(source)
          return source.dependency_results if source.respond_to?(:dependency_results)

          source.respond_to?(:get_results) ? source : Models::DependencyResultsWrapper.new(source)
        end

        def worker_results(results, prefix, analyzer)
          names = results.keys.map(&:to_s).select { |name| name.start_with?(prefix) && name != analyzer }
          names.to_h { |name| [name, results.get_results(name)] }
        end

        def no_batches?(analyzed)
          outcome = analyzed.is_a?(Hash) ? Taskerd.indifferent(analyzed)[:batch_processing_outcome] : nil
          outcome.is_a?(Hash) && outcome[:type] == "no_batches"
        end
      end

      def initialize(batchable_result, batch_results, no_batches)
        @batchable_result = batchable_result
        @batch_results = batch_results
        @no_batches = no_batches
        @worker_count = batch_results.size
      end

      def no_batches?
        @no_batches
      end

      def with_batches?
        !@no_batches
      end
    end
  end
end
