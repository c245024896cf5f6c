# frozen_string_literal: true

module Taskerd
  # Errors that a handler raises to say how its step failed.
  #
  # {PermanentError} and its subclasses end the step; {RetryableError}, {TimeoutError} and {NetworkError} ask for another
  # attempt, after `retry_after` seconds if that is given. Any other exception counts as retryable, but for those of
  # {ErrorClassifier::PERMANENT}.
  module Errors
    # Base of everything the library raises.
    class Error < StandardError; end

    # The handler or the worker is set up wrongly.
    class ConfigurationError < Error; end

    # A workflow cannot go on as it is.
    class OrchestrationError < Error; end

    # A database said no.
    class DatabaseError < Error; end

    # Kept for code that names it: this library has no native part that could raise it.
    class FFIError < Error
      attr_reader :operation, :context

      def initialize(message = nil, operation: nil, context: {})
        super(message)
        @operation = operation
        @context = context || {}
      end
    end

    # The daemon, or another server, said no.
    class ServerError < Error
      attr_reader :operation, :context

      def initialize(message = nil, operation: nil, context: {})
        super(message)
        @operation = operation
        @context = context || {}
      end
    end

    # Base of the errors with which a handler steers its step.
    class ProceduralError < Error
      # More about the failure, shown with the error.
      # @return [Hash]
      attr_reader :context
      # A code of the application's own.
      # @return [String, nil]
      attr_reader :error_code
      # Seconds to wait before the next attempt.
      # @return [Numeric, nil]
      attr_reader :retry_after

      def initialize(message = nil, error_code: nil, retry_after: nil, context: {}, **more)
        super(message)
        @error_code = error_code
        @retry_after = retry_after
        @context = (context || {}).to_h.merge(more)
      end
    end

    # The step failed, another attempt may succeed.
    class RetryableError < ProceduralError; end

    # The step failed for good; no further attempt is made.
    class PermanentError < ProceduralError; end

    # Something the step waited for did not come in time.
    class TimeoutError < ProceduralError
      attr_reader :timeout_duration

      def initialize(message = nil, timeout_duration: nil, **more)
        super(message, **more)
        @timeout_duration = timeout_duration
      end
    end

    # A connection could not be made or broke.
    class NetworkError < ProceduralError
      attr_reader :status_code

      def initialize(message = nil, status_code: nil, **more)
        super(message, **more)
        @status_code = status_code
      end
    end

    # The step's input is not acceptable.
    class ValidationError < PermanentError
      attr_reader :field

      def initialize(message = nil, field: nil, **more)
        super(message, **more)
        @field = field
      end
    end

    # Something the step needs does not exist.
    class NotFoundError < PermanentError
      attr_reader :resource_type

      def initialize(message = nil, resource_type: nil, **more)
        super(message, **more)
        @resource_type = resource_type
      end
    end

    # Raised by {Types::StepContext#raise_if_cancelled!} when the daemon has taken the attempt back.
    class StepCancelledError < RetryableError; end

    # A value cannot be expressed in the JSON data model. `path` says where in the value.
    class ConversionError < Error
      attr_reader :path

      def initialize(message = nil, path: "")
        super(path.empty? ? message : "#{path}: #{message}")
        @path = path
      end
    end

    # Tells which exceptions ask for another attempt.
    class ErrorClassifier
      # Without another attempt even though they are no PermanentError.
      PERMANENT = [PermanentError, ConfigurationError, DatabaseError, FFIError, ConversionError].freeze

      class << self
        # @return [Boolean] true if another attempt may succeed
        def retryable?(error)
          return error.retryable? if error.respond_to?(:retryable?)

          PERMANENT.none? { |kind| error.is_a?(kind) }
        end

        # @return [Boolean]
        def permanent?(error)
          !retryable?(error)
        end

        # @return [Hash] `error_type`, `retryable` and `classification` of an exception
        def classify(error)
          again = retryable?(error)
          { error_type: error.class.name.to_s.split("::").last, retryable: again,
            classification: again ? "retryable" : "permanent" }
        end
      end
    end
  end
end
