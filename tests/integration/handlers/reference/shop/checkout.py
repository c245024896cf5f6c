"""Classes: validation, a permanent and a retryable error, results of several steps before, the raw data."""
from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tasker_core import ErrorType, StepContext, StepHandler, StepHandlerResult
from tasker_core.errors import PermanentError, RetryableError

from .money import cents

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


class ValidateCartHandler(StepHandler):
    handler_name = "shop.step_handlers.ValidateCartHandler"
    handler_version = "1.2.0"

    def call(self, context: StepContext) -> StepHandlerResult:
        items = context.get_input("items")
        if not items:
            return StepHandlerResult.failure(
                message="cart is empty",
                error_type=ErrorType.VALIDATION_ERROR,
                retryable=False,
                error_code="EMPTY_CART",
            )
        total = sum(cents(i["price"]) * i["quantity"] for i in items)
        logger.info("cart of %d items", len(items), extra={"task": str(context.task_uuid)})
        return StepHandlerResult.success(
            {"total_cents": total, "validated_at": datetime.now(timezone.utc).isoformat(), "items": items},
            metadata={"handler": self.name, "version": self.version},
        )


class ReserveHandler(StepHandler):
    handler_name = "shop.step_handlers.ReserveHandler"

    def call(self, context: StepContext) -> StepHandlerResult:
        cart: Mapping[str, Any] | None = context.get_dependency_result("validate_cart")
        if cart is None:
            raise PermanentError(message="there is no cart", error_code="NO_CART")
        if context.retry_count == 0 and context.get_input("stock_is_slow"):
            raise RetryableError(message="stock is slow", retry_after=1, context={"sku": "x"})
        return self.success(
            {"reserved": len(cart["items"]), "attempt": context.retry_count + 1, "max": context.max_retries, "last": context.is_last_retry()}
        )


class ChargeHandler(StepHandler):
    handler_name = "shop.step_handlers.ChargeHandler"

    def call(self, context: StepContext) -> StepHandlerResult:
        total = context.get_dependency_field("validate_cart", "total_cents")
        limit = context.step_config.get("limit_cents", 0)
        if total > limit:
            raise PermanentError(f"{total} is more than {limit}", error_code="LIMIT", metadata={"total": total})
        method = context.get_input_or("payment_method", "card")
        return self.success({"charged": total, "method": method, "first": context.get_dependency_field("validate_cart", "items", 0)}, {"gateway": "test"})


class ConfirmHandler(StepHandler):
    handler_name = "shop.step_handlers.ConfirmHandler"

    def call(self, context: StepContext) -> dict:
        event = context.event
        sequence = event.task_sequence_step
        return {
            "success": True,
            "steps": sorted(context.get_dependency_result_keys()),
            "raw_step": sequence["workflow_step"]["name"],
            "raw_task": sequence["task"]["task_name"],
            "attribute": context.task_sequence_step.workflow_step.name,
            "namespace": context.task_sequence_step.task.namespace_name,
            "correlated": str(context.correlation_id) == event.correlation_id,
            "charges": [r["charged"] for r in context.get_all_dependency_results("charge")],
        }
