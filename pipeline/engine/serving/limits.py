"""What a worker is told when it starts, as words of its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pipeline.pixels.spec import MAX_PIXELS

LIGHT, TENSORFLOW = "litert", "tensorflow"  # the runtimes of a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """The limits of one version.

    Args:
        lanes: How many batches run at the same time, each on one thread; 0 is one for each core.
        max_batch: Most pictures in one forward pass.
        max_instances: Most instances in one online prediction.
        max_picture_bytes: Largest encoded picture.
        max_picture_pixels: Most pixels in a picture.
    """

    lanes: int = 0
    max_batch: int = 8
    max_instances: int = 10_000
    max_picture_bytes: int = 10_000_000
    max_picture_pixels: int = MAX_PIXELS

    def to_word(self) -> str:
        """Return one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_word(cls, word: str) -> WorkerLimits:
        """Read what `to_word` wrote."""
        return cls(**json.loads(word))
