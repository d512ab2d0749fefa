"""A head to begin from: that of an earlier model, its classes joined by name."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.training import WarmStart
from pipeline.errors import LabelMapMismatch
from pipeline.npz import ArraySpec, read_npz
from pipeline.tflite.head import Head
from pipeline.trainer.head import initial_head

_RANKS = {"hidden_kernel": 2, "hidden_bias": 1, "output_kernel": 2, "output_bias": 1}


def read_start(
    model: ModelDirectory, classes: Sequence[str], *, feature_width: int, units: int, seed: int
) -> tuple[Head, WarmStart]:
    """Return the head of an earlier model, fitted to these classes, and what was taken from it.

    The hidden layer is taken over, and so are the outputs of the classes that both models have. The outputs
    of new classes begin as in a new head.

    Args:
        model: The directory of the earlier model.
        classes: The label of class 0, of class 1, ...
        feature_width: Width of the backbone's features.
        units: Width of the hidden layer.
        seed: Of what is new.

    Raises:
        LabelMapMismatch: if the earlier head has another shape.
        BadArchive: if its file is no head.
    """
    schema = {name: ArraySpec(kinds="f", shape=(None,) * rank, itemsize=4) for name, rank in _RANKS.items()}
    old = Head(**read_npz(model.storage.local_path(model.head), schema))
    old_classes: list[str] = model.storage.read_json(model.labels)
    expected = ((feature_width, units), (units, len(old_classes)))
    shapes = (old.hidden_kernel.shape, old.output_kernel.shape)
    if shapes != expected:
        raise LabelMapMismatch(
            f"The head in {model.uri} has layers of {shapes}, this run's has {expected}; set "
            "`model.warm_start: false`, or `model.head.units` to the earlier number.",
            model_uri=model.uri,
        )
    head = initial_head(feature_width, len(classes), units=units, seed=seed)
    head.hidden_kernel[:], head.hidden_bias[:] = old.hidden_kernel, old.hidden_bias
    shared = [label for label in classes if label in old_classes]
    for label in shared:
        new_place, old_place = list(classes).index(label), old_classes.index(label)
        head.output_kernel[:, new_place] = old.output_kernel[:, old_place]
        head.output_bias[new_place] = old.output_bias[old_place]
    return head, WarmStart(model_uri=model.uri, classes=tuple(shared))
