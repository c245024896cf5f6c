# frozen_string_literal: true

module Taskerd
  module Types
    # The standard error types. Any other string may be used as well; `retryable` alone decides about another attempt.
    module ErrorTypes
      PERMANENT_ERROR = "PermanentError"
      RETRYABLE_ERROR = "RetryableError"
      VALIDATION_ERROR = "ValidationError"
      UNEXPECTED_ERROR = "UnexpectedError"
      STEP_COMPLETION_ERROR = "StepCompletionError"
      ALL = [PERMANENT_ERROR, RETRYABLE_ERROR, VALIDATION_ERROR, UNEXPECTED_ERROR, STEP_COMPLETION_ERROR].freeze

      # @return [Boolean] true for one of the five types above
      def self.valid?(type)
        ALL.include?(type.to_s)
      end

      # @return [Boolean] true for the type that asks for another attempt
      def self.typically_retryable?(type)
        type.to_s == RETRYABLE_ERROR
      end
    end

    # What a handler returns: {Success}, {Error} or {CheckpointYield}.
    module StepHandlerCallResult
      # The step is done; `result` is what later steps see.
      class Success
        attr_reader :success, :result, :metadata

        def initialize(result: nil, metadata: {}, success: true)
          @success = success
          @result = result
          @metadata = metadata || {}
        end

        def success?
          true
        end

        def failure?
          false
        end

        def checkpoint?
          false
        end

        def retryable
          false
        end

        def to_h
          { success: true, result: result, metadata: metadata }
        end

        def ==(other)
          other.is_a?(Success) && to_h == other.to_h
        end
      end

      # The attempt failed; another one is made if `retryable` and attempts are left.
      class Error
        attr_reader :success, :error_type, :message, :error_code, :retryable, :metadata, :retry_after, :backtrace
        alias error_message message

        def initialize(error_type: ErrorTypes::UNEXPECTED_ERROR, message: nil, error_code: nil, retryable: false, metadata: {},
                       retry_after: nil, backtrace: nil, success: false, error_message: nil)
          @success = success
          @error_type = error_type.to_s
          @message = (message || error_message || "Unknown error").to_s
          @error_code = error_code
          @retryable = retryable ? true : false
          @metadata = metadata || {}
          @retry_after = retry_after
          @backtrace = backtrace
        end

        def success?
          false
        end

        def failure?
          true
        end

        def checkpoint?
          false
        end

        def retryable?
          retryable
        end

        def result
          nil
        end

        def to_h
          { success: false, error_type: error_type, message: message, error_code: error_code, retryable: retryable, metadata: metadata }
        end

        def ==(other)
          other.is_a?(Error) && to_h == other.to_h
        end
      end

      # The step is not done: store how far it is, and call it again at once, as the same attempt.
      class CheckpointYield
        attr_reader :cursor, :items_processed, :accumulated_results

        def initialize(cursor:, items_processed: 0, accumulated_results: nil)
          raise ArgumentError, "items_processed must be an Integer of at least 0" unless items_processed.is_a?(Integer) && !items_processed.negative?

          @cursor = cursor
          @items_processed = items_processed
          @accumulated_results = accumulated_results
        end

        # Neither: the step goes on.
        def success?
          false
        end

        def failure?
          false
        end

        def checkpoint?
          true
        end
        alias checkpoint_yield? checkpoint?

        def metadata
          { checkpoint_yield: true, batch_worker: true }
        end

        # What is sent to the daemon.
        def result
          found = { type: "checkpoint_yield", cursor: cursor, items_processed: items_processed }
          found[:accumulated_results] = accumulated_results unless accumulated_results.nil?
          found
        end

        def to_h
          { cursor: cursor, items_processed: items_processed, accumulated_results: accumulated_results }
        end
        alias to_checkpoint_data to_h
      end

      class << self
        # The step is done.
        def success(result: nil, metadata: {})
          Success.new(result: result, metadata: metadata)
        end

        # The attempt failed. Note that `retryable` is false unless it is given.
        def error(error_type: ErrorTypes::UNEXPECTED_ERROR, message: nil, **more)
          Error.new(error_type: error_type, message: message, **more)
        end
        alias failure error

        # The step goes on at once.
        def checkpoint_yield(cursor:, items_processed: 0, accumulated_results: nil)
          CheckpointYield.new(cursor: cursor, items_processed: items_processed, accumulated_results: accumulated_results)
        end

        # What a handler returned, as a result: a Hash with `success` says itself how it went, any other value is the
        # result of a success.
        def from_handler_output(output)
          case output
          when Success, Error, CheckpointYield then output
          when Hash then from_hash(output)
          else wrapped(output)
          end
        end

        # What an uncaught exception means for the step.
        def from_exception(exception)
          Outcome.of_exception(exception)
        end

        private

        def from_hash(hash)
          told = hash.key?(:success) ? hash[:success] : hash["success"]
          case told
          when true then Success.new(result: pick(hash, :result) { hash }, metadata: pick(hash, :metadata) { {} })
          when false then error_from_hash(hash)
          else wrapped(hash)
          end
        end

        def error_from_hash(hash)
          Error.new(error_type: pick(hash, :error_type) { ErrorTypes::UNEXPECTED_ERROR }, error_code: pick(hash, :error_code) { nil },
                    message: pick(hash, :message) { pick(hash, :error_message) { pick(hash, :error) { "Unknown error" } } },
                    retryable: pick(hash, :retryable) { false }, retry_after: pick(hash, :retry_after) { nil },
                    metadata: pick(hash, :metadata) { {} })
        end

        def pick(hash, key)
          found = hash.key?(key) ? hash[key] : hash[key.name]
          found.nil? ? yield : found
        end

        def wrapped(output)
          Success.new(result: output, metadata: { wrapped: true, original_type: output.class.name })
        end
      end
    end

    # Exceptions as results.
    module Outcome
      module_function

      # A PermanentError is final, a RetryableError asks for another attempt (after its `retry_after`), others of the
      # library are as {Errors::ErrorClassifier} says, everything else is retryable.
      def of_exception(error)
        message = text(error)
        case error
        when Errors::PermanentError then failure(error, message, ErrorTypes::PERMANENT_ERROR, false, { context: context_of(error) })
        when Errors::ProceduralError
          metadata = { context: context_of(error) }
          metadata[:retry_after] = error.retry_after unless error.retry_after.nil?
          failure(error, message, ErrorTypes::RETRYABLE_ERROR, true, metadata)
        else unexpected(error, message)
        end
      end

      def unexpected(error, message)
        StepHandlerCallResult::Error.new(
          error_type: ErrorTypes::UNEXPECTED_ERROR, message: message, retryable: Errors::ErrorClassifier.retryable?(error),
          error_code: error.is_a?(DaemonError) ? error.code : nil, retry_after: error.is_a?(DaemonError) ? error.retry_after : nil,
          metadata: { exception_class: error.class.name, stack_trace: Array(error.backtrace).first(10) }, backtrace: trace(error)
        )
      end

      def failure(error, message, type, retryable, metadata)
        StepHandlerCallResult::Error.new(error_type: type, message: message, error_code: error.error_code, retryable: retryable,
                                         metadata: { exception_class: error.class.name, **metadata },
                                         retry_after: error.retry_after, backtrace: trace(error))
      end

      # An exception's context, with the parts that its class adds.
      def context_of(error)
        extra = %i[field resource_type timeout_duration status_code].select { |name| error.respond_to?(name) }
        found = extra.to_h { |name| [name, error.public_send(name)] }.compact
        error.context.is_a?(Hash) ? found.merge(error.context) : found
      end

      # An exception's message. It is the application's code, which may fail itself.
      def text(error)
        found = error.message.to_s
        return "exit was called with status #{error.status}#{": #{found}" unless found == "exit"}" if error.is_a?(SystemExit)

        found.empty? ? error.class.name.to_s : found
      rescue StandardError
        error.class.name.to_s
      end

      # Where it was raised, and what caused it.
      def trace(error)
        lines = []
        seen = 0
        while error && seen < 5
          lines << "#{error.class}: #{text(error)}"
          lines.concat(Array(error.backtrace).map { |line| "  #{line}" })
          error = error.cause
          seen += 1
        end
        lines
      end
    end
  end
end
