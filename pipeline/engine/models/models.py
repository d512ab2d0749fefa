"""The models of a project: names for their versions."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import func, select

from pipeline.engine.models.operations import Operations, OperationType
from pipeline.engine.models.reader_tokens import ReaderTokens
from pipeline.engine.models.resources import Resources, get_model, model_etag
from pipeline.engine.serving.router import Router
from pipeline.engine.store import ModelRow, Store, VersionRow, now
from pipeline.engine.v1.fields import check_name
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.patches import MODEL_FIELDS, read_update
from pipeline.engine.v1.resources import ModelBody, model_path, version_path
from pipeline.engine.v1.responses import Model, ModelList, Operation, Version
from pipeline.errors import AlreadyExists, FailedPrecondition, ResourceExhausted
from pipeline.types import JsonValue

SetDefault = Callable[[str], Version]


class Models:
    """The models of one project.

    Args:
        store: The database.
        resources: Makes their v1 resources.
        operations: Records changes.
        router: Routes the predictions of the models.
        reader_tokens: Those that predict with one of the models.
        max_models: How many there may be.
    """

    def __init__(
        self,
        store: Store,
        resources: Resources,
        operations: Operations,
        router: Router,
        reader_tokens: ReaderTokens,
        *,
        max_models: int,
    ) -> None:
        self._store = store
        self._resources = resources
        self._operations = operations
        self._router = router
        self._reader_tokens = reader_tokens
        self._max_models = max_models

    def create(self, request: JsonValue) -> Model:
        """Create a model, at once.

        Raises:
            AlreadyExists: with the text that Airflow's clients look for.
        """
        body = ModelBody.read(request, where="model")
        check_name(body.name, field="model.name")
        with self._store.begin() as session:
            if session.scalar(select(ModelRow).filter_by(name=body.name)) is not None:
                raise AlreadyExists("A model with the same name already exists.", field="model.name")
            if (session.scalar(select(func.count()).select_from(ModelRow)) or 0) >= self._max_models:
                raise ResourceExhausted(
                    f"The project has {self._max_models} models, the most it may have; delete one, or raise "
                    "GRAFT_ENGINE_MAX_MODELS."
                )
            values = {"regions": body.regions, **body.to_json()}
            model = ModelRow(name=body.name, body=values, default_version=None, create_time=now())
            session.add(model)
            self._router.add_model(body.name)
            return self._resources.model(session, model)

    def get(self, name: str) -> Model:
        """Return one model."""
        with self._store.begin() as session:
            return self._resources.model(session, get_model(session, name))

    def list(self, page: Page) -> ModelList:
        """Return the models, oldest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.ascending(select(ModelRow), ModelRow.seq)).all()
            models, token = page.select(rows, lambda model: self._resources.model(session, model))
        return ModelList(models=models, next_page_token=token)

    def patch(self, name: str, request: JsonValue, mask: str | None, set_default: SetDefault) -> Operation:
        """Change a model's description, labels or default version; the operation has ended already.

        Args:
            name: The model.
            request: The new values.
            mask: The fields to change.
            set_default: Makes a version the default, if it may be.

        Raises:
            Aborted: if the request carries an etag that is not the model's.
        """
        update = read_update(request, mask, MODEL_FIELDS, where="model")
        with self._store.begin() as session:
            update.check_etag(model_etag(get_model(session, name)))
        if "default_version.name" in update.paths:
            default = update.body.default_version
            full_name = default.name if default else ""
            set_default(full_name.removeprefix(version_path(self._resources.project, name, "")))
        with self._store.begin() as session:
            model = get_model(session, name)
            changed = update.apply(model.body)
            model.body = {key: item for key, item in changed.items() if key != "defaultVersion"}
            operation = self._operations.begin(
                session, OperationType.UPDATE_MODEL, name, labels=model.body.get("labels")
            )
            return self._operations.end(operation, self._resources.model(session, model))

    def delete(self, name: str) -> Operation:
        """Delete a model without versions, and revoke its reader tokens.

        Raises:
            FailedPrecondition: while it has versions.
        """
        with self._store.begin() as session:
            model = get_model(session, name)
            count = session.scalar(select(func.count()).select_from(VersionRow).filter_by(model=name))
            if count:
                raise FailedPrecondition(
                    f"The model has {count} version(s); delete them before the model.", field="name"
                )
            session.delete(model)
            labels = model.body.get("labels")
            operation = self._operations.begin(session, OperationType.DELETE_MODEL, name, labels=labels)
            resource = self._operations.end(operation)
            # Before the commit: a model that stays may lose its tokens, but no token outlives its model.
            self._reader_tokens.revoke_all(model_path(self._resources.project, name))
        self._router.remove_model(name)
        return resource
