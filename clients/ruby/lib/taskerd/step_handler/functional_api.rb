# frozen_string_literal: true

module Taskerd
  module StepHandler
    # @api private
    class FunctionalApi < FunctionalHandler
      include Mixins::API

      def config
        @api_config ||= Taskerd.indifferent(self.class.definition.settings[:api].merge(super.to_h.transform_keys(&:to_sym)))
      end

      private

      def extras(_context)
        { api: self }
      end
    end
  end
end
