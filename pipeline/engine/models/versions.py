"""Versions: made, listed, changed, made the default and deleted, as v1 says; `deployments` does the work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic.alias_generators import to_snake
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.engine.models.models import CREATING, DELETING, READY, get_model, get_version, version_etag
from pipeline.engine.models.operations import Operations
from pipeline.engine.models.rollout import Rollout
from pipeline.engine.runtimes import find_runtime
from pipeline.engine.serving.artifacts import check_saved_model
from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.router import Router
from pipeline.engine.store import Store, Version, now
from pipeline.engine.telemetry.request_log import sample_of
from pipeline.engine.v1.fields import check_name
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.resources import VersionBody, VersionPatch, min_nodes
from pipeline.engine.v1.updates import VERSION_FIELDS, read_update
from pipeline.errors import AlreadyExists, FailedPrecondition, ResourceExhausted
from pipeline.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLimits:
    """What a project may have.

    Args:
        max_versions: How many versions.
        max_changes: How many may be created and deleted at the same time.
        max_files: How many files a version may have.
    """

    max_versions: int
    max_changes: int
    max_files: int


class Versions:
    """The versions of one project's models.

    Args:
        store: The database.
        storage: Where artifacts are read.
        operations: Where creations and deletions are recorded.
        router: Told who answers.
        deployments: Does what takes long.
        limits: What the project may have.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        operations: Operations,
        router: Router,
        deployments: Rollout,
        limits: VersionLimits,
    ) -> None:
        self._store = store
        self._storage = storage
        self._operations = operations
        self._router = router
        self._deployments = deployments
        self._limits = limits
        self._uses: dict[str, str] = {}

    async def create(self, model_name: str, request: Any) -> dict[str, Any]:
        """Begin to deploy a version; the operation ends when it is warm.

        Raises:
            AlreadyExists: if the model has a version of this name.
            FailedPrecondition: if deploymentUri holds no SavedModel.
        """
        body = VersionBody.read(request, where="version")
        check_name(body.name, field="version.name")
        find_runtime(body.runtime_version, body.python_version, where="version")
        with self._store.begin() as session:
            get_model(session, model_name)
        await asyncio.to_thread(
            check_saved_model,
            self._storage,
            body.deployment_uri,
            field="version.deployment_uri",
            max_files=self._limits.max_files,
        )
        with self._store.begin() as session:
            get_model(session, model_name)
            if session.scalar(select(Version).filter_by(model=model_name, name=body.name)) is not None:
                raise AlreadyExists("A version with the same name already exists.", field="version.name")
            self._check_quotas(session)
            version = Version(
                model=model_name,
                name=body.name,
                body={"framework": body.framework, **body.to_wire()},
                state=CREATING,
                create_time=now(),
                error_message=None,
                last_use_time=None,
            )
            session.add(version)
            operation = self._operations.add(
                session, "CREATE_VERSION", model_name, body.name, labels=body.labels
            )
        self._operations.spawn(operation, self._deployments.finish_creation)
        return self._operations.to_wire(operation)

    def _check_quotas(self, session: Session) -> None:
        count = session.scalar(select(func.count()).select_from(Version)) or 0
        if count >= self._limits.max_versions:
            raise ResourceExhausted(
                f"The project has {count} versions, the most it may have; delete one, or raise "
                "GRAFT_ENGINE_MAX_VERSIONS."
            )
        self._check_changes(session)

    def _check_changes(self, session: Session) -> None:
        changing = Version.state.in_((CREATING, DELETING))
        count = session.scalar(select(func.count()).select_from(Version).where(changing)) or 0
        if count >= self._limits.max_changes:
            raise ResourceExhausted(
                f"{count} versions are being created or deleted, the most that may be at the same time; "
                "try again."
            )

    def note_use(self, served: Deployment) -> None:
        """Remember that a version is used now, without the database: `save_uses` writes it."""
        self._uses[served.name] = now()

    def save_uses(self) -> None:
        """Write down when versions were last used."""
        if not self._uses:
            return
        uses, self._uses = self._uses, {}
        with self._store.begin() as session:
            for served, moment in uses.items():
                model, _, name = served.partition("/")
                version = session.scalar(select(Version).filter_by(model=model, name=name))
                if version is not None:
                    version.last_use_time = moment

    def get(self, model_name: str, name: str) -> dict[str, Any]:
        """Return one version."""
        self.save_uses()
        with self._store.begin() as session:
            model = get_model(session, model_name)
            return self._deployments.to_wire(get_version(session, model_name, name), model)

    def list(self, model_name: str, page: Page) -> dict[str, Any]:
        """Return the versions of a model, oldest first."""
        self.save_uses()
        with self._store.begin() as session:
            model = get_model(session, model_name)
            query = select(Version).filter_by(model=model_name)
            rows = session.scalars(page.ascending(query, Version.seq)).all()
            return page.answer("versions", rows, lambda version: self._deployments.to_wire(version, model))

    def set_default(self, model_name: str, name: str) -> dict[str, Any]:
        """Send the model's predictions to this version from now on; the old default stays warm.

        Raises:
            FailedPrecondition: if the version is not READY.
        """
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
            if version.state != READY:
                raise FailedPrecondition(
                    f"Only a READY version can become the default; it is {version.state}.", field="name"
                )
            model.default_version = name
            answer = self._deployments.to_wire(version, model)
        self._router.add_model(model_name, name)
        return answer

    def patch(self, model_name: str, name: str, request: Any, mask: str | None) -> dict[str, Any]:
        """Change what may be changed of a version; the operation has ended already.

        Raises:
            Aborted: if the request carries an etag that is not the version's.
            FailedPrecondition: while the version is being created or deleted.
        """
        update = read_update(request, mask, VERSION_FIELDS, where="version")
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
            update.check_etag(version_etag(version), is_asked=update.names_etag or update.etag is not None)
            if version.state in (CREATING, DELETING):
                raise FailedPrecondition(
                    f"The version cannot be changed while it is {version.state}.", field="name"
                )
            body = update.apply(version.body)
            changeable = {key: body[key] for key in body if to_snake(key) in VersionPatch.model_fields}
            VersionPatch.read(changeable, where="version")  # together, too, they must make sense
            version.body = body
            answer = self._deployments.to_wire(version, model)
            operation = self._operations.add(
                session, "UPDATE_VERSION", model_name, name, labels=body.get("labels"), response=answer
            )
        self._router.configure(model_name, name, min_nodes=min_nodes(body), sample=sample_of(body))
        return self._operations.to_wire(operation)

    def delete(self, model_name: str, name: str) -> dict[str, Any]:
        """Begin to delete a version.

        Raises:
            FailedPrecondition: if it is the default and not the only one, or is changing already.
        """
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
            count = session.scalar(select(func.count()).select_from(Version).filter_by(model=model_name)) or 0
            if model.default_version == name and count > 1:
                raise FailedPrecondition(
                    "The default version can be deleted only when it is the only version of the model; "
                    "set another default first.",
                    field="name",
                )
            if version.state in (CREATING, DELETING):
                raise FailedPrecondition(
                    f"The version cannot be deleted while it is {version.state}.", field="name"
                )
            self._check_changes(session)
            version.state = DELETING
            model.default_version = None if model.default_version == name else model.default_version
            operation = self._operations.add(
                session, "DELETE_VERSION", model_name, name, labels=version.body.get("labels")
            )
            self._router.add_model(model_name, model.default_version)
        self._operations.spawn(operation, self._deployments.finish_deletion)
        return self._operations.to_wire(operation)
