"""Which parameters of a study matter: Optuna's functional analysis of variance of its trials.

Hutter, Hoos and Leyton-Brown (An efficient approach for assessing hyperparameter importance, ICML 2014): a
random forest predicts the figure of a trial from its parameters, and each parameter explains a share of the
variance of these predictions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.estimate import Setting

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MIN_TRIALS = 8  # with fewer the shares are chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The parameters of a trial and the figure that the study is about."""

    values: Mapping[str, Setting]
    figure: float


def parameter_importance(
    trials: Sequence[Tried], *, logarithmic: Collection[str], seed: int
) -> dict[str, float]:
    """Return the share of each parameter, the largest first; they add up to 1.

    Args:
        trials: Those that have a figure.
        logarithmic: The parameters that were tried on a logarithmic scale.
        seed: Of the forest.

    Returns:
        Nothing for fewer than eight trials, and where all of them do equally well.
    """
    if len(trials) < MIN_TRIALS or len({trial.figure for trial in trials}) == 1:
        return {}
    import optuna  # takes a second
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = [
        {name: _position(value, name in logarithmic) for name, value in trial.values.items()}
        for trial in trials
    ]
    space = {name: _distribution([row[name] for row in rows]) for name in rows[0]}
    study = optuna.create_study()
    for row, trial in zip(rows, trials, strict=True):
        study.add_trial(create_trial(params=row, distributions=space, value=trial.figure))
    varied = [name for name, distribution in space.items() if not distribution.single()]
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), params=varied)
    return {name: float(share) for name, share in shares.items()}


def _position(value: Setting, is_logarithmic: bool) -> str | float:
    if isinstance(value, int | float):
        return math.log(value) if is_logarithmic else float(value)
    return str(value)


def _distribution(values: Sequence[str | float]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) == len(values):
        return FloatDistribution(min(numbers), max(numbers))
    return CategoricalDistribution(sorted(set(map(str, values))))
