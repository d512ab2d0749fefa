"""The new head, Dense(units, relu) -> Dense(classes, softmax), and its training with Adam, in NumPy.

The arithmetic is Keras's: Glorot-uniform kernels, zero biases, mean cross-entropy of each batch, Adam with
its defaults. On cached features it is a second's work; tracing and compiling a Keras model costs several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import TrainingDiverged
from pipeline.types import Float32Features, Float32Outputs, Int64Labels, JsonDict

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # keras.optimizers.Adam


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadParameters:
    """How the head is made and trained."""

    units: int = 1024
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 0.001
    seed: int = 42

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The trained layers.

    Shapes:
        hidden_kernel: (feature_width, units).  hidden_bias: (units,).
        output_kernel: (units, classes).  output_bias: (classes,).  All float32.
    """

    hidden_kernel: NDArray[np.float32]
    hidden_bias: NDArray[np.float32]
    output_kernel: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the weights by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def predict(self, features: Float32Features) -> Float32Outputs:
        """Return class probabilities.

        Shapes:
            features: (num_images, feature_width).  returns: (num_images, classes).
        """
        hidden = np.maximum(features @ self.hidden_kernel + self.hidden_bias, 0)
        return _softmax(hidden @ self.output_kernel + self.output_bias)


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
    features: Float32Features, labels: Int64Labels, num_classes: int, parameters: HeadParameters
) -> tuple[Head, dict[str, list[float]]]:
    """Train a head; the same input and seed give the same head on the same machine.

    Args:
        features: Pooled features of the training pictures.
        labels: Class index of each.
        num_classes: Width of the output.
        parameters: Sizes and rates.

    Shapes:
        features: (num_images, feature_width) float32.  labels: (num_images,) int64.

    Returns:
        The head, and `loss` and `accuracy` of each epoch as Keras's `History` has them.

    Raises:
        TrainingDiverged: when the loss is no longer a number.
    """
    head = initial_head(features.shape[1], num_classes, units=parameters.units, seed=parameters.seed)
    optimizer = _Adam(head, parameters.learning_rate)
    order = np.random.default_rng([parameters.seed, 1])
    history: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for epoch in range(parameters.epochs):
        loss, correct = 0.0, 0
        for rows in _batches(order.permutation(len(labels)), parameters.batch_size):
            batch_loss, batch_correct = _step(head, optimizer, features[rows], labels[rows])
            loss += batch_loss * len(rows)
            correct += batch_correct
        if not np.isfinite(loss):
            raise TrainingDiverged(
                f"The loss of epoch {epoch + 1} is {loss}; lower `model.learning_rate`. "
                f"Received: {parameters.learning_rate}",
                epoch=epoch + 1,
                loss=loss,
            )
        history["loss"].append(loss / len(labels))
        history["accuracy"].append(correct / len(labels))
    return head, history


def _batches(order: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _step(head: Head, optimizer: _Adam, features: Float32Features, labels: Int64Labels) -> tuple[float, int]:
    hidden = np.maximum(features @ head.hidden_kernel + head.hidden_bias, 0)
    outputs = _softmax(hidden @ head.output_kernel + head.output_bias)
    rows = np.arange(len(labels))
    loss = float(-np.log(np.maximum(outputs[rows, labels], 1e-7)).mean())  # Keras clips there too
    correct = int((outputs.argmax(1) == labels).sum())
    slope = outputs
    slope[rows, labels] -= 1
    slope /= len(labels)
    hidden_slope = (slope @ head.output_kernel.T) * (hidden > 0)
    optimizer.update(
        {
            "hidden_kernel": features.T @ hidden_slope,
            "hidden_bias": hidden_slope.sum(0),
            "output_kernel": hidden.T @ slope,
            "output_bias": slope.sum(0),
        }
    )
    return loss, correct


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return result


class _Adam:
    """Keras's Adam, in place: the moments and one scratch array are all it allocates."""

    def __init__(self, head: Head, learning_rate: float) -> None:
        self._variables = head.arrays()
        self._moments = {name: (np.zeros_like(a), np.zeros_like(a)) for name, a in self._variables.items()}
        self._learning_rate, self._step = learning_rate, 0

    def update(self, gradients: dict[str, NDArray[np.float32]]) -> None:
        self._step += 1
        correction = (1 - _BETA_2**self._step) ** 0.5 / (1 - _BETA_1**self._step)
        rate = np.float32(self._learning_rate * correction)
        for name, gradient in gradients.items():
            mean, square = self._moments[name]
            mean *= np.float32(_BETA_1)
            square *= np.float32(_BETA_2)
            scratch = gradient * np.float32(1 - _BETA_1)
            mean += scratch
            np.multiply(gradient, gradient, out=scratch)
            scratch *= np.float32(1 - _BETA_2)
            square += scratch
            np.sqrt(square, out=scratch)
            scratch += np.float32(_EPSILON)
            np.divide(mean, scratch, out=scratch)
            scratch *= rate
            self._variables[name] -= scratch
