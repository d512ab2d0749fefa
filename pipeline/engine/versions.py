"""Versions: copied at creation, loaded and warm before they are READY, kept warm until they are deleted."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_snake
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from pipeline.engine.artifacts import check_saved_model, fetch_model
from pipeline.engine.fields import check_name
from pipeline.engine.models import (
    CREATING,
    DELETING,
    FAILED,
    READY,
    get_model,
    get_version,
    version_etag,
    version_to_wire,
)
from pipeline.engine.operations import EMPTY, Operations
from pipeline.engine.paging import Page
from pipeline.engine.resources import VersionBody, VersionPatch, min_nodes
from pipeline.engine.runtimes import find_runtime
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.pool import WorkerPool
from pipeline.engine.serving.router import Router
from pipeline.engine.serving.served import ServedVersion
from pipeline.engine.store import Model, Operation, Store, Version, now
from pipeline.engine.telemetry.requests import sample_of
from pipeline.engine.updates import VERSION_FIELDS, read_update
from pipeline.errors import (
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    Internal,
    PipelineError,
    ResourceExhausted,
)
from pipeline.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where versions live.

    Args:
        project: The project in resource names.
        workspace: The bucket that artifacts are copied to.
        cache: Directory of local copies, one per version.
        limits: Of each version's online predictions.
        max_versions: How many there may be in the project.
        max_changes: How many may be created and deleted at the same time.
        max_files: How many files a version may have.
    """

    project: str
    workspace: str
    cache: Path
    limits: RequestLimits
    max_versions: int
    max_changes: int
    max_files: int


class Versions:
    """The versions of one project's models.

    Args:
        store: The database.
        storage: Where artifacts are read and copied.
        operations: Where creations and deletions are recorded.
        router: Told who answers.
        pool: Who loads models.
        place: Where versions live.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        operations: Operations,
        router: Router,
        pool: WorkerPool,
        place: Place,
    ) -> None:
        self._store = store
        self._storage = storage
        self._operations = operations
        self._router = router
        self._pool = pool
        self._place = place
        self._uses: dict[str, str] = {}

    def _to_wire(self, version: Version, model: Model, *, runtime: str | None = None) -> dict[str, Any]:
        return version_to_wire(
            self._place.project,
            version,
            is_default=model.default_version == version.name,
            runtime=runtime or self._router.runtime(version.model, version.name),
        )

    def _uri(self, version: Version) -> str:
        return f"{self._place.workspace}/models/{version.model}/{version.name}"

    def _directory(self, version: Version) -> Path:
        return self._place.cache / version.model / f"{version.name}.{version.seq}"

    def _serve(self, version: Version) -> ServedVersion:
        directory = self._directory(version)

        async def fetch() -> Path:
            await asyncio.to_thread(fetch_model, self._storage, self._uri(version), directory, is_ours=True)
            return directory

        return ServedVersion(
            f"{version.model}/{version.name}",
            fetch,
            self._pool,
            limits=self._place.limits,
            min_nodes=min_nodes(version.body),
            sample=sample_of(version.body),
        )

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
            max_files=self._place.max_files,
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
        self._operations.spawn(operation, self.finish_creation)
        return self._operations.to_wire(operation)

    def _check_quotas(self, session: Session) -> None:
        count = session.scalar(select(func.count()).select_from(Version)) or 0
        if count >= self._place.max_versions:
            raise ResourceExhausted(
                f"The project has {count} versions, the most it may have; delete one, or raise "
                "GRAFT_ENGINE_MAX_VERSIONS."
            )
        self._check_changes(session)

    def _check_changes(self, session: Session) -> None:
        changing = Version.state.in_((CREATING, DELETING))
        count = session.scalar(select(func.count()).select_from(Version).where(changing)) or 0
        if count >= self._place.max_changes:
            raise ResourceExhausted(
                f"{count} versions are being created or deleted, the most that may be at the same time; "
                "try again."
            )

    async def finish_creation(self, operation: Operation) -> dict[str, Any]:
        """Copy, load, and make READY; safe to begin again after a crash."""
        with self._store.begin() as session:
            version = get_version(session, operation.model, operation.version or "")
            model = get_model(session, operation.model)
        if version.state == READY:  # the engine was killed before it could say so
            return self._to_wire(version, model)
        if version.state == FAILED:
            await self._remove_files(version)
            kind = Cancelled if operation.is_cancellation_requested else FailedPrecondition
            raise kind(version.error_message or "Create Version failed.")
        try:
            served = await self._deploy(version, operation)
        except PipelineError as error:
            text = f"Create Version failed. {_bad_model(error)}"
            await self._fail(version, text)
            raise type(error)(text) from error
        except Exception as error:  # the edge of the task: the version must not stay CREATING
            log.exception("Version %s could not be deployed.", version.name)
            await self._fail(version, "Create Version failed. The engine failed; see its log.")
            raise Internal("Create Version failed. The engine failed; see its log.") from error
        return self._make_ready(version, served)

    async def _deploy(self, version: Version, operation: Operation) -> ServedVersion:
        source = version.body["deploymentUri"]
        if source.rstrip("/") != self._uri(version):
            await asyncio.to_thread(self._storage.delete_tree, self._uri(version))
            await asyncio.to_thread(self._storage.copy_tree, source, self._uri(version))
        served = self._serve(version)
        await self._operations.cancellable(operation, served.start())
        return served

    def _make_ready(self, version: Version, served: ServedVersion) -> dict[str, Any]:
        with self._store.begin() as session:
            row = session.get_one(Version, version.seq)
            model = get_model(session, version.model)
            row.state = READY
            if model.default_version is None:
                model.default_version = row.name
            answer = self._to_wire(row, model, runtime=served.runtime)
        self._router.add(version.model, version.name, served)
        self._router.add_model(version.model, model.default_version)
        return answer

    async def _fail(self, version: Version, text: str) -> None:
        with self._store.begin() as session:
            row = session.get_one(Version, version.seq)
            row.state, row.error_message = FAILED, text
        await self._remove_files(version)

    async def _remove_files(self, version: Version) -> None:
        await asyncio.to_thread(shutil.rmtree, self._directory(version), ignore_errors=True)
        await asyncio.to_thread(self._storage.delete_tree, self._uri(version))

    def note_use(self, served: ServedVersion) -> None:
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
            return self._to_wire(get_version(session, model_name, name), model)

    def list(self, model_name: str, page: Page) -> dict[str, Any]:
        """Return the versions of a model, oldest first."""
        self.save_uses()
        with self._store.begin() as session:
            model = get_model(session, model_name)
            query = select(Version).filter_by(model=model_name)
            rows = session.scalars(page.ascending(query, Version.seq)).all()
            return page.answer("versions", rows, lambda version: self._to_wire(version, model))

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
            answer = self._to_wire(version, model)
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
            answer = self._to_wire(version, model)
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
        self._operations.spawn(operation, self.finish_deletion)
        return self._operations.to_wire(operation)

    async def finish_deletion(self, operation: Operation) -> dict[str, Any]:
        """Stop the worker and remove the files and the row; safe to begin again after a crash."""
        with self._store.begin() as session:
            version = session.scalar(select(Version).filter_by(model=operation.model, name=operation.version))
        served = self._router.remove(operation.model, operation.version or "")
        if served is not None:
            await served.close()
        if version is None:
            return EMPTY
        await self._remove_files(version)
        with self._store.begin() as session:
            session.delete(session.get_one(Version, version.seq))
        return EMPTY

    def recover(self) -> None:
        """Serve READY versions again after a restart: defaults at once, others when they are asked."""
        with self._store.begin() as session:
            defaults = {model.name: model.default_version for model in session.scalars(select(Model))}
            versions = list(session.scalars(select(Version).order_by(Version.seq.desc())))
        self._sweep({self._directory(version) for version in versions})
        ready = [version for version in versions if version.state == READY]
        for name, default in defaults.items():
            self._router.add_model(name, default)
        for version in sorted(ready, key=lambda row: defaults.get(row.model) != row.name):
            self._router.add(version.model, version.name, self._serve(version))

    def _sweep(self, kept: set[Path]) -> None:
        """Remove the local copies that a killed engine left of versions that are gone, or left unfinished."""
        for directory in set(self._place.cache.glob("*/*")) - kept:
            shutil.rmtree(directory, ignore_errors=True)


def _bad_model(error: PipelineError) -> str:
    text = error.message
    return f'Bad model detected with error: "{text}"' if text.startswith("Failed to load model") else text
