"""A model's TFLite export in memory: LiteRT runs the backbone, NumPy the head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY, TFLITE_NETWORK
from pipeline.npz import read_npz
from pipeline.tflite.head import TrainedHead, feature_direction, head_of
from pipeline.tflite.manifest import TFLiteManifest
from pipeline.tflite.novelty import Novelty, NoveltyScorer, read_novelty
from pipeline.types import Float32Features, Float32Outputs, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TFLiteNetwork:
    """The converted backbone. Not for two threads at once: each needs its own.

    Args:
        source: The path of the flat buffer, which is mapped and so shared between networks, or its bytes.
        threads: How many threads one forward pass uses.
    """

    def __init__(self, source: Path | bytes, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        model = {"model_path": str(source)} if isinstance(source, Path) else {"model_content": source}
        self._interpreter = Interpreter(num_threads=threads, **model)
        self._input = self._interpreter.get_input_details()[0]
        by_rank = {len(each["shape"]): each["index"] for each in self._interpreter.get_output_details()}
        self._pooled, self._map = by_rank[2], by_rank[4]
        self._batch = 0

    def forward(self, pixels: UInt8Images) -> tuple[Float32Features, NDArray[np.float32]]:
        """Return the pooled features and the feature map.

        Shapes:
            pixels: (batch, height, width, 3) uint8.
            returns: (batch, feature_width) and (batch, rows, columns, feature_width) float32.
        """
        pooled = self.pool(pixels)
        return pooled, self._interpreter.get_tensor(self._map)

    def pool(self, pixels: UInt8Images) -> Float32Features:
        """Return the pooled features only."""
        if len(pixels) != self._batch:
            self._interpreter.resize_tensor_input(self._input["index"], pixels.shape)
            self._interpreter.allocate_tensors()
            self._batch = len(pixels)
        self._interpreter.set_tensor(self._input["index"], pixels)
        self._interpreter.invoke()
        features: Float32Features = self._interpreter.get_tensor(self._pooled)
        return features


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `explained` answers beyond the outputs.

    Shapes:
        features: (batch, feature_width) uint8.  activation: (batch, rows, columns) float32.
        novelty: (batch,) float32; None where the model has none.
    """

    features: NDArray[np.uint8]
    activation: NDArray[np.float32]
    novelty: NDArray[np.float32] | None = None


class ClassifierHead:
    """What a version adds to its network: pooled features in, the answers of its signatures out.

    Threads may share it.

    Args:
        head: The trained layers.
        labels: The classes.
        novelty: What novelty is computed from; models of early releases have none.
        reject_below: See `TFLiteManifest`.
        reject_unlike: See `TFLiteManifest`.
        thresholds: See `TFLiteManifest`.
    """

    def __init__(
        self,
        head: TrainedHead,
        labels: Sequence[str],
        *,
        novelty: Novelty | None = None,
        reject_below: float = 0.0,
        reject_unlike: float = 0.0,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self._head = head
        self._labels = labels
        self._novelty = novelty
        by_class = thresholds or {}
        self._bounds = np.array([by_class.get(label, reject_below) for label in labels], np.float32)
        self._reject_unlike = np.float32(reject_unlike)

    @property
    def has_novelty(self) -> bool:
        """Whether answers tell how unlike the training pictures a picture is."""
        return self._novelty is not None

    @property
    def num_bytes(self) -> int:
        """How much memory it takes, in bytes; without what the novelty is computed with."""
        return self._head.num_bytes + (self._novelty.directions.nbytes if self._novelty else 0)

    def predict(self, pooled: Float32Features) -> Float32Outputs:
        """Return class probabilities."""
        return self._head.predict(pooled)

    def score(self, pooled: Float32Features) -> NDArray[np.float32] | None:
        """Return the novelty of pictures; None where the model has none."""
        return None if self._novelty is None else _scorer_of(self._novelty).score(pooled)

    def explain(
        self, pooled: Float32Features, feature_map: NDArray[np.float32]
    ) -> tuple[Float32Outputs, Explanation]:
        """Return class probabilities and what they are based on."""
        outputs, activation = self._head.explain(pooled, feature_map)
        features = feature_direction(pooled)
        return outputs, Explanation(features=features, activation=activation, novelty=self.score(pooled))

    def label(
        self, outputs: NDArray[np.float32], novelty: float | None = None, *, may_reject: bool
    ) -> tuple[str, float]:
        """Return the label of one row of outputs, and its probability."""
        best = int(outputs.argmax())
        score = outputs[best]
        is_unlike = bool(self._reject_unlike) and novelty is not None and novelty > self._reject_unlike
        is_rejected = may_reject and (score < self._bounds[best] or is_unlike)
        return "" if is_rejected else self._labels[best], float(score)


@lru_cache(maxsize=8)
def _scorer_of(novelty: Novelty) -> NoveltyScorer:
    """Return what scores with a novelty; of those used last, since each takes half the memory of a head."""
    return NoveltyScorer(novelty)


def read_classifier_head(directory: Path, manifest: TFLiteManifest) -> ClassifierHead:
    """Read the head of a model directory."""
    return ClassifierHead(
        head_of(read_npz(directory / HEAD)),
        json.loads((directory / LABELS).read_text(encoding="utf-8")),
        novelty=read_novelty(directory / NOVELTY) if NOVELTY in manifest.files else None,
        reject_below=manifest.reject_below,
        reject_unlike=manifest.reject_unlike,
        thresholds=manifest.thresholds,
    )


class TFLiteModel:
    """The answers of the SavedModel's signatures, without TensorFlow. Not for two threads at once.

    Args:
        directory: The model directory, its manifest checked.
        manifest: Its manifest.
        threads: How many threads one forward pass uses.
    """

    def __init__(self, directory: Path, manifest: TFLiteManifest, *, threads: int = 1) -> None:
        self._network = TFLiteNetwork(directory / TFLITE_NETWORK, threads=threads)
        self.head = read_classifier_head(directory, manifest)
        self.spec = manifest.spec

    def predict(self, pixels: UInt8Images) -> Float32Outputs:
        """Return class probabilities."""
        return self.head.predict(self._network.pool(pixels))

    def explain(self, pixels: UInt8Images) -> tuple[Float32Outputs, Explanation]:
        """Return class probabilities and what they are based on."""
        return self.head.explain(*self._network.forward(pixels))
