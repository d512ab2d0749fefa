"""Adam as Keras has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Product: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.float32]]"  # (rows, m) and (rows, n)
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # keras.optimizers.Adam
_SQUARE_SCALE = (1 - _BETA_2) ** 0.5
_BLOCK = 2**17  # numbers: half a megabyte, which the second level of cache holds


class Adam:
    """Keras's Adam, in place: the moments and the gradient of a block are all it allocates.

    The moments are kept without their factors of 1 - beta, which go into the rate and epsilon: of a kernel of
    a million numbers, each pass that is saved counts.

    Args:
        variables: Arrays to optimise, by name.
        learning_rate: The step size.
    """

    def __init__(self, variables: dict[str, NDArray[np.float32]], learning_rate: float) -> None:
        self._variables = variables
        self._moments = {name: (np.zeros_like(a), np.zeros_like(a)) for name, a in self._variables.items()}
        self._learning_rate, self._step, self._rate = learning_rate, 0, np.float32(0)
        self._gradient = np.empty(_BLOCK, np.float32)

    def update(self, gradients: Mapping[str, NDArray[np.float32]], products: Mapping[str, Product]) -> None:
        """Take one step down these gradients.

        Args:
            gradients: By the variable's name.
            products: Gradients that are `left.T @ right`. They are computed block by block, so that a block's
                gradient, moments and variable are in the processor's cache while all are updated.
        """
        self._step += 1
        correction = (1 - _BETA_2**self._step) ** 0.5 / (1 - _BETA_1**self._step)
        self._rate = np.float32(self._learning_rate * correction * (1 - _BETA_1) / _SQUARE_SCALE)
        for name, gradient in gradients.items():
            mean, square = self._moments[name]
            self._descend(self._variables[name], mean, square, gradient.copy())
        for name, (left, right) in products.items():
            self._descend_product(name, left, right)

    def _descend_product(self, name: str, left: NDArray[np.float32], right: NDArray[np.float32]) -> None:
        variable, (mean, square) = self._variables[name], self._moments[name]
        width = variable.shape[1]
        rows = max(_BLOCK // width, 1)
        if width > _BLOCK:
            self._gradient = np.empty(width, np.float32)
        for start in range(0, len(variable), rows):
            block = slice(start, start + rows)
            shape = variable[block].shape
            gradient = self._gradient[: shape[0] * width].reshape(shape)
            np.matmul(left[:, block].T, right, out=gradient)
            self._descend(variable[block], mean[block], square[block], gradient)

    def _descend(
        self,
        variable: NDArray[np.float32],
        mean: NDArray[np.float32],
        square: NDArray[np.float32],
        gradient: NDArray[np.float32],
    ) -> None:
        """Update one block in place; what the gradient's array held is lost."""
        mean *= np.float32(_BETA_1)
        mean += gradient
        square *= np.float32(_BETA_2)
        np.multiply(gradient, gradient, out=gradient)
        square += gradient
        np.sqrt(square, out=gradient)
        gradient += np.float32(_EPSILON / _SQUARE_SCALE)
        np.divide(mean, gradient, out=gradient)
        gradient *= self._rate
        variable -= gradient
