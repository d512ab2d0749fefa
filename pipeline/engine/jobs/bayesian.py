"""Optuna's tree-structured Parzen estimator, in a process of its own.

`python -P -m pipeline.engine.jobs.bayesian` reads a `Request` and writes the suggested row, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Row = list[str | float]


class Request(TypedDict):
    """The trials so far: a number is a position from 0 to 1, a category is its name.

    Args:
        seed: Of the random numbers.
        minimize: Whether a smaller objective is better.
        space: The categories of each parameter; None for a number.
        ended: The row and the objective of each trial that has ended.
        running: The rows of trials that run: the next one keeps away from them.
    """

    seed: str
    minimize: bool
    space: list[list[str] | None]
    ended: list[tuple[Row, float]]
    running: list[Row]


def _distributions(request: Request) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        str(index): FloatDistribution(0, 1) if categories is None else CategoricalDistribution(categories)
        for index, categories in enumerate(request["space"])
    }


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def suggest(request: Request) -> Row:
    """Return the next row to try."""
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = _distributions(request)
    study = optuna.create_study(
        direction="minimize" if request["minimize"] else "maximize",
        sampler=optuna.samplers.TPESampler(seed=_seed(request["seed"]), n_startup_trials=1),
    )
    for row, objective in request["ended"]:
        params = dict(zip(space, row, strict=True))
        study.add_trial(create_trial(params=params, distributions=space, value=objective))
    for row in request["running"]:
        params = dict(zip(space, row, strict=True))
        study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=space))
    suggested = study.ask(space).params
    return [suggested[name] for name in space]


if __name__ == "__main__":
    json.dump(suggest(json.load(sys.stdin)), sys.stdout)
