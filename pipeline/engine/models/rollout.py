"""What becomes of versions: copied, loaded and warm before they are READY, kept warm until deleted."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from pipeline.engine.models.models import FAILED, READY, get_model, get_version, version_to_wire
from pipeline.engine.models.operations import EMPTY, Operations
from pipeline.engine.serving.artifacts import fetch_model
from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.pool import WorkerPool
from pipeline.engine.serving.router import Router
from pipeline.engine.store import Model, Operation, Store, Version
from pipeline.engine.telemetry.request_log import sample_of
from pipeline.engine.v1.resources import min_nodes
from pipeline.errors import Cancelled, FailedPrecondition, Internal, PipelineError
from pipeline.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConfig:
    """Where versions live.

    Args:
        project: The project in resource names.
        workspace: The bucket that artifacts are copied to.
        cache: Directory of local copies, one per version.
        limits: Of each version's online predictions.
    """

    project: str
    workspace: str
    cache: Path
    limits: RequestLimits


class Rollout:
    """The files and workers behind the versions of one project.

    Args:
        store: The database.
        storage: Where artifacts are read and copied.
        operations: Says whether a creation is cancelled.
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
        place: DeploymentConfig,
    ) -> None:
        self._store = store
        self._storage = storage
        self._operations = operations
        self._router = router
        self._pool = pool
        self._place = place

    def to_wire(self, version: Version, model: Model, *, runtime: str | None = None) -> dict[str, Any]:
        """Return a version's resource."""
        return version_to_wire(
            self._place.project,
            version,
            is_default=model.default_version == version.name,
            runtime=runtime or self._router.runtime(version.model, version.name),
        )

    async def finish_creation(self, operation: Operation) -> dict[str, Any]:
        """Copy, load, and make READY; safe to begin again after a crash."""
        with self._store.begin() as session:
            version = get_version(session, operation.model, operation.version or "")
            model = get_model(session, operation.model)
        if version.state == READY:  # the engine was killed before it could say so
            return self.to_wire(version, model)
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

    async def _deploy(self, version: Version, operation: Operation) -> Deployment:
        source = version.body["deploymentUri"]
        if source.rstrip("/") != self._uri(version):
            await asyncio.to_thread(self._storage.delete_tree, self._uri(version))
            await asyncio.to_thread(self._storage.copy_tree, source, self._uri(version))
        served = self._serve(version)
        await self._operations.cancellable(operation, served.start())
        return served

    def _make_ready(self, version: Version, served: Deployment) -> dict[str, Any]:
        with self._store.begin() as session:
            row = session.get_one(Version, version.seq)
            model = get_model(session, version.model)
            row.state = READY
            if model.default_version is None:
                model.default_version = row.name
            answer = self.to_wire(row, model, runtime=served.runtime)
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

    def _uri(self, version: Version) -> str:
        return f"{self._place.workspace}/models/{version.model}/{version.name}"

    def _directory(self, version: Version) -> Path:
        return self._place.cache / version.model / f"{version.name}.{version.seq}"

    def _serve(self, version: Version) -> Deployment:
        directory = self._directory(version)

        async def fetch() -> Path:
            await asyncio.to_thread(fetch_model, self._storage, self._uri(version), directory, is_ours=True)
            return directory

        return Deployment(
            f"{version.model}/{version.name}",
            fetch,
            self._pool,
            limits=self._place.limits,
            min_nodes=min_nodes(version.body),
            sample=sample_of(version.body),
        )


def _bad_model(error: PipelineError) -> str:
    text = error.message
    return f'Bad model detected with error: "{text}"' if text.startswith("Failed to load model") else text
