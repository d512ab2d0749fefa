from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.training import FeatureWork
from pipeline.artifacts.trial_scores import TrialScores
from pipeline.compare.estimates import estimate_mean, judge
from pipeline.engine.jobs.trials import parse_metrics
from pipeline.trainer.study_trial import report_metrics, score_folds


def test_scores_are_those_of_the_comparison() -> None:
    random = np.random.default_rng(0)
    folds = random.integers(-1, 5, 200)
    labels = random.integers(0, 3, 200)
    outputs = random.dirichlet([0.3, 0.3, 0.3], 200).astype(np.float32)
    scores = TrialScores(
        folds=score_folds(outputs, labels, folds),
        fit_cpu_seconds=1.0,
        work=FeatureWork(forwarded=0, cached=0),
    )
    judged = judge(labels[folds >= 0], outputs[folds >= 0])
    assert scores.pictures == (folds >= 0).sum()
    assert scores.loss == pytest.approx(judged.log_loss)
    assert scores.accuracy == pytest.approx(judged.correct.mean())
    assert TrialScores.from_dict(json.loads(json.dumps(scores.to_dict()))) == scores
    estimate = estimate_mean(
        [fold.log_loss for fold in scores.folds], [fold.pictures for fold in scores.folds]
    )
    assert estimate.value == pytest.approx(scores.loss)


def test_the_engine_reads_what_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "output.metrics"
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", str(file))
    report_metrics({"loss": 0.123456789, "accuracy": 0.75})
    assert parse_metrics(file.read_bytes(), "loss") == ((1, 0.123456789),)
    assert parse_metrics(file.read_bytes(), "accuracy") == ((1, 0.75),)
