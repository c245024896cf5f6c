# frozen_string_literal: true

module Shop
  module StepHandlers
    class ChargeHandler < Taskerd::StepHandler::Base
      def initialize(config: {}, logger: nil)
        super
        @gateway = config["gateway"] || "test"
      end

      def call(context)
        cart = context.get_dependency_result("validate_cart")&.deep_symbolize_keys
        return failure(message: "no cart", error_code: "NO_CART", retryable: false) if cart.nil?
        raise Taskerd::Errors::RetryableError.new("busy", retry_after: 30, context: { gateway: @gateway }) if context.get_input("busy")

        success(result: { charged: cart[:total], gateway: @gateway, attempt: context.retry_count + 1, step: context.step_name,
                          total_again: context.get_dependency_field("validate_cart", "total") })
      end

      def refund(context)
        success(result_data: { refunded: context.get_input_or("amount", 0) })
      end
    end
  end
end
