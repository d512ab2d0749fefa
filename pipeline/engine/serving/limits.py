"""What a worker is told when it starts, as words of its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pipeline.pixels.spec import MAX_PIXELS

TFLITE, TENSORFLOW = "litert", "tensorflow"  # the runtimes of a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What the engine holds one version's online predictions to.

    Args:
        wait_seconds: How long a prediction waits for a version that is being loaded.
        deadline_seconds: How long it may take once the version is loaded.
        max_requests: Most predictions at the same time, waiting ones counted.
        max_bytes: Most bytes of their bodies.
        idle_seconds: After how long without a prediction a version without nodes of its own is unloaded.
    """

    wait_seconds: float
    deadline_seconds: float = 60
    max_requests: int = 256
    max_bytes: int = 256_000_000
    idle_seconds: float = 300


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

    def to_json(self) -> str:
        """Return one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, word: str) -> WorkerLimits:
        """Read what `to_json` wrote."""
        return cls(**json.loads(word))
