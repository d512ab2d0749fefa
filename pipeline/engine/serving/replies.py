"""What a worker answers, as frames: the same from every runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.wire import Frame
from pipeline.errors import ApiError, Internal, PipelineError


def online_frame(answer: Sequence[Any] | PredictionFailed) -> Frame:
    """Return the whole body of `:predict`: the predictions, or why there are none."""
    if isinstance(answer, PredictionFailed):
        return Frame({}, _to_json({"error": f"Prediction failed: {answer.message}"}))
    return Frame({}, _to_json({"predictions": answer}))


def lines_frame(results: Sequence[Any], errors: Sequence[dict[str, Any]]) -> Frame:
    """Return a batch's results, a line each, and what was wrong with its other lines."""
    return Frame(
        {"errors": list(errors), "count": len(results)}, b"".join(_to_json(row) + b"\n" for row in results)
    )


def error_frame(error: PipelineError) -> Frame:
    """Return a fault as a frame."""
    fault = error if isinstance(error, ApiError) else Internal(error.message)
    return Frame({"fault": {"kind": type(fault).__name__, "message": fault.message, "field": fault.field}})


def _to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
