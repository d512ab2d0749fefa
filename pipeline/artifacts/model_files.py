"""Names of the files that a model directory has beside its SavedModel."""

from __future__ import annotations

LABELS = "graft/labels.json"
HEAD = "graft/head.weights.npz"
NOVELTY = "graft/novelty.npz"  # models of early releases have none
LINEAGE = "graft/lineage.json"
EVALUATION = "graft/evaluation.json"
REPORT = "graft/report.html"
CARD = "graft/MODEL_CARD.md"
TFLITE_MANIFEST = "graft/light.json"
TFLITE_NETWORK = "graft/network.tflite"
