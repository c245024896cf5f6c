# frozen_string_literal: true

require_relative "step_handler/base"
require_relative "step_handler/mixins/decision"
require_relative "step_handler/mixins/batchable"

module Taskerd
  # Bases of handlers, and the handlers made of blocks.
  module StepHandler
    module Mixins
      autoload :API, File.expand_path("step_handler/mixins/api", __dir__)
    end

    # A handler that chooses the steps behind it.
    class Decision < Base
      include Mixins::Decision
    end

    # A handler of a batch.
    class Batchable < Base
      include Mixins::Batchable
    end

    autoload :Api, File.expand_path("step_handler/api", __dir__)
    autoload :API, File.expand_path("step_handler/api", __dir__)
  end
end

require_relative "step_handler/functional"

module Taskerd
  module Handlers
    # The same by other names.
    module Steps
      Base = StepHandler::Base
      Decision = StepHandler::Decision
      Batchable = StepHandler::Batchable
      Mixins = StepHandler::Mixins

      # On first use: it needs an HTTP library.
      def self.const_missing(name)
        name == :API || name == :Api ? StepHandler::Api : super
      end
    end
  end
end
