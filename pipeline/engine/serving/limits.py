"""The limits of a version: those that the engine enforces, and those its worker gets on the command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pipeline.pixels.spec import MAX_PIXELS

TFLITE, TENSORFLOW = "litert", "tensorflow"  # the runtimes of a worker: our TFLite export, any SavedModel
KERAS, TFLITE_FILE, ONNX = "keras", "tflite", "onnx"  # and of models that are one file


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """The limits of one version's predictions.

    Args:
        wait_seconds: How long a prediction waits for a version that is being loaded.
        deadline_seconds: How long it may take once the version is loaded.
        max_requests: Most predictions at the same time, waiting ones counted.
        max_bytes: Most bytes of their bodies.
        chunk_seconds: How long a worker may answer nothing while it has a chunk of a batch.
        idle_seconds: How long a version with `minNodes` 0 stays loaded without a prediction.
    """

    wait_seconds: float
    deadline_seconds: float = 60
    max_requests: int = 256
    max_bytes: int = 256_000_000
    chunk_seconds: float = 600
    idle_seconds: float = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """The limits of one worker.

    Args:
        threads: How many batches a process of a trunk runs at the same time, each on one thread; 0 is one
            for each core.
        max_batch: Most images in one forward pass.
        stuck_seconds: How long a thread may work on one batch before the worker ends itself.
        max_instances: Most instances in one online prediction.
        max_picture_bytes: Largest encoded image.
        max_picture_pixels: Most pixels of an image.
        allowed_ops: Names of operations that foreign models may use although they are refused by default.
        head_bytes: Most memory of the heads of a trunk.
        feature_bytes: Most memory of the features that a trunk remembers.
    """

    threads: int = 0
    max_batch: int = 8
    stuck_seconds: float = 60
    max_instances: int = 10_000
    max_picture_bytes: int = 10_000_000
    max_picture_pixels: int = MAX_PIXELS
    allowed_ops: str = ""
    head_bytes: int = 1_000_000_000
    feature_bytes: int = 64_000_000

    def to_json(self) -> str:
        """Return an argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerLimits:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
