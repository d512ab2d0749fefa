"""From the rows of models and versions to their v1 resources."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.engine.serving.router import Router
from pipeline.engine.store import ModelRow, VersionRow, etag
from pipeline.engine.v1.resources import VersionSpec, model_path, version_path
from pipeline.engine.v1.responses import Model, Version
from pipeline.errors import NotFound
from pipeline.ml_v1 import RUNTIME_VERSION

RUNTIME_LABEL, SERVED_BY_LABEL = "graft-runtime", "graft-served-by"
OWN_LABELS = (RUNTIME_LABEL, SERVED_BY_LABEL)


def get_model(session: Session, name: str) -> ModelRow:
    """Return a model's row.

    Raises:
        NotFound: if there is none.
    """
    model = session.scalar(select(ModelRow).filter_by(name=name))
    if model is None:
        raise NotFound("The specified model was not found.", field="name")
    return model


def get_version(session: Session, model: str, name: str) -> VersionRow:
    """Return a version's row.

    Raises:
        NotFound: if there is none.
    """
    version = session.scalar(select(VersionRow).filter_by(model=model, name=name))
    if version is None:
        raise NotFound("The specified version was not found.", field="name")
    return version


def version_spec(version: VersionRow) -> VersionSpec:
    """Return what its client said of a version."""
    return VersionSpec.model_validate(version.body)


def version_etag(version: VersionRow) -> str:
    """Return a tag that changes when a client changes the version."""
    return etag({"body": version.body, "createTime": version.create_time})


def model_etag(model: ModelRow) -> str:
    """Return a tag that changes when a client changes the model or its default version."""
    return etag({"body": model.body, "createTime": model.create_time, "default": model.default_version})


class Resources:
    """Makes the v1 resources of one project's models and versions.

    Args:
        project: The project in resource names.
        router: Holds the runtime of each version.
    """

    def __init__(self, project: str, router: Router) -> None:
        self.project = project
        self._router = router

    def version(self, version: VersionRow, *, is_default: bool) -> Version:
        """Return the v1 resource of a version; since v1 has no field for what serves it, labels say so."""
        labels = {key: text for key, text in version.body.get("labels", {}).items() if key not in OWN_LABELS}
        if version.body.get("runtimeVersion") not in (None, RUNTIME_VERSION):
            labels[SERVED_BY_LABEL] = RUNTIME_VERSION.replace(".", "-")
        if runtime := self._router.runtime(version.model, version.name):
            labels[RUNTIME_LABEL] = runtime
        state = {
            "name": version_path(self.project, version.model, version.name),
            "createTime": version.create_time,
            "state": version.state,
            "isDefault": is_default or None,
            "errorMessage": version.error_message or None,
            "lastUseTime": version.last_use_time,
            "labels": labels or None,
            "etag": version_etag(version),
        }
        return Version.model_validate(version.body | state)

    def model(self, session: Session, model: ModelRow) -> Model:
        """Return the v1 resource of a model, with its default version."""
        default = None
        if model.default_version:
            default = self.version(get_version(session, model.name, model.default_version), is_default=True)
        state = {
            "name": model_path(self.project, model.name),
            "defaultVersion": default,
            "etag": model_etag(model),
        }
        return Model.model_validate(model.body | state)
