"""The interval of a share, and constants of the metrics."""

from __future__ import annotations

import math

from pipeline.errors import EvaluationError

EPSILON = 1e-7  # Keras's own clipping of categorical cross-entropy, so that losses can be compared
Z_95 = 1.959963984540054


def wilson_interval(hits: float, total: float, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share; a 95 % interval unless `z` says otherwise.

    Raises:
        EvaluationError: if there was no trial.
    """
    if total <= 0:
        raise EvaluationError("An interval needs at least one test picture.")
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
