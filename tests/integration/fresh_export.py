"""`python tests/integration/fresh_export.py MODEL WEIGHTS OUTPUT`: export a model again with TensorFlow."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY
from pipeline.npz import read_npz
from pipeline.tflite.head import head_of
from pipeline.tflite.manifest import read_manifest
from pipeline.tflite.novelty import read_novelty
from pipeline.trainer.process import prepare_process


def export_again(model: Path, weights: Path, output: Path) -> None:
    """Export what a model directory says of itself."""
    prepare_process(keras=False)
    from pipeline.backbones.networks.folded import build_mapped_network
    from pipeline.backbones.weights import read_weights
    from pipeline.trainer.export import export_model

    manifest, backbone = read_manifest(model), "efficientnet_lite0"
    classes = json.loads((model / LABELS).read_text())
    below, by_class = manifest.reject_below, manifest.thresholds
    export_model(
        output,
        build_network=partial(build_mapped_network, backbone, read_weights(weights, backbone)),
        head=head_of(read_npz(model / HEAD)),
        spec=manifest.spec,
        classes=classes,
        reject_below=[by_class.get(label, below) for label in classes] if by_class else below,
        novelty=read_novelty(model / NOVELTY),
        reject_unlike=manifest.reject_unlike,
    )


if __name__ == "__main__":
    export_again(*map(Path, sys.argv[1:]))
