from __future__ import annotations

import numpy as np
import pytest

from pipeline.npz import read_npz, write_npz
from pipeline.tflite.head import Head, LogisticHead, TrainedHead, head_of, softmax

WIDTH, CLASSES = 6, 3


def logistic_head(seed: int = 0) -> LogisticHead:
    random = np.random.default_rng(seed)
    return LogisticHead(
        output_kernel=random.normal(0, 4, (WIDTH, CLASSES)).astype(np.float32),
        output_bias=random.normal(size=CLASSES).astype(np.float32),
    )


def dense_head(seed: int = 0, units: int = 5) -> Head:
    random = np.random.default_rng(seed)
    return Head(
        hidden_kernel=random.normal(size=(WIDTH, units)).astype(np.float32),
        hidden_bias=random.normal(size=units).astype(np.float32),
        output_kernel=random.normal(size=(units, CLASSES)).astype(np.float32),
        output_bias=random.normal(size=CLASSES).astype(np.float32),
    )


def test_logistic_regression_answers_by_the_direction_of_the_features_alone() -> None:
    head, features = logistic_head(), np.random.default_rng(1).random((4, WIDTH)).astype(np.float32)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = softmax(units @ head.output_kernel + head.output_bias)
    assert head.predict(features) == pytest.approx(expected, abs=1e-6)
    assert head.predict(features * 7) == pytest.approx(expected, abs=1e-6)
    nothing = head.predict(np.zeros((1, WIDTH), np.float32))
    assert nothing == pytest.approx(softmax(head.output_bias[None]), abs=1e-6)


def logits_of(head: TrainedHead, pooled: np.ndarray) -> np.ndarray:
    return head.score(head.hide(pooled) if isinstance(head, Head) else pooled)


@pytest.mark.parametrize("head", [logistic_head(), dense_head()], ids=["logistic", "dense"])
def test_the_map_of_a_picture_adds_up_to_what_the_features_changed(head: TrainedHead) -> None:
    feature_map = np.random.default_rng(2).random((4, 3, 2, WIDTH)).astype(np.float32)
    pooled = feature_map.mean((1, 2))
    outputs, activation = head.explain(pooled, feature_map)
    assert outputs == pytest.approx(head.predict(pooled))
    best, rows = outputs.argmax(1), np.arange(4)
    step = np.float32(1e-2)  # along the features: both heads are linear there, but for the length
    grown = (
        logits_of(head, pooled) if isinstance(head, LogisticHead) else logits_of(head, pooled * (1 + step))
    )
    own = grown[rows, best] - grown.mean(1)
    if isinstance(head, LogisticHead):
        constant = head.output_bias[best] - head.output_bias.mean()
        assert activation.mean((1, 2)) == pytest.approx(own - constant, abs=1e-5)
    else:
        now = logits_of(head, pooled)
        slope = (own - (now[rows, best] - now.mean(1))) / step
        assert activation.mean((1, 2)) == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize("head", [logistic_head(), dense_head()], ids=["logistic", "dense"])
def test_a_head_is_read_back_from_its_file(head: TrainedHead) -> None:
    again = head_of(read_npz(write_npz(head.arrays())))
    assert type(again) is type(head)
    features = np.random.default_rng(3).random((2, WIDTH)).astype(np.float32)
    assert np.array_equal(again.predict(features), head.predict(features))
