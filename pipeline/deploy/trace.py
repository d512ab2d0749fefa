"""From a version back to everything that it was made from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.history import read_history
from pipeline.deploy.version import model_uris
from pipeline.errors import ObjectNotFound, PlatformError
from pipeline.evaluate.slices import slice_value
from pipeline.ml_engine.protocol import MLEngine, default_version
from pipeline.storage import Storage
from pipeline.types import JsonDict


def read_lineage(
    engine: MLEngine, storage: Storage, workspace: str, model: str, version: str | None = None
) -> tuple[str, str, JsonDict]:
    """Return a version, its model directory, and the lineage in it; the default version unless one is named.

    Raises:
        PlatformError: if there is no such version, or it carries no lineage.
    """
    name = version or default_version(engine.get_model(model))
    if name is None or engine.get_version(model, name) is None:
        wanted = f"version {version}" if version else "version that serves"
        raise PlatformError(f"The model {model!r} has no {wanted}. `graft versions {model}` lists them.")
    for uri in model_uris(engine, workspace, model, name):
        try:
            return name, uri, storage.read_json(f"{uri}/graft/lineage.json")
        except ObjectNotFound:
            continue
    raise PlatformError(f"Version {name} of {model} carries no lineage: it was not deployed by Graft.")


def trace_version(
    engine: MLEngine, storage: Storage, workspace: str, model: str, version: str | None = None
) -> JsonDict:
    """Return where a version comes from: run, gate and who decided, pictures, weights, code, parameters.

    Raises:
        PlatformError: if there is no such version, or it carries no lineage.
    """
    name, uri, lineage = read_lineage(engine, storage, workspace, model, version)
    gate, training, dataset = lineage["gate"], lineage["training"], lineage["dataset"]
    override, approval = gate.get("override"), lineage.get("approval")
    job = engine.get_job(training["job"])
    args = job.get("trainingInput", {}).get("args") if job else None
    return {
        "model": model,
        "version": name,
        "is_default": default_version(engine.get_model(model)) == name,
        "model_uri": uri,
        "run_id": lineage["run_id"],
        "gate": {
            "accepted": gate["accepted"],
            "decided_by": (approval or override or {"by": "gate"})["by"],
            "override": override,
            "approval": approval,
            "reasons": gate["reasons"],
            "rules": gate.get("rules", []),
            "note": gate["note"],
            "champion": lineage["champion"],
        },
        "evaluation": {
            "job": lineage["evaluation_job"],
            **{
                name: gate["metrics"][name] for name in ("accuracy", "accuracy_ci95", "loss", "test_pictures")
            },
        },
        "dataset": {**dataset, **count_origins(storage, dataset["uri"])},
        "training": {"job": training["job"], "args": args},
        "weights": {"uri": training["weights_uri"], "sha256": _digest(training["weights_uri"])},
        "package": {"uri": training["package_uri"], "sha256": _digest(training["package_uri"])},
        "head": {"uri": head, "sha256": _digest(head)} if (head := training.get("head_uri")) else None,
        "runtime_version": training.get("runtime_version"),
        "requirements": lineage.get("requirements"),
        "parameters": lineage["classifier"],
        "history": [event for event in read_history(storage, workspace, model) if event["version"] == name],
    }


def _digest(uri: str) -> str:
    """Return the digest that a content-addressed object is named by."""
    return uri.rstrip("/").rpartition("/")[2].partition(".")[0]


def count_origins(storage: Storage, dataset_uri: str) -> JsonDict:
    """Return how many kept pictures of a dataset version came from where, and under which licence.

    The manifest itself, named as `manifest`, has source and licence of each picture.
    """
    uri = f"{dataset_uri}/manifest.jsonl"
    rows = [json.loads(line) for line in storage.read_bytes(uri).splitlines()]
    kept = [row for row in rows if row["status"] == "kept"]
    return {
        "manifest": uri,
        "splits": _count(row["split"] for row in kept),
        "sources": _count(slice_value(row, "source") for row in kept),
        "licenses": _count(row.get("license") or "not stated" for row in kept),
    }


def _count(values: Any) -> Mapping[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
