"""Handlers of the order that the examples of the manual pages speak of."""
from flows import begin
from taskerd import StepHandlerResult
from taskerd.step_handler.functional import step_handler


@step_handler("shop.take")
def take(context):
	begin(context)
	return {"order_id": context.get_input("order_id")}


@step_handler("shop.pack")
def pack(context):
	begin(context)
	if context.get_input("fail"):
		return StepHandlerResult.failure("the shop is away", error_type="ConnectionRefused", retryable=False)
	return {"box": 1}


@step_handler("shop.send")
def send(context):
	begin(context)
	return {"sent": True}
