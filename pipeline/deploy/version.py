"""Names a version, says what is in it, and deploys it."""

from __future__ import annotations

import hashlib

from pipeline.ml_engine.protocol import MLEngine, label_value
from pipeline.ml_engine.resources import Version
from pipeline.storage import Storage
from pipeline.types import JsonDict


def version_name(dag_id: str, run_id: str) -> str:
    """Return the version name of a run, so that a retry finds its own version."""
    return f"v_{hashlib.sha256(f'{dag_id}/{run_id}'.encode()).hexdigest()[:12]}"


def model_uris(engine: MLEngine, workspace: str, model: str, version: str) -> list[str]:
    """Return where a version's model directory may be: our engine's copy, then what it was deployed from."""
    copied = f"{workspace}/models/{model}/{version}"
    resource = engine.get_version(model, version)
    deployed = resource.get("deploymentUri") if resource else None
    return [copied, deployed.rstrip("/")] if deployed else [copied]


def record_in_model(
    storage: Storage, model_uri: str, *, evaluation: JsonDict, lineage: JsonDict, card: str
) -> None:
    """Put what is known of a model beside it, so that a version carries its own history."""
    storage.write_json(f"{model_uri}/graft/evaluation.json", evaluation)
    storage.write_json(f"{model_uri}/graft/lineage.json", lineage)
    storage.write_bytes(f"{model_uri}/graft/MODEL_CARD.md", card.encode())


def deploy_version(
    engine: MLEngine,
    *,
    model: str,
    version: str,
    model_uri: str,
    runtime_version: str,
    description: str,
    labels: dict[str, str],
) -> Version:
    """Create the model if it is absent and the version if it is not there yet; wait until it is READY.

    The first version of a model takes traffic as soon as it is READY: v1 makes it the default by itself.
    """
    engine.ensure_model(model)
    return engine.create_version(
        model,
        {
            "name": version,
            "deploymentUri": model_uri,
            "runtimeVersion": runtime_version,
            "pythonVersion": "3.11",
            "framework": "TENSORFLOW",
            "description": description,
            "labels": {name: label_value(value) for name, value in labels.items()},
        },
    )
