"""A model's TFLite export in memory: LiteRT runs the backbone, NumPy the head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY, TFLITE_NETWORK
from pipeline.npz import read_npz
from pipeline.tflite.head import Head, class_activation, feature_direction
from pipeline.tflite.manifest import TFLiteManifest
from pipeline.tflite.novelty import NoveltyScorer, read_novelty
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


class TFLiteModel:
    """The answers of the SavedModel's signatures, without TensorFlow. Not for two threads at once.

    Args:
        directory: The model directory, its manifest checked.
        manifest: Its manifest.
        threads: How many threads one forward pass uses.
    """

    def __init__(self, directory: Path, manifest: TFLiteManifest, *, threads: int = 1) -> None:
        self._network = TFLiteNetwork(directory / TFLITE_NETWORK, threads=threads)
        self._head = Head(**read_npz(directory / HEAD))
        self.spec = manifest.spec
        self._labels: list[str] = json.loads((directory / LABELS).read_text(encoding="utf-8"))
        self._reject_below = np.float32(manifest.reject_below)
        self._reject_unlike = np.float32(manifest.reject_unlike)
        has_novelty = NOVELTY in manifest.files
        self._scorer = NoveltyScorer(read_novelty(directory / NOVELTY)) if has_novelty else None

    @property
    def has_novelty(self) -> bool:
        """Whether answers tell how unlike the training pictures a picture is."""
        return self._scorer is not None

    def predict(self, pixels: UInt8Images) -> Float32Outputs:
        """Return class probabilities."""
        return self._head.predict(self._network.pool(pixels))

    def predict_novelty(self, pixels: UInt8Images) -> tuple[Float32Outputs, NDArray[np.float32] | None]:
        """Return class probabilities, and how unlike the training pictures the pictures are."""
        pooled = self._network.pool(pixels)
        return self._head.predict(pooled), self._score(pooled)

    def explain(self, pixels: UInt8Images) -> tuple[Float32Outputs, Explanation]:
        """Return class probabilities and what they are based on."""
        pooled, feature_map = self._network.forward(pixels)
        hidden = self._head.hide(pooled)
        outputs = self._head.classify(hidden)
        activation = class_activation(feature_map, hidden, outputs.argmax(1), self._head)
        features = feature_direction(pooled)
        return outputs, Explanation(features=features, activation=activation, novelty=self._score(pooled))

    def label(
        self, outputs: NDArray[np.float32], novelty: float | None = None, *, may_reject: bool
    ) -> tuple[str, float]:
        """Return the label of one row of outputs, and its probability."""
        best = int(outputs.argmax())
        score = outputs[best]
        is_unlike = bool(self._reject_unlike) and novelty is not None and novelty > self._reject_unlike
        is_rejected = may_reject and (score < self._reject_below or is_unlike)
        return "" if is_rejected else self._labels[best], float(score)

    def _score(self, pooled: Float32Features) -> NDArray[np.float32] | None:
        return None if self._scorer is None else self._scorer.score(pooled)
