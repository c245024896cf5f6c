# frozen_string_literal: true

# Written as handlers of an application are: nothing is required, a namespace, constants, private helpers.
module Shop
  module StepHandlers
    class ValidateCartHandler < Taskerd::StepHandler::Base
      VERSION = "2.1.0"
      MAX_ITEMS = 3

      def call(context)
        items = context.task.context["items"]
        raise Taskerd::Errors::PermanentError.new("Cart is empty", error_code: "EMPTY_CART") if items.blank?

        check_size(items)
        logger.info("validating #{items.size} items of task #{context.task_uuid}")
        total = items.sum { |item| item[:price] * item.fetch("quantity", 1) }
        Taskerd::Types::StepHandlerCallResult.success(
          result: { total: total, currency: config["currency"] || config[:fallback], valid_until: 2.hours.from_now.iso8601 },
          metadata: { operation: "validate_cart", item_count: items.size }
        )
      end

      private

      def check_size(items)
        return if items.size <= MAX_ITEMS

        raise Taskerd::Errors::ValidationError.new("Too many items", field: "items", error_code: "TOO_MANY", context: { count: items.size })
      end
    end
  end
end
