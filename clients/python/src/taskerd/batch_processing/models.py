"""Batches as data: ranges of work, what analyzers and workers report, totals."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from .._model import Model
from ..models import unwrap_result

if TYPE_CHECKING:
    from ..context import StepContext

__all__ = [
    "BatchAggregationResult",
    "BatchAnalyzerOutcome",
    "BatchMetadata",
    "BatchWorkerConfig",
    "BatchWorkerContext",
    "BatchWorkerOutcome",
    "CreateBatchesOutcome",
    "CursorConfig",
    "FailureStrategy",
    "NoBatchesOutcome",
    "RustBatchWorkerInputs",
    "RustCursorConfig",
    "aggregate_batch_results",
    "create_batches",
    "cursor_map",
    "no_batches",
]


class FailureStrategy(str, enum.Enum):
    """What the failure of one batch means for the others."""

    CONTINUE_ON_FAILURE = "continue_on_failure"
    FAIL_FAST = "fail_fast"
    ISOLATE = "isolate"

    def __str__(self) -> str:
        return self.value


@dataclass
class CursorConfig(Model):
    """A range of work: from ``start_cursor`` up to but not including ``end_cursor``. Cursors are mostly
    integers, but any JSON value will do."""

    start_cursor: Any
    end_cursor: Any
    step_size: int = 1
    metadata: Dict[str, Any] = field(default_factory=dict)


@dataclass
class BatchWorkerConfig(Model):
    """One worker's share, when the work is divided by the number of workers."""

    batch_id: str
    cursor_start: int
    cursor_end: int
    row_count: int
    worker_index: int = 0
    total_workers: int = 1


@dataclass
class RustCursorConfig(Model):
    """A batch as the daemon stores it."""

    batch_id: str
    start_cursor: Any = 0
    end_cursor: Any = 0
    batch_size: int = 0


@dataclass
class BatchMetadata(Model):
    """What all batches of a step share."""

    cursor_field: str = "id"
    failure_strategy: Union[FailureStrategy, str] = FailureStrategy.ISOLATE

    def __post_init__(self) -> None:
        try:
            self.failure_strategy = FailureStrategy(self.failure_strategy)
        except ValueError:
            pass  # one that this version does not know


@dataclass
class RustBatchWorkerInputs(Model):
    """The inputs of a batch worker's step."""

    cursor: RustCursorConfig
    batch_metadata: BatchMetadata = field(default_factory=BatchMetadata)
    is_no_op: bool = False
    _nested: ClassVar[Dict[str, Any]] = {
        "cursor": (RustCursorConfig, False),
        "batch_metadata": (BatchMetadata, False),
    }


@dataclass
class BatchAnalyzerOutcome(Model):
    """The batches that an analyzer wants."""

    cursor_configs: List[Any] = field(default_factory=list)
    total_items: Optional[int] = None
    batch_metadata: Dict[str, Any] = field(default_factory=dict)
    _nested: ClassVar[Dict[str, Any]] = {"cursor_configs": (CursorConfig, True)}

    @classmethod
    def from_ranges(
        cls,
        ranges: Iterable[Union[Tuple[Any, Any], CursorConfig]],
        step_size: int = 1,
        total_items: Optional[int] = None,
        batch_metadata: Optional[Dict[str, Any]] = None,
    ) -> "BatchAnalyzerOutcome":
        """From pairs of start and end, or what ``create_cursor_ranges`` returns."""
        configs = [r if isinstance(r, CursorConfig) else CursorConfig(r[0], r[1], step_size) for r in ranges]
        if total_items is None and all(_is_range(c.start_cursor, c.end_cursor) for c in configs):
            total_items = sum(c.end_cursor - c.start_cursor for c in configs)
        return cls(configs, total_items, dict(batch_metadata or {}))


@dataclass
class BatchWorkerOutcome(Model):
    """What one batch has done."""

    items_processed: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    items_skipped: int = 0
    results: List[Any] = field(default_factory=list)
    errors: List[Any] = field(default_factory=list)
    last_cursor: Any = None
    batch_metadata: Dict[str, Any] = field(default_factory=dict)


@dataclass
class BatchWorkerContext(Model):
    """What a batch worker's handler needs to know of its batch."""

    batch_id: str
    cursor_config: CursorConfig
    batch_index: int = 0
    total_batches: int = 1
    batch_metadata: Dict[str, Any] = field(default_factory=dict)
    checkpoint: Dict[str, Any] = field(default_factory=dict)
    is_no_op: bool = False
    batch_size: int = 0
    _nested: ClassVar[Dict[str, Any]] = {"cursor_config": (CursorConfig, False)}

    @classmethod
    def from_step_context(cls, context: "StepContext") -> Optional["BatchWorkerContext"]:
        """From a step's inputs; None if the step is no batch worker."""
        inputs = context.step_inputs or {}
        cursor = inputs.get("cursor")
        if isinstance(cursor, Mapping):
            return cls._from_inputs(inputs, cursor, context.checkpoint)
        for source in (inputs, context.step_config, context.input_data):
            given = (source or {}).get("batch_context")
            if isinstance(given, Mapping):
                return cls._from_given(given, context.checkpoint)
        return None

    @classmethod
    def _from_inputs(
        cls, inputs: Mapping[str, Any], cursor: Mapping[str, Any], checkpoint: Optional[Dict[str, Any]]
    ) -> "BatchWorkerContext":
        metadata = dict(inputs.get("batch_metadata") or {})
        batch_id = str(cursor.get("batch_id") or "unknown")
        start, end = cursor.get("start_cursor", 0), cursor.get("end_cursor", 0)
        size = cursor.get("batch_size")
        if not isinstance(size, int):
            size = end - start if _is_range(start, end) else 0
        return cls(
            batch_id,
            CursorConfig(start, end, cursor.get("step_size") or size or 1, dict(cursor.get("metadata") or {})),
            _index(inputs, batch_id),
            inputs.get("total_batches") or metadata.get("total_batches") or 1,
            metadata,
            dict(checkpoint or {}),
            bool(inputs.get("is_no_op")),
            size,
        )

    @classmethod
    def _from_given(
        cls, given: Mapping[str, Any], checkpoint: Optional[Dict[str, Any]]
    ) -> "BatchWorkerContext":
        """From a map of this class's own fields, as tests and older files write it."""
        cursor = given.get("cursor_config") or {
            k: given[k] for k in ("start_cursor", "end_cursor", "step_size") if k in given
        }
        cursor = {"start_cursor": 0, "end_cursor": 0, **cursor}
        made = cls.from_dict({"batch_id": "unknown", **given, "cursor_config": cursor})
        if checkpoint and not made.checkpoint:
            made.checkpoint = dict(checkpoint)
        return made

    @property
    def start_cursor(self) -> Any:
        """Where the batch begins."""
        return self.cursor_config.start_cursor

    @property
    def end_cursor(self) -> Any:
        """Where the batch ends; not part of it."""
        return self.cursor_config.end_cursor

    @property
    def step_size(self) -> int:
        """The analyzer's step size, or the size of the batch."""
        return self.cursor_config.step_size

    @property
    def checkpoint_cursor(self) -> Any:
        """Where the last checkpoint stands, None without one."""
        return self.checkpoint.get("cursor")

    @property
    def checkpoint_items_processed(self) -> int:
        """Items done up to the last checkpoint."""
        return int(self.checkpoint.get("items_processed") or 0)

    @property
    def accumulated_results(self) -> Any:
        """What the parts before the last checkpoint have collected."""
        return self.checkpoint.get("accumulated_results")

    def has_checkpoint(self) -> bool:
        """True if a checkpoint with a cursor exists."""
        return self.checkpoint_cursor is not None


def _index(inputs: Mapping[str, Any], batch_id: str) -> int:
    given = inputs.get("batch_index")
    if isinstance(given, int):
        return given
    return max(int(batch_id) - 1, 0) if batch_id.isdecimal() else 0


def _is_range(start: Any, end: Any) -> bool:
    return type(start) is int and type(end) is int


def cursor_map(config: Any, number: int) -> Dict[str, Any]:
    """The daemon's form of one range, the ``number``-th counted from 1. Takes any of the classes above, or a map."""
    if isinstance(config, BatchWorkerConfig):
        config = RustCursorConfig(config.batch_id, config.cursor_start, config.cursor_end, config.row_count)
    data = dict(config) if isinstance(config, Mapping) else config.model_dump()
    start: Any = data.get("start_cursor", data.get("cursor_start"))
    end: Any = data.get("end_cursor", data.get("cursor_end"))
    size: Any = data.get("batch_size") or data.get("row_count")
    if not size:
        size = end - start if _is_range(start, end) else data.get("step_size") or 1
    out = {
        "batch_id": str(data.get("batch_id") or f"{number:03d}"),
        "start_cursor": start,
        "end_cursor": end,
        "batch_size": size,
    }
    if data.get("step_size") not in (None, 1):
        out["step_size"] = data["step_size"]
    if data.get("metadata"):
        out["metadata"] = data["metadata"]
    return out


@dataclass
class NoBatchesOutcome(Model):
    """There is nothing to do."""

    type: str = "no_batches"


@dataclass
class CreateBatchesOutcome(Model):
    """The daemon shall create workers."""

    worker_template_name: str
    worker_count: int = 0
    cursor_configs: List[Any] = field(default_factory=list)
    total_items: int = 0
    type: str = "create_batches"
    _nested: ClassVar[Dict[str, Any]] = {"cursor_configs": (RustCursorConfig, True)}


def no_batches() -> NoBatchesOutcome:
    """The outcome of an analyzer that found nothing to do."""
    return NoBatchesOutcome()


def create_batches(
    worker_template_name: str,
    worker_count: Optional[int] = None,
    cursor_configs: Sequence[Any] = (),
    total_items: int = 0,
) -> CreateBatchesOutcome:
    """The outcome of an analyzer that wants workers, one for each cursor."""
    count = len(cursor_configs) if worker_count is None else worker_count
    return CreateBatchesOutcome(worker_template_name, count, list(cursor_configs), total_items)


@dataclass
class BatchAggregationResult(Model):
    """Totals over all batches."""

    total_processed: int = 0
    total_succeeded: int = 0
    total_failed: int = 0
    total_skipped: int = 0
    batch_count: int = 0
    success_rate: float = 0.0
    errors: List[Any] = field(default_factory=list)
    error_count: int = 0


def aggregate_batch_results(
    worker_results: Iterable[Optional[Mapping[str, Any]]], max_errors: int = 100
) -> BatchAggregationResult:
    """Add up what batch workers returned. Entries that are None are left out; envelopes are unwrapped."""
    total = BatchAggregationResult()
    errors: List[Any] = []
    for entry in worker_results:
        found = unwrap_result(entry) if isinstance(entry, Mapping) and "items_processed" not in entry else entry
        if isinstance(found, Model):
            found = found.model_dump()
        if not isinstance(found, Mapping):
            continue
        total.batch_count += 1
        total.total_processed += found.get("items_processed") or 0
        total.total_succeeded += found.get("items_succeeded") or 0
        total.total_failed += found.get("items_failed") or 0
        total.total_skipped += found.get("items_skipped") or 0
        errors.extend(found.get("errors") or ())
    if total.total_processed:
        total.success_rate = total.total_succeeded / total.total_processed
    total.errors, total.error_count = errors[:max_errors], len(errors)
    return total
