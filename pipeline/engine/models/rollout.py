"""The rollout of versions: copied, loaded and warm before they are READY, served until they are deleted."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import select

from pipeline.engine.models.operations import Operations
from pipeline.engine.models.resources import Resources, get_model, get_version, version_spec
from pipeline.engine.models.version_files import VersionFiles, VersionPlace
from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.pool import WorkerPool
from pipeline.engine.serving.router import Router
from pipeline.engine.store import RETRY_SECONDS, OperationRow, Store, VersionRow
from pipeline.engine.v1.responses import Version, VersionState
from pipeline.engine.v1.shortages import engine_failed
from pipeline.errors import (
    Cancelled,
    DamagedModel,
    DatabaseUnavailable,
    FailedPrecondition,
    Internal,
    PipelineError,
    StorageError,
)
from pipeline.ml_v1 import DAMAGED_FILES
from pipeline.storage import Storage

log = logging.getLogger(__name__)

CREATE_PATIENCE_SECONDS = 60.0  # how long the creation of a version waits for a bucket that is full


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConfig:
    """Where versions are kept, and how they are served.

    Args:
        workspace: The bucket that models are copied to.
        cache: The directory of local copies, one per version.
        limits: The limits of each version's online predictions.
    """

    workspace: str
    cache: Path
    limits: RequestLimits


class Rollout:
    """The files and workers behind the versions of one project.

    Args:
        store: The database.
        storage: Reads and copies models.
        resources: Makes the v1 resources of versions.
        operations: Cancels creations.
        router: Routes predictions.
        pool: Loads models.
        config: Where versions are kept.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage,
        resources: Resources,
        operations: Operations,
        router: Router,
        pool: WorkerPool,
        config: DeploymentConfig,
    ) -> None:
        self._store = store
        self._storage = storage
        self._resources = resources
        self._operations = operations
        self._router = router
        self._pool = pool
        self._config = config
        self.files = VersionFiles(storage, config.workspace)

    async def finish_creation(self, operation: OperationRow) -> Version:
        """Copy and load a version and make it READY; may be repeated after a crash."""
        with self._store.begin() as session:
            version = get_version(session, operation.model, operation.version or "")
            model = get_model(session, operation.model)
        if version.state == VersionState.READY:  # the engine was killed before it finished the operation
            return self._resources.version(version, is_default=model.default_version == version.name)
        if version.state == VersionState.FAILED:
            await self._remove_files(version, has_failed=True)
            kind = Cancelled if operation.is_cancellation_requested else FailedPrecondition
            raise kind(version.error_message or "Create Version failed.")
        try:
            deployment = await self._deploy(version, operation)
        except DatabaseUnavailable:
            raise  # the operation is repeated
        except PipelineError as error:
            text = f"Create Version failed. {_bad_model(error)}"
            await self._fail(version, text)
            raise type(error)(text) from error
        except Exception as error:  # the edge of the task: the version must not stay CREATING
            log.exception("Version %s could not be deployed.", version.name)
            text = f"Create Version failed. {engine_failed(error)}"
            await self._fail(version, text)
            raise Internal(text) from error
        return await self._store.retry(partial(self._make_ready, version, deployment))

    async def _deploy(self, version: VersionRow, operation: OperationRow) -> Deployment:
        source = version_spec(version).deployment_uri
        copy = partial(self.files.copy, self._place(version), source)
        await self._write(copy, patience_seconds=CREATE_PATIENCE_SECONDS)
        deployment = self.deployment(version)
        await self._operations.cancellable(operation, deployment.start())
        return deployment

    def _make_ready(self, version: VersionRow, deployment: Deployment) -> Version:
        with self._store.begin() as session:
            row = session.get_one(VersionRow, version.seq)
            model = get_model(session, version.model)
            row.state = VersionState.READY
            if model.default_version is None:
                model.default_version = row.name
            is_default = model.default_version == row.name
        self._router.add(version.model, version.name, deployment)
        self._router.add_model(version.model, model.default_version)
        return self._resources.version(row, is_default=is_default)

    async def _fail(self, version: VersionRow, text: str) -> None:
        await self._store.retry(partial(self._mark_failed, version, text))
        await self._remove_files(version, has_failed=True)

    def _mark_failed(self, version: VersionRow, text: str) -> None:
        with self._store.begin() as session:
            row = session.get_one(VersionRow, version.seq)
            row.state, row.error_message = VersionState.FAILED, text
        self._router.refuse(version.model, version.name, describe_unready(row))

    async def _remove_files(self, version: VersionRow, *, has_failed: bool) -> None:
        """Remove the files of a version, but not the only copy of one that was never served from there."""
        await asyncio.to_thread(shutil.rmtree, self._directory(version), ignore_errors=True)
        place, source = self._place(version), version_spec(version).deployment_uri
        if not (has_failed and self.files.is_in_place(place, source)):
            await self._write(partial(self.files.remove, place))

    async def _write(self, work: Callable[[], None], *, patience_seconds: float = float("inf")) -> None:
        """Change the bucket, again with back-off while it cannot be changed: what was accepted is done."""
        deadline = time.monotonic() + patience_seconds
        for seconds in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            try:
                await asyncio.to_thread(work)
            except StorageError as error:
                if not error.transient or time.monotonic() > deadline:
                    raise
                log.warning("%s Trying again in %g s.", error.message, seconds)
            else:
                return
            await asyncio.sleep(seconds)

    async def finish_deletion(self, operation: OperationRow) -> None:
        """Stop the worker and remove the files and the row; may be repeated after a crash."""
        with self._store.begin() as session:
            version = session.scalar(
                select(VersionRow).filter_by(model=operation.model, name=operation.version)
            )
        deployment = self._router.remove(operation.model, operation.version or "")
        if deployment is not None:
            await deployment.close()
        if version is None:
            return
        if version.error_message is None:  # it was served; the engine that made it may have kept no record
            source = version_spec(version).deployment_uri
            with suppress(DamagedModel):  # files that cannot be told to be the engine's stay
                await self._write(partial(self.files.adopt, self._place(version), source))
        await self._remove_files(version, has_failed=bool(version.error_message))
        await self._store.retry(partial(self._delete_row, version))

    def _delete_row(self, version: VersionRow) -> None:
        with self._store.begin() as session:
            session.delete(session.get_one(VersionRow, version.seq))

    def sweep(self) -> None:
        """Remove local copies that are unfinished, or of deleted versions: a killed engine leaves them."""
        with self._store.begin() as session:
            current = {self._directory(version) for version in session.scalars(select(VersionRow))}
        for directory in set(self._config.cache.glob("*/*")) - current:
            shutil.rmtree(directory, ignore_errors=True)

    def _place(self, version: VersionRow) -> VersionPlace:
        return self.files.place(version.model, version.name)

    def _directory(self, version: VersionRow) -> Path:
        return self._config.cache / version.model / f"{version.name}.{version.seq}"

    def _record_damage(self, version: VersionRow, text: str | None) -> None:
        """Record that the files of a served version are damaged, or with None that they are right again."""
        if not self._store.may_write:
            return  # the leader finds it, too
        with self._store.begin() as session:
            row = session.get(VersionRow, version.seq)
            if row is not None and (row.state == VersionState.READY or is_damaged(row)):
                if row.error_message != text:
                    row.error_message = text
                    row.state = VersionState.FAILED if text else VersionState.READY

    def deployment(self, version: VersionRow) -> Deployment:
        """Return what serves a version; nothing is loaded yet."""
        directory, spec = self._directory(version), version_spec(version)
        place = self._place(version)

        async def fetch() -> Path:
            try:
                await asyncio.to_thread(self.files.fetch, place, spec.deployment_uri, directory)
            except DamagedModel as error:
                await self._store.retry(partial(self._record_damage, version, error.message))
                raise
            await self._store.retry(partial(self._record_damage, version, None))
            return directory

        return Deployment(
            f"{version.model}/{version.name}",
            fetch,
            self._pool,
            limits=self._config.limits,
            min_nodes=spec.min_nodes,
            request_logging=spec.request_logging_config,
        )


def is_damaged(version: VersionRow) -> bool:
    """Return True if a version was READY until its files were found damaged."""
    text = version.error_message or ""
    return version.state == VersionState.FAILED and text.startswith(DAMAGED_FILES)


def describe_unready(version: VersionRow) -> str:
    """Return why a version is not served."""
    text = f"Version {version.name} is {version.state}"
    return f"{text}: {version.error_message}" if version.error_message else f"{text}."


def _bad_model(error: PipelineError) -> str:
    text = error.message
    return f'Bad model detected with error: "{text}"' if text.startswith("Failed to load model") else text
