"""Adam as Keras has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # keras.optimizers.Adam


class Adam:
    """Keras's Adam, in place: the moments and one scratch array are all it allocates.

    Args:
        variables: Arrays to optimise, by name.
        learning_rate: The step size.
    """

    def __init__(self, variables: dict[str, NDArray[np.float32]], learning_rate: float) -> None:
        self._variables = variables
        self._moments = {name: (np.zeros_like(a), np.zeros_like(a)) for name, a in self._variables.items()}
        self._learning_rate, self._step = learning_rate, 0

    def update(self, gradients: dict[str, NDArray[np.float32]]) -> None:
        """Take one step down these gradients."""
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
