"""The heads in NumPy: Dense(units, relu) -> Dense(classes, softmax), and logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pipeline.tflite.novelty import unit_rows
from pipeline.types import Float32Features, Float32Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def num_bytes(self) -> int:
        """Size of the weights."""
        return sum(array.nbytes for array in self.arrays().values())

    def copy(self) -> Head:
        """Return a head that training this one does not change."""
        return Head(**{name: array.copy() for name, array in self.arrays().items()})

    def hide(self, features: Float32Features) -> NDArray[np.float32]:
        """Return the hidden units' values.

        Shapes:
            features: (num_images, feature_width).  returns: (num_images, units).
        """
        hidden: NDArray[np.float32] = np.maximum(features @ self.hidden_kernel + self.hidden_bias, 0)
        return hidden

    def score(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits.

        Shapes:
            hidden: (num_images, units).  returns: (num_images, classes).
        """
        logits: NDArray[np.float32] = hidden @ self.output_kernel + self.output_bias
        return logits

    def classify(self, hidden: NDArray[np.float32]) -> Float32Outputs:
        """Return class probabilities.

        Shapes:
            hidden: (num_images, units).  returns: (num_images, classes).
        """
        return softmax(self.score(hidden))

    def predict(self, features: Float32Features) -> Float32Outputs:
        """Return class probabilities.

        Shapes:
            features: (num_images, feature_width).  returns: (num_images, classes).
        """
        return self.classify(self.hide(features))

    def explain(
        self, features: Float32Features, feature_map: NDArray[np.float32]
    ) -> tuple[Float32Outputs, NDArray[np.float32]]:
        """Return class probabilities, and how much each place contributed to the most probable class.

        Shapes:
            features: (num_images, feature_width).  feature_map: (num_images, rows, columns, feature_width).
            returns: (num_images, classes) and (num_images, rows, columns).
        """
        hidden = self.hide(features)
        outputs = self.classify(hidden)
        return outputs, class_activation(feature_map, hidden, outputs.argmax(1), self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticHead:
    """Logistic regression on features that are scaled to length one.

    Shapes:
        output_kernel: (feature_width, classes).  output_bias: (classes,).  Both float32.
    """

    output_kernel: NDArray[np.float32]
    output_bias: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights by name."""
        return {"output_kernel": self.output_kernel, "output_bias": self.output_bias}

    @property
    def num_bytes(self) -> int:
        """Size of the weights."""
        return sum(array.nbytes for array in self.arrays().values())

    def score(self, features: Float32Features) -> NDArray[np.float32]:
        """Return the logits.

        Shapes:
            features: (num_images, feature_width).  returns: (num_images, classes).
        """
        logits: NDArray[np.float32] = unit_rows(features) @ self.output_kernel + self.output_bias
        return logits

    def predict(self, features: Float32Features) -> Float32Outputs:
        """Return class probabilities.

        Shapes:
            features: (num_images, feature_width).  returns: (num_images, classes).
        """
        return softmax(self.score(features))

    def explain(
        self, features: Float32Features, feature_map: NDArray[np.float32]
    ) -> tuple[Float32Outputs, NDArray[np.float32]]:
        """Return class probabilities, and how much each place contributed to the most probable class.

        Shapes:
            features: (num_images, feature_width).  feature_map: (num_images, rows, columns, feature_width).
            returns: (num_images, classes) and (num_images, rows, columns).
        """
        outputs = self.predict(features)
        against_mean = self.output_kernel - self.output_kernel.mean(1, keepdims=True)
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        weights = against_mean.T[outputs.argmax(1)] / np.maximum(lengths, np.float32(1e-12))
        activation: NDArray[np.float32] = np.einsum("bhwk,bk->bhw", feature_map, weights)
        return outputs, activation


TrainedHead: TypeAlias = Head | LogisticHead


def head_of(arrays: Mapping[str, NDArray[np.float32]]) -> TrainedHead:
    """Return the head that has these weights by name."""
    return Head(**arrays) if "hidden_kernel" in arrays else LogisticHead(**arrays)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities; the largest logit of each row is subtracted first, so that no power overflows."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return result


def feature_direction(pooled: Float32Features) -> NDArray[np.uint8]:
    """Scale each row's features to 255, as the SavedModel's `explained` does."""
    largest = np.maximum(pooled.max(1, keepdims=True), 1e-12)
    direction: NDArray[np.uint8] = np.rint(np.maximum(pooled, 0) / largest * 255).astype(np.uint8)
    return direction


def class_activation(
    feature_map: NDArray[np.float32], hidden: NDArray[np.float32], best: NDArray[np.intp], head: Head
) -> NDArray[np.float32]:
    """Return how much each place contributed to a class, as the SavedModel's `explained` does.

    Shapes:
        feature_map: (num_images, rows, columns, feature_width).  hidden: (num_images, units).
        best: (num_images,) class indices.  returns: (num_images, rows, columns).
    """
    against_mean = head.output_kernel - head.output_kernel.mean(1, keepdims=True)
    towards = against_mean.T[best] * (hidden > 0)
    weights = towards @ head.hidden_kernel.T
    result: NDArray[np.float32] = np.einsum("bhwk,bk->bhw", feature_map, weights)
    return result
