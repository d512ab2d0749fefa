"""`classify` and `layers`: the un-grafted network, asked in a child process that brings TensorFlow."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import errors
from pipeline.errors import ModelError, PipelineError
from pipeline.types import JsonDict, JsonObject

TOP = 5
TIMEOUT_SECONDS = 600
POOLED = "pooled"  # the layer that a new head is put on
_CHILD = (sys.executable, "-P", "-m", "pipeline.backbones.inspection")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """A class of ImageNet and its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What a network sees on one picture: the most probable classes first."""

    file: str
    top: tuple[ClassScore, ...]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {"file": self.file, "top": [asdict(each) for each in self.top]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of a network as Keras has it; None in a shape is the number of pictures."""

    index: int
    name: str
    type: str
    output_shape: tuple[int | None, ...]
    parameters: int

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {**asdict(self), "output_shape": list(self.output_shape)}


def classify(
    files: Sequence[str | Path],
    *,
    backbone: str = "efficientnet_lite0",
    weights: str = "imagenet",
    top: int = TOP,
) -> list[Classification]:
    """Return what a network as ImageNet trained it sees on pictures, the most probable classes first.

    Args:
        files: Pictures; each is squeezed to the network's size, as everywhere in Graft.
        backbone: A name of the backbone table.
        weights: `imagenet`, or the path of a Keras `.h5` file with its classifier layer.
        top: How many classes to name.

    Returns:
        One classification for each file, in order.

    Raises:
        UnknownBackbone: listing the known names.
        SourceNotFound: if a file is not there.
        UndecodableImage: if one is no picture.
        WeightsNotFound: if the network's weights are in none of the places looked at.
    """
    from pipeline.backbones.imagenet import imagenet_labels

    names = [str(file) for file in files]
    logits = ask_network({"classify": names, "backbone": backbone, "weights": weights})
    labels = imagenet_labels()
    return [
        Classification(file=name, top=_top(row, labels, top)) for name, row in zip(names, logits, strict=True)
    ]


def layers(backbone: str) -> list[Layer]:
    """Return the layers of a network as Keras has them; the one that a new head is put on is named `pooled`.

    Raises:
        UnknownBackbone: listing the known names.
    """
    return [
        Layer(**{**layer, "output_shape": tuple(layer["output_shape"])})
        for layer in ask_network({"layers": backbone})
    ]


def ask_network(request: JsonObject) -> Any:
    """Return the child's answer to a request, see `pipeline.backbones.inspection`.

    Raises:
        PipelineError: of the type that was raised in the child.
        ModelError: if the child died.
    """
    quiet = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        _CHILD,
        input=json.dumps(request),
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ModelError(f"The network's process ended with {done.returncode}:\n{done.stderr[-2000:]}")
    answer = json.loads(done.stdout)
    if isinstance(answer, dict):
        error = answer["error"]
        kind: type[PipelineError] = getattr(errors, error["type"])
        raise kind(error["message"])
    return answer


def _top(logits: Sequence[float], labels: Sequence[str], number: int) -> tuple[ClassScore, ...]:
    largest = max(logits)
    powers = [math.exp(value - largest) for value in logits]
    best = sorted(range(len(powers)), key=lambda index: -powers[index])[:number]
    return tuple(ClassScore(label=labels[index], score=powers[index] / sum(powers)) for index in best)
