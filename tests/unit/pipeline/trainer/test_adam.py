from __future__ import annotations

import numpy as np
import pytest

from pipeline.trainer.adam import Adam

RATE, BETA_1, BETA_2, EPSILON = 0.01, 0.9, 0.999, 1e-7


def textbook(variable: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
    """Adam in float64, its epsilon where Keras has it."""
    value, mean, square = variable.astype(np.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        mean = BETA_1 * mean + (1 - BETA_1) * gradient
        square = BETA_2 * square + (1 - BETA_2) * gradient.astype(np.float64) ** 2
        rate = RATE * (1 - BETA_2**step) ** 0.5 / (1 - BETA_1**step)
        value = value - rate * mean / (np.sqrt(square) + EPSILON)
    return value


@pytest.mark.parametrize("shape", [(7, 5), (300, 1024), (2, 2**17 + 3)])
def test_steps_are_those_of_the_textbook_whatever_the_blocks(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(shape[0])
    start = random.normal(0, 0.1, shape).astype(np.float32)
    bias = np.zeros(shape[1], np.float32)
    variables = {"kernel": start.copy(), "bias": bias.copy()}
    adam, slopes, products = Adam(variables, RATE), [], []
    for scale in (1, 2**-10, 2**-24, 32):  # the third is of the size of epsilon; whole numbers cancel exactly
        left = random.integers(-9, 10, (4, shape[0])).astype(np.float32)
        right = (scale * random.integers(-9, 10, (4, shape[1]))).astype(np.float32)
        slopes.append(right.sum(0))
        products.append(left.T.astype(np.float64) @ right)
        adam.update({"bias": slopes[-1]}, {"kernel": (left, right)})
    assert np.allclose(variables["kernel"], textbook(start, products), rtol=0, atol=2e-6)
    assert np.allclose(variables["bias"], textbook(bias, slopes), rtol=0, atol=2e-6)
