"""Functions: inputs and dependencies by name, models, coroutines, values of every kind."""
import asyncio
import dataclasses
import datetime
import decimal
import enum
import uuid

from tasker_core import StepHandlerResult
from tasker_core.errors import PermanentError, RetryableError, TimeoutError, ValidationError
from tasker_core.step_handler.functional import depends_on, inputs, step_handler
from tasker_core.types import ErrorType


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Extracted:
    rows: int = 0
    source: str = "nowhere"


@step_handler("pipeline_extract", version="2.0.0")
@inputs("source", "rows")
def extract(source, rows, context):
    if source is None:
        raise ValidationError("source is needed", error_code="SOURCE")
    return {"rows": rows or 10, "source": source, "id": str(context.step_uuid)}


@step_handler("pipeline_transform")
@depends_on(extracted=("extract", Extracted))
async def transform(extracted):
    await asyncio.sleep(0)
    if isinstance(extracted, dict):
        return {"rows": extracted["rows"] * 2}
    return {"rows": extracted.rows * 2, "source": extracted.source}


@step_handler("pipeline_values")
def values():
    return {"when": datetime.date(2024, 2, 29), "id": uuid.UUID(int=7), "price": decimal.Decimal("1.10"), "colour": Colour.RED, "tuple": (1, 2), "set": {3}, "data": Extracted(4)}


@step_handler("pipeline_list")
def plain_list():
    return [1, 2, 3]


@step_handler("pipeline_nothing")
def nothing(_context):
    assert _context.step_config == {}


@step_handler("pipeline_load")
@depends_on(transformed="transform", values="values")
@depends_on(listed="list", nothing="nothing", absent="no_such_step")
@inputs("source")
def load(transformed, values, listed, nothing, absent, source):
    return StepHandlerResult.success({"rows": transformed["rows"], "values": values, "listed": listed, "nothing": nothing, "absent": absent, "source": source})


@step_handler("pipeline_fail")
@inputs("how")
def fail(how, context):
    kinds = {
        "permanent": PermanentError("for good", error_code="P1", context={"a": 1}),
        "retryable": RetryableError("again", retry_after=1),
        "timeout": TimeoutError("too slow"),
        "value": ValueError("odd value"),
    }
    if how == "returned":
        return StepHandlerResult.failure("returned", error_type="my_own_type", retryable=False, metadata={"k": "v"}, error_code="R1")
    if how == "enum":
        return StepHandlerResult.failure("enum", ErrorType.PERMANENT_ERROR, False)
    if context.is_retry() and how != "permanent":
        return {"recovered": True, "retry_count": context.retry_count}
    raise kinds[how]
