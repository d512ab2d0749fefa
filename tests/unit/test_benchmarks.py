"""Benchmarks on features made by hand: that they go with what the pipeline returns today."""

from __future__ import annotations

import numpy as np

from benchmarks.quality import retraining_section
from benchmarks.real_pictures import RealPictures


def test_retraining_tells_the_cross_validation_beside_the_splits() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    features = (random.normal(0, 1, (80, 8)) + 4 * np.eye(8)[labels]).astype(np.float32)
    pictures = RealPictures(classes=["ant", "bee"], labels=labels, features=features, views=[])
    row = retraining_section({"made_up": pictures}).splitlines()[-1]
    name, accuracy, _, validated, spread, _ = (cell.strip() for cell in row.strip("|").split("|"))
    assert name == "`made_up`"
    assert abs(float(accuracy) - float(validated)) < 0.1
    assert 0 <= float(spread) < 0.2
