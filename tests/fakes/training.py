"""A record of a training job that never ran."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts.training import FeatureWork, TrainerPackage, TrainingRecord


def training_record(**changes: Any) -> TrainingRecord:
    """Return a record of two epochs, changed as asked."""
    values: dict[str, Any] = {
        "history": {"loss": [0.7, 0.4], "accuracy": [0.5, 0.9]},
        "epochs_run": 2,
        "best_epoch": 2,
        "features": (),
        "work": FeatureWork(forwarded=4, cached=0),
        "package": TrainerPackage(version="0.1.0", file="x"),
        "classes": ("ant", "bee"),
        "parameters": {"backbone": "efficientnet_lite0", "units": 4},
        "seconds": {"head": 1.0},
        "cpu_seconds": {"head": 1.0},
    }
    return TrainingRecord(**{**values, **changes})
