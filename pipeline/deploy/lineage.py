"""Where a version comes from: written beside the model, read back from any version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipeline.config import PROJECT_ROOT, Classifier
from pipeline.errors import ObjectNotFound
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gate import GateDecision
from pipeline.storage import Storage
from pipeline.types import JsonDict


def build_lineage(
    classifier: Classifier,
    *,
    run_id: str,
    dataset: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Evaluation,
    decision: GateDecision,
    approval: JsonDict | None = None,
) -> JsonDict:
    """Return what a version is made of: its run, pictures, weights, code, parameters and verdict.

    `approval` is what a person said of it, see `pipeline.deploy.approval`; None where nobody was asked.
    """
    return {
        "classifier": classifier.to_dict(),
        "run_id": run_id,
        "dataset": {key: dataset[key] for key in ("dataset", "version", "uri", "classes")},
        "training": dict(training),
        "evaluation_job": evaluation.job,
        "champion": evaluation.champion_version,
        "gate": decision.to_dict(),
        "approval": approval,
        "requirements": _read_requirements(),
    }


def _read_requirements() -> JsonDict | None:
    """Return the digest of the full lock; None where Graft runs without its repository."""
    path = PROJECT_ROOT / "requirements.txt"
    if not path.is_file():
        return None
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def describe_version(storage: Storage, model_uri: str) -> JsonDict:
    """Return `accuracy`, `run_id` and `dataset_version` of a model directory; null where it does not say.

    A version that somebody took in spite of its gate has `override` too, an approved one `approval`.
    """
    try:
        lineage = storage.read_json(f"{model_uri}/graft/lineage.json")
    except ObjectNotFound:
        return {"accuracy": None, "run_id": None, "dataset_version": None}
    return {
        "accuracy": lineage["gate"]["metrics"]["accuracy"],
        "run_id": lineage["run_id"],
        "dataset_version": lineage["dataset"]["version"],
        **({"override": override} if (override := lineage["gate"].get("override")) else {}),
        **({"approval": approval} if (approval := lineage.get("approval")) else {}),
    }
