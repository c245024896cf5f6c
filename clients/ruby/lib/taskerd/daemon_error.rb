# frozen_string_literal: true

require_relative "errors"

module Taskerd
  # The daemon refused a request, or could not be reached.
  class DaemonError < Errors::ServerError
    # @return [String] the protocol's error code
    attr_reader :code
    # @return [Float, nil] seconds that the daemon asks to wait
    attr_reader :retry_after
    # @return [String, nil] where in the request
    attr_reader :path
    # @return [Object] more, by code
    attr_reader :details

    class << self
      # @return [String] the code of a class
      def code
        const_get(:CODE)
      end

      # The exception for an `error` map of the protocol; unknown codes give the base class.
      def from_wire(error)
        code = (error["code"] || "internal").to_s
        wait = error["retry_after_ms"]
        kind = Client::ERRORS.fetch(code, DaemonError)
        kind.new((error["message"] || code).to_s, code: code, path: error["path"], details: error["details"],
                                                  retry_after: wait.is_a?(Numeric) ? wait / 1000.0 : nil)
      end
    end

    CODE = "internal"
    RETRYABLE = false

    def initialize(message = nil, code: nil, retry_after: nil, path: nil, details: nil)
      super(message)
      @code = code || self.class.code
      @retry_after = retry_after
      @path = path
      @details = details
    end

    # @return [Boolean] true if the same request may succeed later
    def retryable?
      self.class.const_get(:RETRYABLE)
    end

    def to_s
      "#{super}#{" (at #{path})" if path} [#{code}]"
    end
  end

  module Client
    # One side sent bytes that the other does not accept; the connection is closed.
    class ProtocolError < DaemonError; CODE = "protocol_error"; end
    # Daemon and library speak different major versions; `details` holds both.
    class UnsupportedVersionError < DaemonError; CODE = "unsupported_version"; end
    # The daemon does not know the request (it is older than this library).
    class UnknownMethodError < DaemonError; CODE = "unknown_method"; end
    # A parameter is missing or has the wrong type; `path` says which.
    class BadRequestError < DaemonError; CODE = "bad_request"; end
    # A value lies outside the JSON data model; `path` says which.
    class InvalidValueError < DaemonError; CODE = "invalid_value"; end
    # Over one of the daemon's limits; `details` names it.
    class TooLargeError < DaemonError; CODE = "too_large"; end
    # No such task, step or template.
    class NotFoundError < DaemonError; CODE = "not_found"; end
    # The template is not registered.
    class TemplateNotFoundError < NotFoundError; CODE = "template_not_found"; end
    # An identity or version is taken, or the state forbids the change.
    class ConflictError < DaemonError; CODE = "conflict"; end
    # This process's user lacks the role for the request.
    class PermissionDeniedError < DaemonError; CODE = "permission_denied"; end
    # A defect in the daemon; its log has more.
    class InternalError < DaemonError; CODE = "internal"; end

    # The context does not fit the template's `input_schema`.
    class InvalidContextError < DaemonError
      CODE = "invalid_context"

      # @return [Array<Hash>] what does not fit: `instance` and `keyword` (JSON pointers), `message`
      def violations
        (details.is_a?(Hash) && details["violations"]) || []
      end

      def to_s
        [super, *violations.map { |v| "  #{v["instance"].to_s.empty? ? "(the context)" : v["instance"]}: #{v["message"]}" }].join("\n")
      end
    end

    # The template was refused.
    class InvalidTemplateError < DaemonError
      CODE = "invalid_template"

      # @return [Array<Hash>] `severity`, `file`, `line`, `column`, `key`, `message` of each complaint
      def findings
        (details.is_a?(Hash) && details["findings"]) || []
      end

      def to_s
        [super, *findings.map { |finding| "  #{self.class.line(finding)}" }].join("\n")
      end

      # A finding as compilers write theirs: `FILE:LINE:COLUMN: SEVERITY: KEY: MESSAGE`.
      def self.line(finding)
        place = finding.values_at("file", "line", "column").compact.join(":")
        "#{place}: #{finding["severity"] || "error"}: #{"#{finding["key"]}: " if finding["key"]}#{finding["message"]}"
      end
    end

    # The daemon reached a bound; try again after `retry_after`.
    class OverloadedError < DaemonError; CODE = "overloaded"; RETRYABLE = true; end
    # The daemon has no database at the moment; try again after `retry_after`.
    class DatabaseUnavailableError < DaemonError; CODE = "database_unavailable"; RETRYABLE = true; end
    # The daemon is stopping; try again on a new connection.
    class ShuttingDownError < DaemonError; CODE = "shutting_down"; RETRYABLE = true; end
    # No answer within the time allowed; the daemon may still do what was asked.
    class RequestTimeoutError < DaemonError; CODE = "timeout"; RETRYABLE = true; end

    # The daemon cannot be reached, or the connection broke before the answer came.
    class ConnectionLostError < DaemonError
      CODE = "connection_lost"
      RETRYABLE = true

      def initialize(message = nil, sent: false, **more)
        super(message, **more)
        @sent = sent
      end

      # @return [Boolean] true if the daemon may have done what was asked
      def sent?
        @sent
      end
    end

    # Exceptions by code.
    ERRORS = [
      ProtocolError, UnsupportedVersionError, UnknownMethodError, BadRequestError, InvalidValueError, TooLargeError, NotFoundError,
      TemplateNotFoundError, InvalidContextError, InvalidTemplateError, ConflictError, PermissionDeniedError, OverloadedError,
      DatabaseUnavailableError, ShuttingDownError, InternalError
    ].to_h { |kind| [kind::CODE, kind] }.freeze
  end
end
