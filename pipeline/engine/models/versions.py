"""The versions of a project as clients see them. `Rollout` does what takes long."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from pipeline.engine.models.operations import Operations, OperationType
from pipeline.engine.models.resources import Resources, get_model, get_version, version_etag
from pipeline.engine.models.rollout import Rollout
from pipeline.engine.runtimes import find_serving_runtime, read_aliases
from pipeline.engine.serving.artifacts import check_model_files
from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.router import Router
from pipeline.engine.settings import EngineSettings
from pipeline.engine.store import Store, VersionRow, now
from pipeline.engine.v1.fields import check_name
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.patches import VERSION_FIELDS, read_update
from pipeline.engine.v1.resources import VersionBody, VersionSpec
from pipeline.engine.v1.responses import Operation, Version, VersionList, VersionState
from pipeline.errors import AlreadyExists, DatabaseUnavailable, FailedPrecondition, ResourceExhausted
from pipeline.storage import Storage
from pipeline.types import JsonValue

log = logging.getLogger(__name__)


class Versions:
    """The versions of one project's models.

    Args:
        store: The database.
        storage: Reads models.
        resources: Makes their v1 resources.
        operations: Records changes.
        router: Routes predictions.
        rollout: Creates and deletes versions in the background.
        settings: The limits of the project.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        resources: Resources,
        operations: Operations,
        router: Router,
        rollout: Rollout,
        settings: EngineSettings,
    ) -> None:
        self._store = store
        self._storage = storage
        self._resources = resources
        self._operations = operations
        self._router = router
        self._rollout = rollout
        self._settings = settings
        self._aliases = read_aliases(settings.runtime_aliases)
        self._uses: dict[str, str] = {}

    async def create(self, model_name: str, request: JsonValue) -> Operation:
        """Begin to deploy a version; the operation ends when it is warm.

        Raises:
            AlreadyExists: if the model has a version of this name.
            FailedPrecondition: if deploymentUri holds no model, or files of somebody else lie where the
                copy would.
            InvalidArgument: if deploymentUri overlaps a place where the engine keeps copies.
        """
        body = VersionBody.read(request, where="version")
        check_name(body.name, field="version.name")
        runtime = find_serving_runtime(body.runtime_version, where="version", aliases=self._aliases)
        with self._store.begin() as session:
            get_model(session, model_name)
            _check_is_new(session, model_name, body.name)
        files = self._rollout.files
        await asyncio.to_thread(files.check, files.place(model_name, body.name), body.deployment_uri)
        await asyncio.to_thread(
            check_model_files,
            self._storage,
            body.deployment_uri,
            field="version.deployment_uri",
            max_files=self._settings.max_version_files,
        )
        with self._store.begin() as session:
            get_model(session, model_name)
            _check_is_new(session, model_name, body.name)
            self._check_quotas(session)
            version = VersionRow(
                model=model_name,
                name=body.name,
                body={"framework": body.framework, **body.to_json()},
                state=VersionState.CREATING,
                create_time=now(),
                error_message=None,
                last_use_time=None,
            )
            session.add(version)
            operation = self._operations.begin(
                session, OperationType.CREATE_VERSION, model_name, body.name, labels=body.labels
            )
        if body.runtime_version not in (None, runtime.name):
            runtimes = f"{body.runtime_version}; {runtime.name} serves it"
            log.info("%s/%s is of runtime %s.", model_name, body.name, runtimes)
        self._router.refuse(model_name, body.name, f"Version {body.name} is {VersionState.CREATING}.")
        self._operations.spawn(operation, self._rollout.finish_creation)
        return self._operations.resource(operation)

    def _check_quotas(self, session: Session) -> None:
        count = session.scalar(select(func.count()).select_from(VersionRow)) or 0
        if count >= self._settings.max_versions:
            raise ResourceExhausted(
                f"The project has {count} versions, the most it may have; delete one, or raise "
                "GRAFT_ENGINE_MAX_VERSIONS."
            )
        self._check_changes(session)

    def _check_changes(self, session: Session) -> None:
        changing = VersionRow.state.in_([state for state in VersionState if state.is_changing])
        count = session.scalar(select(func.count()).select_from(VersionRow).where(changing)) or 0
        if count >= self._settings.max_version_changes:
            raise ResourceExhausted(
                f"{count} versions are being created or deleted, the most that may be at the same time; "
                "try again."
            )

    def record_use(self, deployment: Deployment) -> None:
        """Record that a version is used now, in memory: `save_uses` writes it."""
        self._uses[deployment.name] = now()

    def save_uses(self) -> None:
        """Write when versions were last used; later, if the database cannot be used now."""
        uses, self._uses = self._uses, {}
        try:
            self._write_uses(uses)
        except DatabaseUnavailable as error:
            self._uses = uses | self._uses
            log.warning("%s", error.message)

    def _write_uses(self, uses: dict[str, str]) -> None:
        if not uses:
            return
        with self._store.fenced(None).begin() as session:  # the one thing that followers write
            for full_name, moment in uses.items():
                model, _, name = full_name.partition("/")
                change = update(VersionRow).filter_by(model=model, name=name)
                is_later = VersionRow.last_use_time.is_(None) | (VersionRow.last_use_time < moment)
                session.execute(change.where(is_later).values(last_use_time=moment))

    def get(self, model_name: str, name: str) -> Version:
        """Return one version."""
        self.save_uses()
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
        return self._resources.version(version, is_default=model.default_version == name)

    def list(self, model_name: str, page: Page) -> VersionList:
        """Return the versions of a model, oldest first."""
        self.save_uses()
        with self._store.begin() as session:
            model = get_model(session, model_name)
            query = select(VersionRow).filter_by(model=model_name)
            rows = session.scalars(page.ascending(query, VersionRow.seq)).all()
        versions, token = page.select(
            rows, lambda row: self._resources.version(row, is_default=model.default_version == row.name)
        )
        return VersionList(versions=versions, next_page_token=token)

    def set_default(self, model_name: str, name: str) -> Version:
        """Route the model's predictions to this version from now on; the old default stays loaded.

        Raises:
            FailedPrecondition: if the version is not READY.
        """
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
            if version.state != VersionState.READY:
                raise FailedPrecondition(
                    f"Only a READY version can become the default; it is {version.state}.", field="name"
                )
            model.default_version = name
        self._router.add_model(model_name, name)
        return self._resources.version(version, is_default=True)

    def patch(self, model_name: str, name: str, request: JsonValue, mask: str | None) -> Operation:
        """Change the mutable fields of a version; the operation has ended already.

        Raises:
            Aborted: if the request carries an etag that is not the version's.
            FailedPrecondition: while the version is being created or deleted.
        """
        update = read_update(request, mask, VERSION_FIELDS, where="version")
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
            update.check_etag(version_etag(version))
            if VersionState(version.state).is_changing:
                raise FailedPrecondition(
                    f"The version cannot be changed while it is {version.state}.", field="name"
                )
            body = update.apply(version.body)
            spec = VersionSpec.read(body, where="version")  # the new values must go with the old ones
            version.body = body
            operation = self._operations.begin(
                session, OperationType.UPDATE_VERSION, model_name, name, labels=spec.labels
            )
            changed = self._resources.version(version, is_default=model.default_version == name)
            resource = self._operations.end(operation, changed)
        self._router.configure(model_name, name, spec)
        return resource

    def delete(self, model_name: str, name: str) -> Operation:
        """Begin to delete a version.

        Raises:
            FailedPrecondition: if it is the default and not the only one, or is changing already.
        """
        with self._store.begin() as session:
            model = get_model(session, model_name)
            version = get_version(session, model_name, name)
            count = (
                session.scalar(select(func.count()).select_from(VersionRow).filter_by(model=model_name)) or 0
            )
            if model.default_version == name and count > 1:
                raise FailedPrecondition(
                    "The default version can be deleted only when it is the only version of the model; "
                    "set another default first.",
                    field="name",
                )
            if VersionState(version.state).is_changing:
                raise FailedPrecondition(
                    f"The version cannot be deleted while it is {version.state}.", field="name"
                )
            self._check_changes(session)
            version.state = VersionState.DELETING
            model.default_version = None if model.default_version == name else model.default_version
            operation = self._operations.begin(
                session, OperationType.DELETE_VERSION, model_name, name, labels=version.body.get("labels")
            )
        self._router.add_model(model_name, model.default_version)
        self._operations.spawn(operation, self._rollout.finish_deletion)
        return self._operations.resource(operation)


def _check_is_new(session: Session, model: str, name: str) -> None:
    if session.scalar(select(VersionRow).filter_by(model=model, name=name)) is not None:
        raise AlreadyExists("A version with the same name already exists.", field="version.name")
