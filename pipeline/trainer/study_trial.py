"""Entry point of a trial: `python -m pipeline.trainer.study_trial --pack-index URI ... --learning-rate=0.01`.

A trial of a hyperparameter tuning job is a training job with some of its arguments given once more. It trains
no model: it cross-validates the head on the training pictures, leaves `trial.json` in its sub-directory and
reports the figure that the study is about. No test picture is read.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.trial_scores import FoldScore, TrialScores
from pipeline.storage import Storage
from pipeline.trainer.cross_fit import collect_training_pictures, cross_fit, deal_folds, open_trunk
from pipeline.trainer.process import prepare_process, run_job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.types import Float32Outputs, Int64Labels

logger = logging.getLogger(__name__)

METRIC_FILE = "CLOUD_ML_HP_METRIC_FILE"
DEFAULT_METRIC_FILE = "/tmp/hypertune/output.metrics"  # ML Engine's, where it names no other
SMALLEST = 1e-7  # probability: losses are clipped where the evaluation clips them


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trial; return the process's exit code."""
    spec = TrainingSpec.from_args(argv)
    prepare_process(keras=bool(spec.head_module))

    def work() -> None:
        scores = run_trial(spec, Storage.from_environment())
        report_metrics({"loss": scores.loss, "accuracy": scores.accuracy})

    return run_job(work)


def run_trial(spec: TrainingSpec, storage: Storage) -> TrialScores:
    """Cross-validate a head, and leave its scores in the trial's directory.

    Raises:
        EmptyDataset: if there are too few training pictures for five folds.
        ModelError: if the backbone does not run on LiteRT here.
        TrainingDiverged: if the loss is no longer a number.
    """
    from pipeline.trainer.trainer import trainer_for

    trainer = trainer_for(spec, storage)
    with tempfile.TemporaryDirectory(prefix="graft-parts-") as temporary:
        pictures = collect_training_pictures(trainer, spec, open_trunk(trainer, Path(temporary)))
    folds = deal_folds(pictures, spec.seed)
    fit = cross_fit(trainer, spec, pictures, folds)
    labels = pictures.pool.labels[: len(folds)]
    scores = TrialScores(
        folds=score_folds(fit.outputs, labels, folds),
        fit_cpu_seconds=fit.cpu_seconds,
        work=pictures.work,
    )
    scores.write(spec.open_job(storage))
    logger.info("loss %.4f, accuracy %.4f: %s", scores.loss, scores.accuracy, spec.head_parameters())
    return scores


def score_folds(
    outputs: Float32Outputs, labels: Int64Labels, folds: NDArray[np.int64]
) -> tuple[FoldScore, ...]:
    """Return how the answers for each fold's pictures are.

    Shapes:
        outputs: (num_images, classes).  labels, folds: (num_images,).
    """
    import numpy as np

    own = outputs[np.arange(len(labels)), labels].astype(np.float64)
    losses, right = -np.log(np.clip(own, SMALLEST, 1 - SMALLEST)), outputs.argmax(1) == labels
    return tuple(
        FoldScore(
            pictures=int(rows.sum()), log_loss=float(losses[rows].mean()), accuracy=float(right[rows].mean())
        )
        for rows in (folds == fold for fold in range(int(folds.max()) + 1))
    )


def report_metrics(metrics: dict[str, float]) -> None:
    """Report metrics as cloudml-hypertune does: lines of JSON in the file that the platform reads."""
    path = Path(os.environ.get(METRIC_FILE) or DEFAULT_METRIC_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    trial = os.environ.get("CLOUD_ML_TRIAL_ID", "0")
    lines = [
        {"timestamp": time.time(), "trial": trial, name: repr(value), "global_step": "1"}
        for name, value in metrics.items()
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
