# frozen_string_literal: true

module Taskerd
  module StepHandler
    # A handler that calls an HTTP service.
    class Api < Base
      include Mixins::API
    end
    API = Api
  end
end
