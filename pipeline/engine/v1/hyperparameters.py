"""`trainingInput.hyperparameters` as requests send it: what is tuned, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, ValidationInfo, model_validator

from pipeline.engine.v1.fields import CONTROL, Wire
from pipeline.errors import InvalidArgument

DEFAULT_TAG = "training/hptuning/metric"  # v1's, and that of cloudml-hypertune
RESERVED_TAGS = frozenset({"timestamp", "trial", "global_step"})  # other keys of a line of a metric file
PARAMETER_NAME = re.compile(r"[^\W\d][\w.-]{0,127}", re.ASCII)  # it becomes `--name=value`
MAX_TRIALS, MAX_PARALLEL, MAX_PARAMS, MAX_VALUES = 1000, 100, 64, 1000
MAX_INTEGER = 2**53  # JSON numbers are doubles, in which larger integers are not exact
MAX_CATEGORY_LENGTH = 1000

Category = Annotated[str, Field(min_length=1, max_length=MAX_CATEGORY_LENGTH)]


class ParameterSpec(Wire):
    """One parameter; `check` has the rules that concern several fields."""

    path_prefix = "hyperparameters.params"
    unspecified = {"scale_type": {"SCALE_TYPE_UNSPECIFIED": "NONE"}}
    parameter_name: str
    type: Literal["DOUBLE", "INTEGER", "CATEGORICAL", "DISCRETE"]
    min_value: FiniteFloat | None = None
    max_value: FiniteFloat | None = None
    categorical_values: list[Category] = Field([], max_length=MAX_VALUES)
    discrete_values: list[FiniteFloat] = Field([], max_length=MAX_VALUES)
    scale_type: Literal["NONE", "UNIT_LINEAR_SCALE", "UNIT_LOG_SCALE", "UNIT_REVERSE_LOG_SCALE"] = "NONE"

    @property
    def is_logarithmic(self) -> bool:
        """Whether only positive values can be scaled."""
        return self.scale_type in ("UNIT_LOG_SCALE", "UNIT_REVERSE_LOG_SCALE")

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value of a number; a bound that is left out is 0, as in proto3."""
        return self.min_value or 0.0, self.max_value or 0.0

    def check(self, where: str) -> None:
        """Check the rules of its type.

        Raises:
            InvalidArgument: naming the field that breaks one.
        """
        if not PARAMETER_NAME.fullmatch(self.parameter_name):
            raise _invalid(
                f"{where}.parameter_name",
                "A parameter becomes the argument --name=value: its name should start with a letter or an "
                "underscore and contain only letters, numbers, underscores, hyphens and dots, 128 at most.",
                self.parameter_name,
            )
        checks = {"CATEGORICAL": self._check_categories, "DISCRETE": self._check_points}
        checks.get(self.type, self._check_range)(where)

    def _check_categories(self, where: str) -> None:
        self._check_absent(where, "discrete_values", "min_value", "max_value")
        if self.scale_type != "NONE":
            raise _invalid(f"{where}.scale_type", "A CATEGORICAL parameter has no scale.", self.scale_type)
        values, field = self.categorical_values, f"{where}.categorical_values"
        if not values:
            raise InvalidArgument("A CATEGORICAL parameter needs its values.", field=field)
        for index, value in enumerate(values):
            if CONTROL.search(value):
                raise _invalid(f"{field}.{index}", "A value has no control characters.", value)
            if value in values[:index]:
                raise _invalid(f"{field}.{index}", "Each value is given once.", value)

    def _check_points(self, where: str) -> None:
        self._check_absent(where, "categorical_values")
        values, field = self.discrete_values, f"{where}.discrete_values"
        if not values:
            raise InvalidArgument("A DISCRETE parameter needs its values.", field=field)
        for index, (before, value) in enumerate(zip(values, values[1:], strict=False), start=1):
            if value <= before:
                raise _invalid(f"{field}.{index}", "The values should be strictly increasing.", value)
        self._check_positive(f"{field}.0", values[0])

    def _check_range(self, where: str) -> None:
        self._check_absent(where, "categorical_values", "discrete_values")
        low, high = self.bounds
        if self.min_value is None and self.max_value is None:
            text = f"A parameter of the type {self.type} needs minValue and maxValue."
            raise InvalidArgument(text, field=f"{where}.min_value")
        if self.type == "INTEGER":
            for name, value in (("min_value", low), ("max_value", high)):
                if value != int(value) or abs(value) > MAX_INTEGER:
                    raise _invalid(f"{where}.{name}", "Expected a whole number, 2**53 at most.", value)
        if low > high:
            text = f"The range is upside down: minValue {low:g} is greater than maxValue {high:g}."
            raise InvalidArgument(text, field=f"{where}.min_value")
        self._check_positive(f"{where}.min_value", low)

    def _check_positive(self, field: str, smallest: float) -> None:
        if self.is_logarithmic and smallest <= 0:
            raise _invalid(field, f"{self.scale_type} takes only values greater than 0.", smallest)

    def _check_absent(self, where: str, *names: str) -> None:
        for name in names:
            if getattr(self, name):  # 0 is what proto3 sends for a number that is not set
                text = f"This field is not for a parameter of the type {self.type}."
                raise InvalidArgument(text, field=f"{where}.{name}")


class HyperparameterSpec(Wire):
    """`trainingInput.hyperparameters`."""

    path_prefix = "hyperparameters"
    unspecified = {"goal": {"GOAL_TYPE_UNSPECIFIED": "MAXIMIZE"}}
    goal: Literal["MAXIMIZE", "MINIMIZE"] = "MAXIMIZE"
    params: list[ParameterSpec] = Field(min_length=1, max_length=MAX_PARAMS)
    max_trials: int = Field(1, ge=0, le=MAX_TRIALS)
    max_parallel_trials: int = Field(1, ge=0, le=MAX_PARALLEL)
    max_failed_trials: int = Field(0, ge=0, le=MAX_TRIALS)
    hyperparameter_metric_tag: str = Field("", max_length=256)
    resume_previous_job_id: str = ""
    enable_trial_early_stopping: bool = False
    algorithm: Literal["ALGORITHM_UNSPECIFIED", "GRID_SEARCH", "RANDOM_SEARCH"] = "ALGORITHM_UNSPECIFIED"

    @property
    def tag(self) -> str:
        """The metric that is optimised."""
        return self.hyperparameter_metric_tag or DEFAULT_TAG

    @property
    def num_trials(self) -> int:
        """How many trials are run at most; 0 is v1's default, 1."""
        return self.max_trials or 1

    @property
    def num_parallel(self) -> int:
        """How many trials run at the same time at most."""
        return self.max_parallel_trials or 1

    @property
    def is_minimized(self) -> bool:
        """Whether a smaller metric is better."""
        return self.goal == "MINIMIZE"

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        where = f"{(info.context or {}).get('where', '')}.hyperparameters".lstrip(".")
        for index, parameter in enumerate(self.params):
            parameter.check(f"{where}.params.{index}")
        _check_names([parameter.parameter_name for parameter in self.params], where)
        if self.tag in RESERVED_TAGS:
            field = f"{where}.hyperparameter_metric_tag"
            raise _invalid(field, "The lines of a metric file have this key for something else.", self.tag)
        self._check_grid(where)
        return self

    def _check_grid(self, where: str) -> None:
        continuous = [each.parameter_name for each in self.params if each.type == "DOUBLE"]
        if self.algorithm == "GRID_SEARCH" and continuous:
            raise InvalidArgument(
                "GRID_SEARCH takes INTEGER, CATEGORICAL and DISCRETE parameters only. "
                f"These are DOUBLE: {', '.join(continuous)}.",
                field=f"{where}.algorithm",
            )

    def signature(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """Return what two studies must share so that one can go on with the trials of the other."""
        types = sorted((each.parameter_name, each.type) for each in self.params)
        return self.goal, self.tag, tuple(types)


def _check_names(names: Sequence[str], where: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            field = f"{where}.params.{index}.parameter_name"
            raise _invalid(field, "The names of parameters should be unique.", name)


def _invalid(field: str, text: str, value: str | float) -> InvalidArgument:
    return InvalidArgument(f"{text} Received: {value!r}", field=field)
