"""Where a version comes from: written beside the model, read back from any version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config import Classifier
from pipeline.errors import ObjectNotFound
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gate import GateDecision
from pipeline.evaluate.report import evaluation_report
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
) -> JsonDict:
    """Return what a version is made of: its run, pictures, weights, code, parameters and verdict."""
    return {
        "classifier": classifier.to_dict(),
        "run_id": run_id,
        "dataset": {key: dataset[key] for key in ("dataset", "version", "uri", "classes")},
        "training": dict(training),
        "evaluation_job": evaluation.job,
        "champion": evaluation.champion_version,
        "gate": decision.to_dict(),
    }


def model_card(classifier: Classifier, lineage: Mapping[str, Any], evaluation: Evaluation) -> str:
    """Return the Markdown card of a version."""
    dataset, training = lineage["dataset"], lineage["training"]
    counts = "\n".join(f"| {label} | {count} |" for label, count in dataset["classes"].items())
    decision = GateDecision.from_dict(lineage["gate"])
    return f"""# {classifier.name}

{classifier.description or "An image classifier."}

* Run: `{lineage["run_id"]}`, training job `{training["job"]}`
* Backbone: {classifier.model.backbone}, weights `{training["weights_uri"]}`, frozen
* Head: {classifier.model.head.units} units, {classifier.model.epochs} epochs, seed {classifier.model.seed}
* Code: `{training["package_uri"]}`
* Dataset version: `{dataset["version"]}` (`{dataset["uri"]}`: each picture's source and licence)

| class | pictures |
| --- | --- |
{counts}

## How it did

{evaluation_report(evaluation, decision)}
"""


def describe_version(storage: Storage, model_uri: str) -> JsonDict:
    """Return `accuracy`, `run_id` and `dataset_version` of a model directory; null where it does not say.

    A version that somebody took in spite of its gate has `override` too.
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
    }
