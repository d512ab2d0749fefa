"""Models: names that versions hang on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.engine.models.operations import EMPTY, Operations
from pipeline.engine.serving.router import Router
from pipeline.engine.store import Model, Operation, Store, Version, etag, now
from pipeline.engine.v1.fields import check_name
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.resources import ModelBody, model_path, version_path
from pipeline.engine.v1.updates import MODEL_FIELDS, Update, read_update
from pipeline.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted

READY, CREATING, FAILED, DELETING = "READY", "CREATING", "FAILED", "DELETING"
RUNTIME_LABEL = "graft-runtime"
SetDefault = Callable[[str], object]


def get_model(session: Session, name: str) -> Model:
    """Return a model's row.

    Raises:
        NotFound: if there is none.
    """
    model = session.scalar(select(Model).filter_by(name=name))
    if model is None:
        raise NotFound("The specified model was not found.", field="name")
    return model


def get_version(session: Session, model: str, name: str) -> Version:
    """Return a version's row.

    Raises:
        NotFound: if there is none.
    """
    version = session.scalar(select(Version).filter_by(model=model, name=name))
    if version is None:
        raise NotFound("The specified version was not found.", field="name")
    return version


def version_to_wire(project: str, version: Version, *, is_default: bool, runtime: str) -> dict[str, Any]:
    """Return the v1 resource of a version, and as a label, since v1 has no field for it, what runs it."""
    labels = {key: text for key, text in version.body.get("labels", {}).items() if key != RUNTIME_LABEL}
    if runtime:
        labels[RUNTIME_LABEL] = runtime
    wire = {
        **version.body,
        "name": version_path(project, version.model, version.name),
        "createTime": version.create_time,
        "state": version.state,
    }
    if is_default:
        wire["isDefault"] = True
    wire.pop("labels", None)
    optional = {
        "errorMessage": version.error_message,
        "lastUseTime": version.last_use_time,
        "labels": labels,
    }
    wire |= {key: value for key, value in optional.items() if value}
    return wire | {"etag": version_etag(version)}


def version_etag(version: Version) -> str:
    """Return a tag that changes when a client changes the version."""
    return etag({"body": version.body, "createTime": version.create_time})


def model_etag(model: Model) -> str:
    """Return a tag that changes when a client changes the model or its default version."""
    return etag({"body": model.body, "createTime": model.create_time, "default": model.default_version})


class Models:
    """The models of one project.

    Args:
        store: The database.
        project: The project in resource names.
        operations: Where deletions are recorded.
        router: Told which models there are.
        max_models: How many there may be.
    """

    def __init__(
        self, store: Store, project: str, operations: Operations, router: Router, *, max_models: int
    ) -> None:
        self._store = store
        self._project = project
        self._operations = operations
        self._router = router
        self._max_models = max_models

    def to_wire(self, session: Session, model: Model) -> dict[str, Any]:
        """Return the v1 resource of a model."""
        wire = {**model.body, "name": model_path(self._project, model.name)}
        if model.default_version:
            version = get_version(session, model.name, model.default_version)
            wire["defaultVersion"] = version_to_wire(
                self._project,
                version,
                is_default=True,
                runtime=self._router.runtime(model.name, version.name),
            )
        return wire | {"etag": model_etag(model)}

    def create(self, request: Any) -> dict[str, Any]:
        """Create a model, at once.

        Raises:
            AlreadyExists: with the text that Airflow's clients look for.
        """
        body = ModelBody.read(request, where="model")
        check_name(body.name, field="model.name")
        with self._store.begin() as session:
            if session.scalar(select(Model).filter_by(name=body.name)) is not None:
                raise AlreadyExists("A model with the same name already exists.", field="model.name")
            if (session.scalar(select(func.count()).select_from(Model)) or 0) >= self._max_models:
                raise ResourceExhausted(
                    f"The project has {self._max_models} models, the most it may have; delete one, or raise "
                    "GRAFT_ENGINE_MAX_MODELS."
                )
            wire = {"regions": body.regions, **body.to_wire()}
            model = Model(name=body.name, body=wire, default_version=None, create_time=now())
            session.add(model)
            self._router.add_model(body.name)
            return self.to_wire(session, model)

    def get(self, name: str) -> dict[str, Any]:
        """Return one model."""
        with self._store.begin() as session:
            return self.to_wire(session, get_model(session, name))

    def list(self, page: Page) -> dict[str, Any]:
        """Return the models, oldest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.ascending(select(Model), Model.seq)).all()
            return page.answer("models", rows, lambda model: self.to_wire(session, model))

    def patch(self, name: str, request: Any, mask: str | None, set_default: SetDefault) -> dict[str, Any]:
        """Change a model's description, labels or default version; the operation has ended already.

        Args:
            name: The model.
            request: The new values.
            mask: Which of them to take.
            set_default: Makes a version the default, with the rules there are for that.

        Raises:
            Aborted: if the request carries an etag that is not the model's.
        """
        update = read_update(request, mask, MODEL_FIELDS, where="model")
        with self._store.begin() as session:
            model = get_model(session, name)
            update.check_etag(model_etag(model), is_asked=update.names_etag or update.etag is not None)
        if "default_version.name" in update.paths:
            set_default(_default_name(self._project, name, update))
        with self._store.begin() as session:
            model = get_model(session, name)
            model.body = {
                key: item for key, item in update.apply(model.body).items() if key != "defaultVersion"
            }
            answer = self.to_wire(session, model)
            operation = self._operations.add(
                session, "UPDATE_MODEL", name, None, labels=model.body.get("labels"), response=answer
            )
        return self._operations.to_wire(operation)

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a model without versions.

        Raises:
            FailedPrecondition: while it has versions.
        """
        with self._store.begin() as session:
            model = get_model(session, name)
            count = session.scalar(select(func.count()).select_from(Version).filter_by(model=name))
            if count:
                raise FailedPrecondition(
                    f"The model has {count} version(s); delete them before the model.", field="name"
                )
            session.delete(model)
            labels = model.body.get("labels")
            operation = self._operations.add(
                session, "DELETE_MODEL", name, None, labels=labels, response=EMPTY
            )
        self._router.remove_model(name)
        return self._operations.to_wire(operation)

    async def finish_deletion(self, operation: Operation) -> dict[str, Any]:
        """Finish a deletion that an earlier life of the engine began: the row is gone already."""
        return EMPTY


def _default_name(project: str, model: str, update: Update) -> str:
    """Return the version that an update names, by its name or its full one."""
    name = str(update.values.get("defaultVersion", {}).get("name", ""))
    return name.removeprefix(version_path(project, model, ""))
