from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.training import HeadParameters
from pipeline.errors import TrainingDiverged
from pipeline.trainer.head import initial_head, train_head


def clusters(num_pictures: int = 90, width: int = 6, classes: int = 3) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    labels = np.arange(num_pictures) % classes
    features = random.normal(0, 0.5, (num_pictures, width)) + 3 * np.eye(width)[labels]
    return features.astype(np.float32), labels


def reference(features: Any, labels: Any, parameters: HeadParameters) -> tuple[list[Any], list[float]]:
    """Train in double precision, from the formulas of Adam's paper and the chain rule, sample by sample."""
    start = initial_head(features.shape[1], 3, units=parameters.units, seed=parameters.seed)
    weights = [array.astype(np.float64) for array in start.arrays().values()]
    first, second = ([np.zeros_like(array) for array in weights] for _ in range(2))
    order, step, losses = np.random.default_rng([parameters.seed, 1]), 0, []
    for _ in range(parameters.epochs):
        rows, total = order.permutation(len(labels)), 0.0
        for begin in range(0, len(rows), parameters.batch_size):
            batch = rows[begin : begin + parameters.batch_size]
            slopes = [np.zeros_like(array) for array in weights]
            for row in batch:
                x = features[row].astype(np.float64)
                before = x @ weights[0] + weights[1]
                hidden = np.maximum(before, 0)
                logits = hidden @ weights[2] + weights[3]
                p = np.exp(logits) / np.exp(logits).sum()
                total -= np.log(p[labels[row]])
                error = (p - np.eye(3)[labels[row]]) / len(batch)
                back = weights[2] @ error * (before > 0)
                for slope, value in zip(
                    slopes, (np.outer(x, back), back, np.outer(hidden, error), error), strict=True
                ):
                    slope += value
            step += 1
            for array, m, v, slope in zip(weights, first, second, slopes, strict=True):
                m[:] = 0.9 * m + 0.1 * slope
                v[:] = 0.999 * v + 0.001 * slope**2
                rate = parameters.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                array -= rate * m / (np.sqrt(v) + 1e-7)
        losses.append(total / len(labels))
    return weights, losses


def test_training_equals_the_formulas_in_double_precision() -> None:
    features, labels = clusters(num_pictures=25)
    parameters = HeadParameters(units=5, epochs=3, batch_size=8, learning_rate=0.01, seed=3)
    head, history = train_head(features, labels, 3, parameters)
    weights, losses = reference(features, labels, parameters)
    for array, expected in zip(head.arrays().values(), weights, strict=True):
        assert array == pytest.approx(expected, abs=2e-5)
    assert history["loss"] == pytest.approx(losses, abs=1e-5)


def test_separable_classes_are_learned() -> None:
    features, labels = clusters()
    head, history = train_head(features, labels, 3, HeadParameters(units=16, epochs=30, learning_rate=0.01))
    assert history["accuracy"][-1] == 1.0
    assert history["loss"][-1] < history["loss"][0] / 10
    outputs = head.predict(features)
    assert (outputs.argmax(1) == labels).all()
    assert outputs.sum(1) == pytest.approx(1, abs=1e-5)


def test_the_seed_alone_decides() -> None:
    features, labels = clusters()
    runs = [
        train_head(features, labels, 3, HeadParameters(units=8, epochs=2, seed=seed))[0] for seed in (0, 0, 1)
    ]
    assert np.array_equal(runs[0].hidden_kernel, runs[1].hidden_kernel)
    assert not np.array_equal(runs[0].hidden_kernel, runs[2].hidden_kernel)


def test_first_weights_are_glorot_uniform_with_zero_biases() -> None:
    head = initial_head(300, 2, units=500, seed=0)
    limit = np.sqrt(6 / 800)
    assert np.abs(head.hidden_kernel).max() == pytest.approx(limit, rel=1e-3)
    assert head.hidden_kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert not head.hidden_bias.any()
    assert not head.output_bias.any()


def test_a_loss_that_is_no_number_names_the_epoch_and_the_setting() -> None:
    features, labels = clusters()
    features[0, 0] = np.nan
    with pytest.raises(TrainingDiverged, match=r"epoch 1 is nan; lower `model.learning_rate`") as caught:
        train_head(features, labels, 3, HeadParameters(units=4))
    assert caught.value.details["epoch"] == 1
