# frozen_string_literal: true

require "taskerd"
include Taskerd::StepHandler::Functional # rubocop:disable Style/MixinUsage -- as handler files do

def price_of(item)
  item["price"] || item[:price]
end

LoadCart = step_handler("blocks.load_cart", inputs: %i[cart_id items]) do |cart_id:, items:, context:|
  raise Taskerd::Errors::PermanentError.new("no cart_id", error_code: "NO_CART") if cart_id.nil?
  next { empty: true } if items.nil?

  { cart_id: cart_id, sum: items.sum { |i| price_of(i) }, task: context.task_uuid }
end

Charge = step_handler("blocks.charge", depends_on: { cart: "load_cart" }, inputs: [:token]) do |cart:, token:, context:|
  Taskerd::Types::StepHandlerCallResult.success(result: { sum: cart["sum"], token: token, twice: cart[:sum] * 2 }, metadata: { n: context.retry_count })
end

Approve = decision_handler("blocks.approve", inputs: [:amount]) do |amount:, context:|
  if amount.to_i < 100
    Decision.skip("small", amount: amount)
  else
    Decision.route(%w[manager finance], amount: amount)
  end
end

Analyze = batch_analyzer("blocks.analyze", worker_template: "work", inputs: [:rows]) do |rows:, context:|
  BatchConfig.new(total_items: rows, batch_size: 4, metadata: { source: "test" })
end

Work = batch_worker("blocks.work") do |batch_context:, context:|
  { batch_id: batch_context.batch_id, items_processed: batch_context.end_cursor - batch_context.start_cursor }
end
