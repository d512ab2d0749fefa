"""The searches of hyperparameter tuning jobs, on Branin's function and on a real classifier's head."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.real_pictures import read_pictures
from pipeline.artifacts.training import HeadParameters
from pipeline.engine.jobs import bayesian, search
from pipeline.engine.jobs.search import History, Observation
from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.errors import PipelineError
from pipeline.trainer.head import train_head

SEEDS, TRIALS = 40, 30
Objective = Callable[[Mapping[str, str]], float | None]
BRANIN = [
    {"parameterName": "x", "type": "DOUBLE", "minValue": -5, "maxValue": 10},
    {"parameterName": "y", "type": "DOUBLE", "minValue": 0, "maxValue": 15},
]
HEAD = [
    {
        "parameterName": "learning_rate",
        "type": "DOUBLE",
        "minValue": 1e-5,
        "maxValue": 0.1,
        "scaleType": "UNIT_LOG_SCALE",
    },
    {"parameterName": "epochs", "type": "INTEGER", "minValue": 1, "maxValue": 5},
    {"parameterName": "units", "type": "DISCRETE", "discreteValues": [16, 32, 64]},
    {"parameterName": "batch_size", "type": "DISCRETE", "discreteValues": [16, 32, 64, 128]},
]
SECTION = f"""## Hyperparameter tuning

The best objective of {TRIALS} trials, one after another; median, smallest and largest of {SEEDS} studies.
Smaller is better. *Branin's function* has its minimum at 0.398. *A head*: log loss on 100 held-out
training pictures of `kangaroo_raccoon` after training on 200 others, over learning rate, epochs,
units and batch size.

| study | search | median | smallest | largest |
|---|---|---|---|---|"""


def measure() -> str:
    """Return the section of both studies."""
    studies: tuple[tuple[str, list[dict[str, Any]], Objective], ...] = (
        ("Branin's function", BRANIN, branin),
        ("a head", HEAD, head_objective()),
    )
    rows = []
    for name, params, objective in studies:
        for label, algorithm in (("random", "RANDOM_SEARCH"), ("Bayesian", "ALGORITHM_UNSPECIFIED")):
            best = [run_study(params, algorithm, objective, seed) for seed in range(SEEDS)]
            figures = (statistics.median(best), min(best), max(best))
            rows.append(f"| {name} | {label} | {' | '.join(f'{value:.4f}' for value in figures)} |")
    return "\n".join([SECTION, *rows])


def run_study(params: list[dict[str, Any]], algorithm: str, objective: Objective, seed: int) -> float:
    """Return the best objective of one study."""
    spec = HyperparameterSpec.model_validate(
        {"goal": "MINIMIZE", "maxTrials": TRIALS, "params": params, "algorithm": algorithm}
    )
    ended: list[Observation] = []
    for number in range(1, TRIALS + 1):
        history = History(ended=ended, running=[])
        values = suggest(spec, history, f"study_{seed}/{number}")
        ended.append(Observation(values=values, objective=objective(values)))
    return min(each.objective for each in ended if each.objective is not None)


def suggest(spec: HyperparameterSpec, history: History, seed: str) -> dict[str, str]:
    """Return what the engine would; the model runs in this process, which saves its start."""
    if spec.algorithm == "RANDOM_SEARCH" or len(history.ended) < search.NUM_RANDOM:
        return search.random_values(spec, seed)
    return search.values_of(spec, bayesian.suggest(search.model_request(spec, history, seed)))


def branin(values: Mapping[str, str]) -> float:
    """Return Branin's function at a point."""
    x, y = float(values["x"]), float(values["y"])
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def head_objective() -> Objective:
    """Return the function that trains a head and gives its log loss on held-out training pictures."""
    pictures = read_pictures("kangaroo_raccoon")
    rows = np.random.default_rng(0).permutation(len(pictures.labels))
    train, held_out = rows[:200], rows[200:300]
    number = len(pictures.classes)

    def objective(values: Mapping[str, str]) -> float | None:
        parameters = HeadParameters(
            learning_rate=float(values["learning_rate"]),
            epochs=int(values["epochs"]),
            units=int(values["units"]),
            batch_size=int(values["batch_size"]),
        )
        judges = (pictures.features[held_out], pictures.labels[held_out])
        try:
            _, history = train_head(
                pictures.features[train], pictures.labels[train], number, parameters, validation=judges
            )
        except PipelineError:  # it diverged: the trial would have failed
            return None
        return history["val_loss"][-1]

    return objective
