"""The new head, Dense(units, relu) -> Dense(classes, softmax), and its training with Adam, in NumPy.

The arithmetic is Keras's: Glorot-uniform kernels, zero biases, mean cross-entropy of each batch, Adam with
its defaults. On cached features it is a second's work; tracing and compiling a Keras model costs several.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pipeline.artifacts.training import HeadParameters, History
from pipeline.errors import TrainingDiverged
from pipeline.tflite.head import Head, softmax
from pipeline.trainer.adam import Adam
from pipeline.types import Float32Features, Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Pictures: TypeAlias = "tuple[Float32Features, Int64Labels]"


def initial_head(feature_width: int, num_classes: int, *, units: int, seed: int) -> Head:
    """Return a head as Keras would first make one: Glorot-uniform kernels and zero biases."""
    random = np.random.default_rng(seed)

    def kernel(rows: int, columns: int) -> NDArray[np.float32]:
        limit = (6 / (rows + columns)) ** 0.5
        return random.uniform(-limit, limit, (rows, columns)).astype(np.float32)

    return Head(
        hidden_kernel=kernel(feature_width, units),
        hidden_bias=np.zeros(units, np.float32),
        output_kernel=kernel(units, num_classes),
        output_bias=np.zeros(num_classes, np.float32),
    )


def train_head(
    features: Float32Features,
    labels: Int64Labels,
    num_classes: int,
    parameters: HeadParameters,
    *,
    validation: Pictures | None = None,
    start: Head | None = None,
    tells: bool = False,
) -> tuple[Head, History]:
    """Train a head; the same input and seed give the same head on the same machine.

    Args:
        features: Pooled features of the training pictures.
        labels: Class index of each.
        num_classes: Width of the output.
        parameters: Sizes and rates.
        validation: Features and labels that judge each epoch and train none.
        start: The head to begin from, instead of a new one; it is changed.
        tells: Whether each epoch has a line in the log.

    Shapes:
        features: (num_images, feature_width) float32.  labels: (num_images,) int64.

    Returns:
        The head, with validation pictures that of the least validation loss; and the history as Keras has it.

    Raises:
        TrainingDiverged: when the loss is no longer a number.
    """
    head = start or initial_head(features.shape[1], num_classes, units=parameters.units, seed=parameters.seed)
    optimizer = Adam(head.arrays(), parameters.learning_rate)
    weights = balance_classes(labels, num_classes) if parameters.class_weights == "balanced" else None
    order, best = np.random.default_rng([parameters.seed, 1]), head
    history: History = {"loss": [], "accuracy": []}
    for epoch in range(parameters.epochs):
        batches = _batches(order.permutation(len(labels)), parameters.batch_size)
        judged = _run_epoch(head, optimizer, (features, labels), batches, weights)
        check_loss(judged[0], epoch, parameters)
        note_epoch(history, "", *judged)
        if validation is not None:
            note_epoch(history, "val_", *judge_head(head, *validation))
        if tells:
            log_epoch(history, parameters.epochs)
        if validation is not None:
            if best_epoch(history) == epoch + 1:
                best = head.copy()
            elif parameters.patience and epoch + 1 - best_epoch(history) >= parameters.patience:
                break
    return (head if validation is None else best), history


def best_epoch(history: History) -> int:
    """Return the epoch, from 1, whose head is kept: the least validation loss, else the last; 0 for none."""
    losses = history.get("val_loss")
    return int(np.argmin(losses)) + 1 if losses else len(history.get("loss", ()))


def balance_classes(labels: Int64Labels, num_classes: int) -> NDArray[np.float32]:
    """Return the weight of each class: inverse to its pictures, 1 on average over them."""
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    weights = np.zeros(num_classes, np.float32)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


def note_epoch(history: History, prefix: str, loss: float, accuracy: float) -> None:
    """Add an epoch to a history: those of training without a prefix, those of validation with `val_`."""
    for name, value in (("loss", loss), ("accuracy", accuracy)):
        history.setdefault(prefix + name, []).append(value)


def log_epoch(history: History, epochs: int, place: tuple[int, int] = (1, 1)) -> None:
    """Write the last epoch to the log; `place` is which training of how many. The page of a run reads it."""
    done = len(history["loss"])
    figures = ", ".join(f"{name} {values[-1]:.4f}" for name, values in history.items())
    training = ", training {} of {}".format(*place) if place != (1, 1) else ""
    logger.info("epoch %d of %d%s: %s", done, epochs, training, figures)


def check_loss(
    loss: float, epoch: int, parameters: HeadParameters, *, key: str = "model.learning_rate"
) -> None:
    """Make sure that an epoch's loss is a number.

    Raises:
        TrainingDiverged: if it is not.
    """
    if not np.isfinite(loss):
        raise TrainingDiverged(
            f"The loss of epoch {epoch + 1} is {loss}; lower `{key}`. Received: {parameters.learning_rate}",
            epoch=epoch + 1,
            loss=loss,
        )


def judge_head(head: Head, features: Float32Features, labels: Int64Labels) -> tuple[float, float]:
    """Return the log loss and the accuracy of a head on pictures that train nothing."""
    outputs = head.predict(features)
    own = np.maximum(outputs[np.arange(len(labels)), labels], 1e-7)
    return float(-np.log(own).mean()), float((outputs.argmax(1) == labels).mean())


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _run_epoch(
    head: Head,
    optimizer: Adam,
    pictures: Pictures,
    batches: Iterator[NDArray[np.int64]],
    weights: NDArray[np.float32] | None,
) -> tuple[float, float]:
    """Train on each batch once; return the mean loss and the accuracy."""
    features, labels = pictures
    loss, correct = 0.0, 0
    for rows in batches:
        mean_loss, num_correct = _step(head, optimizer, features[rows], labels[rows], weights)
        loss, correct = loss + mean_loss * len(rows), correct + num_correct
    return loss / len(labels), correct / len(labels)


def _step(
    head: Head,
    optimizer: Adam,
    features: Float32Features,
    labels: Int64Labels,
    weights: NDArray[np.float32] | None,
) -> tuple[float, int]:
    hidden: NDArray[np.float32] = features @ head.hidden_kernel
    hidden += head.hidden_bias
    np.maximum(hidden, 0, out=hidden)
    outputs = softmax(hidden @ head.output_kernel + head.output_bias)
    rows = np.arange(len(labels))
    losses = -np.log(np.maximum(outputs[rows, labels], 1e-7))  # Keras clips there too
    correct = int((outputs.argmax(1) == labels).sum())
    slope = outputs
    slope[rows, labels] -= 1
    slope /= len(labels)
    if weights is not None:
        losses = losses * weights[labels]
        slope *= weights[labels][:, None]
    hidden_slope = slope @ head.output_kernel.T
    hidden_slope *= hidden > 0
    optimizer.update(
        {"hidden_bias": hidden_slope.sum(0), "output_bias": slope.sum(0)},
        {"hidden_kernel": (features, hidden_slope), "output_kernel": (hidden, slope)},
    )
    return float(losses.mean()), correct
