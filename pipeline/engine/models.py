"""Models: names that versions hang on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.engine.operations import EMPTY, Operations
from pipeline.engine.paging import Page
from pipeline.engine.resources import ModelBody, check_name, model_path, version_path
from pipeline.engine.serving.router import Router
from pipeline.engine.store import Model, Operation, Store, Version, etag, now
from pipeline.errors import AlreadyExists, FailedPrecondition, NotFound

READY, CREATING, FAILED, DELETING = "READY", "CREATING", "FAILED", "DELETING"


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


def version_to_wire(project: str, version: Version, *, is_default: bool) -> dict[str, Any]:
    """Return the v1 resource of a version."""
    wire = {
        **version.body,
        "name": version_path(project, version.model, version.name),
        "createTime": version.create_time,
        "state": version.state,
    }
    if is_default:
        wire["isDefault"] = True
    if version.error_message:
        wire["errorMessage"] = version.error_message
    return wire | {"etag": etag(wire)}


class Models:
    """The models of one project.

    Args:
        store: The database.
        project: The project in resource names.
        operations: Where deletions are recorded.
        router: Told which models there are.
    """

    def __init__(self, store: Store, project: str, operations: Operations, router: Router) -> None:
        self._store = store
        self._project = project
        self._operations = operations
        self._router = router

    def to_wire(self, session: Session, model: Model) -> dict[str, Any]:
        """Return the v1 resource of a model."""
        wire = {**model.body, "name": model_path(self._project, model.name)}
        if model.default_version:
            version = get_version(session, model.name, model.default_version)
            wire["defaultVersion"] = version_to_wire(self._project, version, is_default=True)
        return wire | {"etag": etag(wire)}

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
            operation = self._operations.add(session, "DELETE_MODEL", name, None)
        self._router.remove_model(name)
        self._operations.finish(operation, response=EMPTY)
        return self._operations.get(operation.operation_id)

    async def finish_deletion(self, operation: Operation) -> dict[str, Any]:
        """Finish a deletion that an earlier life of the engine began: the row is gone already."""
        return EMPTY
