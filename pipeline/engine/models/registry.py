"""What the bucket keeps of models and versions, so that a lost database can be made again from it.

`engine/models/<model>.json` holds a model's resource, its default version, and the resources of its versions.
It is written after each change of the database. What it says of a version that the database does not know
stays as long as the version's files do: those are what `graft engine rebuild` registers again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from pydantic import ValidationError
from sqlalchemy import select

from pipeline.engine.models.resources import version_spec
from pipeline.engine.models.rollout import is_damaged
from pipeline.engine.models.version_files import VersionFiles
from pipeline.engine.store import ModelRow, Store, VersionRow
from pipeline.engine.supervision import supervise
from pipeline.engine.v1.responses import VersionState
from pipeline.errors import DatabaseUnavailable, FormatTooNew, PipelineError
from pipeline.storage import Storage
from pipeline.types import JsonDict, JsonObject

log = logging.getLogger(__name__)

FORMAT = 1
FLUSH_SECONDS = 10.0  # for the last writes while the engine stops


def check_rows(store: Store) -> None:
    """Check that the rows of models and versions mean something; a default that does not exist is no default.

    Raises:
        StackError: if one cannot be what the engine wrote; the database is damaged.
    """
    with store.begin() as session:
        versions = list(session.scalars(select(VersionRow)))
        names = {(version.model, version.name) for version in versions}
        for model in session.scalars(select(ModelRow).filter(ModelRow.default_version.is_not(None))):
            if (model.name, model.default_version) not in names:
                log.error("%s, the default version of %s, does not exist.", model.default_version, model.name)
                model.default_version = None
    for version in versions:
        try:
            VersionState(version.state)
            version_spec(version)
        except (ValueError, ValidationError, PipelineError) as error:
            raise store.damaged(f"version {version.model}/{version.name} cannot be read") from error


class Registry:
    """Writes the records of models, and finds versions of the bucket that the database does not know.

    Args:
        store: The database.
        storage: Writes the records.
        files: Knows where the copies of versions are.
    """

    def __init__(self, store: Store, storage: Storage, files: VersionFiles) -> None:
        self._store = store
        self._storage = storage
        self._files = files
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._lost: set[tuple[str, str]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        store.watch_models(self._mark)

    def _mark(self, models: Iterable[str]) -> None:
        self._changed.update(models)
        self._wake.set()

    def start(self) -> None:
        """Write what changed while no engine ran, and look for versions that the database does not know."""
        with self._store.begin() as session:
            self._mark(session.scalars(select(ModelRow.name)))
        self._tasks = [
            asyncio.create_task(supervise("registry", self._write_changes)),
            asyncio.create_task(supervise("lost versions", partial(self._find_lost, self._known()))),
        ]

    async def stop(self) -> None:
        """Write what is not written yet, for a bounded time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.settle()

    async def settle(self) -> None:
        """Wait until all changes are written, for a bounded time; the rest is written later."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._flush()
        except (TimeoutError, PipelineError) as error:
            log.warning("The records of models cannot be written now: %r", error)

    async def _write_changes(self) -> None:
        while True:
            await self._flush()
            await self._wake.wait()
            self._wake.clear()

    async def _flush(self) -> None:
        async with self._writing:
            while self._changed:
                await self._save(min(self._changed))

    async def _save(self, name: str) -> None:
        """Write the record of one model; one that changes meanwhile is written again."""
        self._changed.discard(name)
        try:
            with self._store.begin() as session:
                model = session.scalar(select(ModelRow).filter_by(name=name))
                versions = list(session.scalars(select(VersionRow).filter_by(model=name)))
            await asyncio.to_thread(self._write, name, model, versions)
        except BaseException:
            self._changed.add(name)
            raise

    def _write(self, name: str, model: ModelRow | None, versions: list[VersionRow]) -> None:
        uri = self._files.model_record(name)
        try:
            old = self._read(uri)
        except FormatTooNew as error:
            log.error("%s It stays as it is.", error)
            return
        record = self._record(name, model, versions, old)
        if record is None:
            self._storage.delete(uri)
        elif record != old:
            self._storage.write_json(uri, record)

    def _read(self, uri: str) -> JsonDict:
        if not self._storage.exists(uri):
            return {}
        try:
            value = self._storage.read_json(uri)
        except ValueError:
            log.error("%s is damaged and is written again.", uri)
            return {}
        record: JsonDict = value if isinstance(value, dict) else {}
        FormatTooNew.check(f"record {uri}", record.get("format", 0), FORMAT)
        return record

    def _record(
        self, name: str, model: ModelRow | None, versions: list[VersionRow], old: JsonDict
    ) -> JsonDict | None:
        """Return the new record; None if neither the database nor the bucket has the model any more."""
        before: dict[str, JsonDict] = old.get("versions", {})
        ready = [row for row in versions if row.state == VersionState.READY or is_damaged(row)]
        bodies = {row.name: self._body(name, row, before.get(row.name, {})) for row in ready}
        kept = {
            version: body
            for version, body in before.items()
            if version not in bodies and self._files.has_record(self._files.place(name, version))
        }
        default, lost = model.default_version if model else None, old.get("default_version")
        if lost in kept or (default is None and lost in bodies):  # it stays until it is registered again
            default = lost
        if not kept and not bodies:
            return None
        return {
            "format": FORMAT,
            "model": model.body if model else old.get("model", {}),
            "default_version": default if default in {**kept, **bodies} else None,
            "versions": {**kept, **bodies},
        }

    def _body(self, model: str, row: VersionRow, before: JsonObject) -> JsonDict:
        """Return the resource of a version; of one registered again in its place, with its first source."""
        source = version_spec(row).deployment_uri
        if self._files.is_in_place(self._files.place(model, row.name), source) and before:
            source = str(before.get("deploymentUri", source))
        return {**row.body, "deploymentUri": source}

    def _known(self) -> set[tuple[str, str]]:
        with self._store.begin() as session:
            return {(row.model, row.name) for row in session.scalars(select(VersionRow))}

    async def _find_lost(self, registered: set[tuple[str, str]]) -> None:
        stored = await asyncio.to_thread(self._files.list_copies)
        models = {model for model, _ in registered}
        self._lost = {
            (model, version)
            for (model, version), is_recorded in stored.items()
            if (model, version) not in registered and (is_recorded or model not in models)
        }
        if text := self.problem():
            log.error("%s", text)

    def problem(self) -> str | None:
        """Return what is wrong with the database: it cannot be read, or the bucket has more than it knows."""
        try:
            self._lost -= self._known()
        except DatabaseUnavailable as error:
            return error.message
        if not self._lost:
            return self._describe_undefaulted()
        models = len({model for model, _ in self._lost})
        return (
            f"The engine's database was lost, or is older than the bucket: {self._files.workspace} holds "
            f"{len(self._lost)} versions of {models} models that it does not know. `graft engine rebuild` "
            "registers them."
        )

    def _describe_undefaulted(self) -> str | None:
        with self._store.begin() as session:
            ready = select(VersionRow.model).filter_by(state=VersionState.READY)
            query = select(ModelRow.name).filter(ModelRow.default_version.is_(None), ModelRow.name.in_(ready))
            models = list(session.scalars(query))
        if not models:
            return None
        return (
            f"The engine's database was damaged: {len(models)} models have versions but no default. `graft "
            "engine rebuild` makes the recorded version the default."
        )
