"""Where the values of a trial come from: a grid, random numbers, or a model of the trials before it.

Every number is found as a position from 0 to 1 on the scale of its parameter, so that the model needs to know
neither types nor scales. The same trials always lead to the same suggestion.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pipeline
from pipeline.engine.jobs import bayesian
from pipeline.engine.v1.hyperparameters import HyperparameterSpec, ParameterSpec
from pipeline.errors import Internal

NUM_RANDOM = 10  # trials before the model has enough to go by; of a small study a third
MODEL_SECONDS = 120
Values = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A trial that has ended.

    Args:
        values: Its hyperparameters.
        objective: Its final metric; None if it has none.
    """

    values: Values
    objective: float | None


def number_text(value: float) -> str:
    """Return a number as an argument: a whole one without a point, so that `type=int` reads it."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _between(first: float, last: float, position: float) -> float:
    return first * (1 - position) + last * position  # `last - first` may be more than a double holds


def _scaled(position: float, low: float, high: float, scale: str) -> float:
    if scale == "UNIT_LOG_SCALE":
        return math.exp(_between(math.log(low), math.log(high), position))
    if scale == "UNIT_REVERSE_LOG_SCALE":
        return low + high - math.exp(_between(math.log(high), math.log(low), position))
    return _between(low, high, position)


def _unscaled(value: float, low: float, high: float, scale: str) -> float:
    if low == high:
        return 0.5
    if scale == "UNIT_REVERSE_LOG_SCALE":
        return 1 - _unscaled(low + high - value, low, high, "UNIT_LOG_SCALE")
    if scale == "UNIT_LOG_SCALE":
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value / 2 - low / 2) / (high / 2 - low / 2)


def _edges(parameter: ParameterSpec) -> tuple[float, float]:
    """Return the ends of the scale: an integer has the numbers that are rounded to it for itself."""
    low, high = parameter.bounds
    return (low - 0.5, high + 0.5) if parameter.type == "INTEGER" else (low, high)


def points_of(parameter: ParameterSpec) -> list[str]:
    """Return the values of a parameter that lists them; none if it is a range."""
    if parameter.type == "CATEGORICAL":
        return parameter.categorical_values
    return [number_text(value) for value in parameter.discrete_values] if parameter.type == "DISCRETE" else []


def value_at(parameter: ParameterSpec, position: float) -> str:
    """Return the value at a position from 0 to 1."""
    if points := points_of(parameter):
        return points[min(int(position * len(points)), len(points) - 1)]
    low, high = parameter.bounds
    value = _scaled(position, *_edges(parameter), parameter.scale_type)
    value = float(round(value)) if parameter.type == "INTEGER" else value
    return number_text(min(max(value, low), high))


def position_of(parameter: ParameterSpec, text: str) -> float | None:
    """Return the position of a value; None if it is not in the parameter's space."""
    if points := points_of(parameter):
        return (points.index(text) + 0.5) / len(points) if text in points else None
    (low, high), value = parameter.bounds, float(text)
    if not low <= value <= high:
        return None
    return min(max(_unscaled(value, *_edges(parameter), parameter.scale_type), 0.0), 1.0)


def random_values(spec: HyperparameterSpec, seed: str) -> dict[str, str]:
    """Return values drawn independently."""
    draw = random.Random(seed)
    return {each.parameter_name: value_at(each, draw.random()) for each in spec.params}


def _grid_points(parameter: ParameterSpec) -> Iterator[str]:
    if points := points_of(parameter):
        yield from points
    else:
        low, high = (int(bound) for bound in parameter.bounds)
        yield from map(str, range(low, high + 1))


def grid(spec: HyperparameterSpec) -> Iterator[dict[str, str]]:
    """Yield every combination, the last parameter varying fastest; none is stored."""
    names = [each.parameter_name for each in spec.params]
    combinations: Iterator[tuple[str, ...]] = iter([()])
    for parameter in spec.params:
        combinations = _extended(combinations, parameter)
    return (dict(zip(names, values, strict=True)) for values in combinations)


def _extended(rows: Iterator[tuple[str, ...]], parameter: ParameterSpec) -> Iterator[tuple[str, ...]]:
    return ((*row, value) for row in rows for value in _grid_points(parameter))


def next_grid_values(spec: HyperparameterSpec, tried: Collection[Values]) -> dict[str, str] | None:
    """Return the first combination that was not tried; None if all were."""
    seen = {tuple(sorted(values.items())) for values in tried}
    return next((values for values in grid(spec) if tuple(sorted(values.items())) not in seen), None)


def is_exhausted(spec: HyperparameterSpec, tried: Collection[Values]) -> bool:
    """Return True if a grid has no combination left."""
    return spec.algorithm == "GRID_SEARCH" and next_grid_values(spec, tried) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a suggestion may use.

    Args:
        ended: The trials that have ended, in order, with those of the jobs that this one resumes.
        running: The values of trials that run.
    """

    ended: Sequence[Observation]
    running: Sequence[Values]

    @property
    def tried(self) -> list[Values]:
        """The values of all trials."""
        return [*(each.values for each in self.ended), *self.running]


def model_request(spec: HyperparameterSpec, history: History, seed: str) -> bayesian.Request:
    """Return what the model is asked: positions of numbers, and categories."""
    return {
        "seed": seed,
        "minimize": spec.is_minimized,
        "space": [each.categorical_values if each.type == "CATEGORICAL" else None for each in spec.params],
        "ended": [
            (row, each.objective)
            for each in history.ended
            if each.objective is not None and (row := _row(spec, each.values)) is not None
        ],
        "running": [row for values in history.running if (row := _row(spec, values)) is not None],
    }


def _row(spec: HyperparameterSpec, values: Values) -> list[str | float] | None:
    row: list[str | float] = []
    for parameter in spec.params:
        text = values[parameter.parameter_name]
        position = position_of(parameter, text)
        if position is None:  # of a job with another range, which this one resumes
            return None
        row.append(text if parameter.type == "CATEGORICAL" else position)
    return row


def values_of(spec: HyperparameterSpec, row: Sequence[str | float]) -> dict[str, str]:
    """Return the values that the model's answer stands for."""
    return {
        each.parameter_name: item if isinstance(item, str) else value_at(each, item)
        for each, item in zip(spec.params, row, strict=True)
    }


def suggest(spec: HyperparameterSpec, history: History, seed: str) -> dict[str, str] | None:
    """Return the values of the next trial; None if a grid has none left.

    Args:
        spec: The study.
        history: Its trials so far.
        seed: Of the random numbers; another one for each trial.
    """
    if spec.algorithm == "GRID_SEARCH":
        return next_grid_values(spec, history.tried)
    request = model_request(spec, history, seed)
    num_random = min(NUM_RANDOM, -(-spec.num_trials // 3))
    if spec.algorithm == "RANDOM_SEARCH" or len(request["ended"]) < num_random:
        return random_values(spec, seed)
    return values_of(spec, _ask_model(request))


def _ask_model(request: bayesian.Request) -> list[str | float]:
    """Ask Optuna in a process of its own: the engine neither loads it nor waits for it on the event loop."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", bayesian.__name__],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": str(Path(pipeline.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=MODEL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Internal(f"No hyperparameters could be suggested: {done.stderr.strip()[-500:]}")
    row: list[str | float] = json.loads(done.stdout)
    return row
