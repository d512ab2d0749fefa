"""The hidden model under which the first version of a model is tested before it serves.

v1 makes the first version of a model the default as soon as it is READY. So that a first version takes no
traffic before its smoke test, it is deployed as a version of `<model>__candidate`; promoting it creates it in
the model itself. Every step may be repeated; what a killed run leaves is swept.
"""

from __future__ import annotations

import logging

from pipeline.config.classifier import STAGING_SUFFIX
from pipeline.errors import PlatformError
from pipeline.ml_engine.protocol import MLEngine, default_version, resource_id
from pipeline.ml_engine.resources import Version

log = logging.getLogger(__name__)

COPIED = ("deploymentUri", "runtimeVersion", "pythonVersion", "framework", "description", "labels")


def staging_model(model: str) -> str:
    """Return the model under which the first version of a model is tested."""
    return f"{model}{STAGING_SUFFIX}"


def is_staging(model: str) -> bool:
    """Return whether a model only holds first versions that do not serve yet."""
    return model.endswith(STAGING_SUFFIX)


def model_to_deploy_to(engine: MLEngine, model: str) -> str:
    """Return the model that a new version is created in: the hidden one while no version serves."""
    return staging_model(model) if default_version(engine.get_model(model)) is None else model


def model_of_version(engine: MLEngine, model: str, version: str) -> str:
    """Return the model that a version is in: the model itself, or the hidden one of its first version."""
    staging = staging_model(model)
    is_staged = engine.get_version(model, version) is None and engine.get_version(staging, version)
    return staging if is_staged else model


def create_first_version(engine: MLEngine, model: str, version: str) -> str | None:
    """Create the tested first version in the model itself; return which version serves now.

    Of two that are created at once, v1 makes one the default.
    """
    staged = engine.get_version(staging_model(model), version)
    if staged is not None:
        engine.ensure_model(model)
        engine.create_version(model, _copy_body(version, staged))
    return default_version(engine.get_model(model))


def discard_version(engine: MLEngine, model: str, version: str) -> None:
    """Delete a version, from the hidden model, too."""
    engine.delete_version(model, version)
    discard_staged(engine, staging_model(model), version)


def discard_staged(engine: MLEngine, staging: str, version: str) -> None:
    """Delete a version of the hidden model, and that model with its last version."""
    if engine.get_model(staging) is None:
        return
    others = [name for each in engine.list_versions(staging) if (name := resource_id(each)) != version]
    if others and default_version(engine.get_model(staging)) == version:
        engine.set_default(staging, others[0])  # v1 deletes a default only if it is the last version
    engine.delete_version(staging, version)
    if not others:
        delete_empty_model(engine, staging)


def delete_empty_model(engine: MLEngine, staging: str) -> None:
    """Delete the hidden model unless another run has put a version into it meanwhile."""
    try:
        engine.delete_model(staging)
    except PlatformError as error:
        if error.transient or not engine.list_versions(staging):
            raise
        log.info("%s stays: it has a version of another run", staging)


def _copy_body(version: str, staged: Version) -> Version:
    body: Version = {"name": version}
    for field in COPIED:
        if field in staged:
            body[field] = staged[field]  # type: ignore[literal-required]
    return body
