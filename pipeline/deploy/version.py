"""Names a version, finds and writes its records, and deploys it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.model_record import Lineage, read_lineage
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.staging import is_staging, model_to_deploy_to
from pipeline.ml_engine.protocol import MLEngine, default_version, label_value, resource_id


def version_name(dag_id: str, run_id: str) -> str:
    """Return the version name of a run, so that a retry finds its own version."""
    return f"v_{hashlib.sha256(f'{dag_id}/{run_id}'.encode()).hexdigest()[:12]}"


def model_directories(
    workspace: Workspace, engine: MLEngine, model: str, version: str
) -> list[ModelDirectory]:
    """Return where a version's model directory may be: our engine's copy, then what it was deployed from."""
    copied = workspace.model(model, version)
    resource = engine.get_version(model, version)
    deployed = resource.get("deploymentUri") if resource else None
    return [copied, ModelDirectory(workspace.storage, deployed.rstrip("/"))] if deployed else [copied]


def find_lineage(workspace: Workspace, engine: MLEngine, model: str, version: str) -> Lineage | None:
    """Return the lineage of a version, None where it carries none: it was not deployed by Graft."""
    directories = model_directories(workspace, engine, model, version)
    return next((lineage for each in directories if (lineage := read_lineage(each)) is not None), None)


def record_in_model(model: ModelDirectory, *, evaluation: Evaluation, lineage: Lineage, card: str) -> None:
    """Write the records of a version beside its SavedModel."""
    evaluation.write(model.storage, model.evaluation)
    lineage.write(model.storage, model.lineage)
    model.storage.write_bytes(model.card, card.encode())


def deploy_version(
    engine: MLEngine,
    *,
    model: str,
    version: str,
    model_uri: str,
    runtime_version: str,
    description: str,
    labels: Mapping[str, str],
) -> str:
    """Create the model if it is absent and the version if it is not there yet; wait until it is READY.

    While no version of the model serves, it is created in the hidden model that first versions are tested in.

    Returns:
        The state of the version.
    """
    place = model_to_deploy_to(engine, model)
    engine.ensure_model(place)
    created = engine.create_version(
        place,
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
    return created["state"]


def default_versions(engine: MLEngine) -> dict[str, str]:
    """Return the default version of each classifier that has one; hidden models are no classifiers."""
    versions = {resource_id(model): default_version(model) for model in engine.list_models()}
    return {name: version for name, version in sorted(versions.items()) if version and not is_staging(name)}
