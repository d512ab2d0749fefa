"""Names of the files of a model directory: the model itself, and Graft's records beside its SavedModel."""

from __future__ import annotations

from pathlib import PurePosixPath

LABELS = "graft/labels.json"
HEAD = "graft/head.weights.npz"
NOVELTY = "graft/novelty.npz"  # models of early releases have none
LINEAGE = "graft/lineage.json"
EVALUATION = "graft/evaluation.json"
REPORT = "graft/report.html"
CARD = "graft/MODEL_CARD.md"
TFLITE_MANIFEST = "graft/light.json"
TFLITE_NETWORK = "graft/network.tflite"

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
SUFFIXES = (".keras", ".tflite", ".onnx")  # of models that are one file


def is_model_file(name: str) -> bool:
    """Return whether a file at the root of a directory may be its model, judged by its name."""
    return name in GRAPHS or ("/" not in name and PurePosixPath(name).suffix in SUFFIXES)
