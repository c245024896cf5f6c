# frozen_string_literal: true

require "time"
require_relative "taskerd/version"
require_relative "taskerd/core_ext"
require_relative "taskerd/errors"
require_relative "taskerd/codec"
require_relative "taskerd/transport"
require_relative "taskerd/indifferent"
require_relative "taskerd/models"
require_relative "taskerd/logger"

# Ruby client of taskerd.
#
#     require "taskerd"
#     include Taskerd::StepHandler::Functional
#
#     Greet = step_handler("greet", inputs: [:name]) { |name:, context:| { greeting: "Hello #{name}" } }
#
# Run handlers with `taskerd-ruby-worker greet.rb`; create tasks with {Client}.
module Taskerd
  # What handlers take and return, and what the client answers.
  module Types; end

  # From a template's `handler` entry to a handler.
  module Registry; end
end

Taskerd::CoreExt.load

require_relative "taskerd/types/results"
require_relative "taskerd/types/step_context"
require_relative "taskerd/types/decision_point_outcome"
require_relative "taskerd/types/handler_definition"
require_relative "taskerd/batch_processing"
require_relative "taskerd/step_handler"
require_relative "taskerd/registry/resolvers"
require_relative "taskerd/registry/resolver_chain"
require_relative "taskerd/loading"
require_relative "taskerd/registry/handler_registry"
require_relative "taskerd/open_telemetry_bridge"
require_relative "taskerd/worker"
require_relative "taskerd/client"

module Taskerd
  autoload :DomainEvents, File.expand_path("taskerd/domain_events", __dir__)
  autoload :TemplateDiscovery, File.expand_path("taskerd/template_discovery", __dir__)
  autoload :Observability, File.expand_path("taskerd/observability", __dir__)
  autoload :CLI, File.expand_path("taskerd/cli", __dir__)
  autoload :Testing, File.expand_path("taskerd/testing", __dir__)

  # Short names.
  %i[Error RetryableError PermanentError TimeoutError NetworkError ValidationError NotFoundError ConfigurationError].each do |name|
    const_set(name, Errors.const_get(name)) unless const_defined?(name, false)
  end

  class << self
    # @return [String] the version of this library
    def version
      VERSION
    end

    # @return [Registry::HandlerRegistry] the one of the process
    def registry
      Registry::HandlerRegistry.instance
    end

    # @return [Logger] what handlers log to
    def logger
      Logger.instance
    end
  end
end

require_relative "taskerd/railtie" if defined?(Rails::Railtie)
