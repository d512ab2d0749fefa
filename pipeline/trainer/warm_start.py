"""A head to begin from: that of an earlier model, its classes joined by name."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import LabelMapMismatch
from pipeline.npz import ArraySpec, read_npz
from pipeline.storage import Storage
from pipeline.tflite.head import Head
from pipeline.trainer.head import initial_head
from pipeline.types import JsonDict


def read_start(
    storage: Storage, model_uri: str, classes: Sequence[str], *, feature_width: int, units: int, seed: int
) -> tuple[Head, JsonDict]:
    """Return the head of an earlier model, fitted to these classes, and what was taken from it.

    The hidden layer is the earlier one. The outputs of classes that it knew are too, wherever they stood;
    those of new classes begin as in a new head.

    Args:
        storage: Where the model is.
        model_uri: Its directory.
        classes: The label of class 0, of class 1, ...
        feature_width: Width of the backbone's features.
        units: Width of the hidden layer.
        seed: Of what is new.

    Raises:
        LabelMapMismatch: if the earlier head has another shape.
        BadArchive: if its file is no head.
    """
    schema = {name: ArraySpec(kinds="f", shape=(None,) * rank, itemsize=4) for name, rank in _RANKS.items()}
    old = Head(**read_npz(storage.local_path(f"{model_uri}/graft/head.weights.npz"), schema))
    known: list[str] = storage.read_json(f"{model_uri}/graft/labels.json")
    expected = ((feature_width, units), (units, len(known)))
    found = (old.hidden_kernel.shape, old.output_kernel.shape)
    if found != expected:
        raise LabelMapMismatch(
            f"The head in {model_uri} has layers of {found}, this run's has {expected}; set "
            "`model.warm_start: false`, or `model.head.units` to the earlier number.",
            model_uri=model_uri,
        )
    head = initial_head(feature_width, len(classes), units=units, seed=seed)
    head.hidden_kernel[:], head.hidden_bias[:] = old.hidden_kernel, old.hidden_bias
    shared = [label for label in classes if label in known]
    for label in shared:
        new_place, old_place = list(classes).index(label), known.index(label)
        head.output_kernel[:, new_place] = old.output_kernel[:, old_place]
        head.output_bias[new_place] = old.output_bias[old_place]
    return head, {"model_uri": model_uri, "classes": shared}


_RANKS = {"hidden_kernel": 2, "hidden_bias": 1, "output_kernel": 2, "output_bias": 1}
