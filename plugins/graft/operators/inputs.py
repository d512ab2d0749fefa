"""Inputs of operators that are results of earlier tasks: templates, and what they are rendered to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from pipeline.artifacts.record import Record
from pipeline.artifacts.steps import GateResult, SmokeTestResult
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from pipeline.types import JsonObject

StepT = TypeVar("StepT", bound=Record)
StepInput: TypeAlias = "XComArg | str | JsonObject | Sequence[JsonObject]"


def read_step(kind: type[StepT], value: StepInput | None) -> StepT:
    """Return the result of an earlier task.

    Raises:
        ConfigError: if the input is none, for instance because its template was not rendered.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"Expected the {kind.__name__} of an earlier task; give `task.output`, or a template in a DAG "
            f"with `render_template_as_native_obj=True`. Received: {value!r}"
        )
    return kind.from_dict(value)


def read_steps(kind: type[StepT], value: StepInput) -> list[StepT]:
    """Return the results of a mapped task; Airflow gives a single one without a list."""
    if isinstance(value, Mapping):
        return [read_step(kind, value)]
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [read_step(kind, value)]  # raises
    return [read_step(kind, item) for item in value]


def read_judged_gate(gate: StepInput, smoke_test: StepInput | None) -> GateResult:
    """Return the result of the gate step with the rule that the smoke test judged, if there was one."""
    result = read_step(GateResult, gate)
    if smoke_test is None:
        return result
    decision = read_step(SmokeTestResult, smoke_test).judge(result.decision)
    summary = result.summary.judged(decision) if result.summary else None
    return replace(result, decision=decision, summary=summary)
