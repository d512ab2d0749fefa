"""Studies whose trials were never run: each leaves scores that follow from its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import FeatureWork
from pipeline.artifacts.trial_scores import FoldScore, TrialScores
from pipeline.storage import Storage

FOLDS = 5
BEST_RATE = 0.01


def scores_of(values: Mapping[str, str], *, forwarded: int = 0) -> TrialScores:
    """Return scores that are best at one learning rate, and hardly depend on the units."""
    loss = 0.2 + abs(math.log10(float(values["learning-rate"]) / BEST_RATE)) + 1e-3 / float(values["units"])
    folds = [
        FoldScore(pictures=20 + fold, log_loss=loss + 0.01 * fold, accuracy=1 - loss / 4)
        for fold in range(FOLDS)
    ]
    return TrialScores(
        folds=tuple(folds), fit_cpu_seconds=0.5, work=FeatureWork(forwarded=forwarded, cached=10)
    )


def run_trials(
    job: Mapping[str, Any], storage: Storage, number: int, *, first: int = 1, state: str = "SUCCEEDED"
) -> dict[str, Any]:
    """Leave what a number of trials would, and return how the job is then; the first one fills the caches."""
    directory, trials = JobDirectory(storage, job["trainingInput"]["jobDir"]), []
    for trial in range(first, first + number):
        values = {"learning-rate": repr(10.0 ** -(1 + trial / 3)), "units": str(16 * trial)}
        scores_of(values, forwarded=10 * (trial == 1)).write(directory.run(trial))
        trials.append({"trialId": str(trial), "hyperparameters": values, "state": "SUCCEEDED"})
    lost = {"trialId": str(first + number), "hyperparameters": values, "state": "FAILED"}
    return {"state": state, "trainingOutput": {"trials": [*trials, lost]}}
