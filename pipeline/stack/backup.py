"""Backups while the stack runs: databases by SQLite's online backup, everything else by content."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pipeline import __version__
from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Settings
from pipeline.config.settings import SHIPPED_CLASSIFIERS
from pipeline.engine.control import EngineSettings, serving_state
from pipeline.errors import BackupError, ObjectNotFound
from pipeline.stack.databases import airflow_remedy, engine_remedy
from pipeline.stack.environment import database_path
from pipeline.stack.places import check_whole
from pipeline.stack.profile import find_profile
from pipeline.stack.secret_files import check_target, write_secrets
from pipeline.stack.snapshot import BackupFolder, Snapshot, StoredFile, is_path, reusable, stamp_of
from pipeline.storage import Storage
from pipeline.types import Profile

Progress = Callable[[str], None]
MAX_ROUNDS = 5  # until no version was created or deleted while the bucket was read
PROGRESS_SECONDS = 2.0
ENGINE_DATABASE = "engine/engine.db"
AIRFLOW_DATABASE = "airflow/airflow.db"
STAGING = "engine/staging/"  # of copies that the engine is making


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult(Record):
    """What a backup holds, and what of it was new.

    Args:
        snapshot: Its name.
        target: Where it is.
        files: How many files and objects it holds.
        bytes: Their size.
        files_read: How many of them were read, because the snapshot before does not have them.
        seconds: How long it took.
        has_secrets: Whether the secrets are part of it.
    """

    snapshot: str
    target: str
    files: int
    bytes: int
    files_read: int
    seconds: float
    has_secrets: bool


def back_up(
    settings: Settings,
    target: str,
    on_progress: Progress = lambda _: None,
    *,
    with_secrets: bool = False,
    with_bucket: bool = True,
) -> BackupResult:
    """Add a snapshot to a backup; only what is new since the latest one is written.

    Whenever it is interrupted, the target holds the old snapshots, or also the new one. What was stored by
    then is not stored again.

    Args:
        settings: Where the state lives.
        target: A directory or `gs://` prefix.
        on_progress: Receives one line now and then.
        with_secrets: Whether tokens, passwords and keys are part of it.
        with_bucket: Whether the objects of the workspace are.

    Raises:
        BackupError: if the target lies in what is backed up, or a database is damaged.
        StackError: if the home is half restored.
    """
    storage, began = Storage.from_environment(), time.monotonic()
    folder = BackupFolder(storage, target)
    _check(settings, folder, with_secrets=with_secrets)
    run = _BackupRun(settings, folder, folder.find_latest(), on_progress, with_bucket=with_bucket)
    home, objects = run.collect()
    moment = datetime.now(UTC)
    name = f"{moment:%Y%m%dT%H%M%S%f}"
    snapshot = Snapshot(
        name=name,
        created_at=moment.isoformat(timespec="milliseconds"),
        graft=__version__,
        airflow=version("apache-airflow-core"),
        bucket=settings.bucket,
        has_bucket=with_bucket,
        has_secrets=with_secrets,
        is_encrypted=with_secrets and write_secrets(folder, name, settings.home),
        settings=environment_settings(),
        home=home,
        objects=objects,
    )
    folder.write(snapshot)
    return BackupResult(
        snapshot=name, target=folder.uri, files=len(home) + len(objects), bytes=snapshot.num_bytes,
        files_read=run.num_read, seconds=round(time.monotonic() - began, 3), has_secrets=with_secrets,
    )  # fmt: skip


def _check(settings: Settings, folder: BackupFolder, *, with_secrets: bool) -> None:
    if not settings.home.exists():
        raise BackupError(f"There is nothing to back up: {settings.home} does not exist. Set GRAFT_HOME.")
    check_whole(settings.home)
    for place in (settings.workspace, str(settings.home)):
        if folder.storage.overlap(folder.uri, place):
            text = f"The backup {folder.uri} would lie in {place}, or around it. Choose another place."
            raise BackupError(text)
    if not folder.is_remote and not folder.uri.startswith("gs://"):
        Path(folder.uri).expanduser().mkdir(parents=True, exist_ok=True, mode=0o700)
    if with_secrets:
        check_target(folder)


def environment_settings() -> dict[str, str]:
    """Return the variables of the environment that configure Graft, without those that may be secret."""
    fields = {
        f"{model.model_config['env_prefix']}{name.upper()}": field.repr and "token" not in name
        for model in (Settings, EngineSettings)
        for name, field in model.model_fields.items()
    }
    public = sorted(name for name, is_public in fields.items() if is_public and name in os.environ)
    return {name: os.environ[name] for name in public if name != "GRAFT_HOME"}


class _BackupRun:
    """Collects the files of one snapshot."""

    def __init__(
        self,
        settings: Settings,
        folder: BackupFolder,
        previous: Snapshot | None,
        on_progress: Progress,
        *,
        with_bucket: bool,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._previous = previous.objects if previous else {}
        self._on_progress = on_progress
        self._with_bucket = with_bucket
        self._last_note = time.monotonic()
        self.num_read = 0

    def collect(self) -> tuple[dict[str, StoredFile], dict[str, StoredFile]]:
        """Return the files of the home and the objects of the workspace, which agree with each other."""
        objects = self._objects({})  # most of the work, before the databases are read
        if self._settings.database:
            self._on_progress("left out the engine's database: it is a server's, so use pg_dump")
        elif find_profile(self._settings.home) is Profile.TEAM:
            self._on_progress("left out the databases of the engines and of Airflow: use pg_dump")
        for _ in range(MAX_ROUNDS):
            before = self._serving_state()
            home = self._home()
            objects = self._objects(objects)
            if self._serving_state() == before:
                return home, objects
            self._on_progress("versions changed meanwhile; reading them again")
        raise BackupError("Versions are created or deleted all the time. Run the backup again later.")

    @property
    def _engine_database(self) -> Path | None:
        """The engine's file, if it has one; an older one may lie beside a server's database."""
        path = self._settings.home / ENGINE_DATABASE
        return path if path.exists() and not self._settings.database else None

    def _serving_state(self) -> list[tuple[str, ...]]:
        database = self._engine_database
        try:
            return serving_state(database) if database else []
        except sqlite3.DatabaseError as error:
            raise BackupError(engine_remedy(self._settings.home / ENGINE_DATABASE, str(error))) from error

    def _home(self) -> dict[str, StoredFile]:
        with tempfile.TemporaryDirectory(prefix="graft-backup-") as scratch:
            files = {
                name: self._database(path, Path(scratch) / Path(name).name, remedy)
                for name, path, remedy in (
                    (ENGINE_DATABASE, self._engine_database, engine_remedy),
                    (AIRFLOW_DATABASE, database_path(self._settings), airflow_remedy),
                )
                if path is not None and path.exists()
            }
        return {**files, **{name: self._add(path) for name, path in self._classifiers()}}

    def _database(self, path: Path, copy: Path, remedy: Callable[[Path, str], str]) -> StoredFile:
        self._on_progress(f"reading {path.name}")
        try:
            with (
                closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=60)) as source,
                closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
                (problem,) = target.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            raise BackupError(remedy(path, str(error))) from error
        if problem != "ok":
            raise BackupError(remedy(path, str(problem)))
        return self._add(copy)

    def _classifiers(self) -> Iterator[tuple[str, Path]]:
        """Yield the files of classifiers that do not come with Graft, for the home of the restored stack."""
        for directory in self._settings.classifier_directories:
            if directory == SHIPPED_CLASSIFIERS or not directory.is_dir():
                continue
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    yield f"classifiers/{path.relative_to(directory).as_posix()}", path

    def _objects(self, current: dict[str, StoredFile]) -> dict[str, StoredFile]:
        if not self._with_bucket:
            return {}
        storage, prefix = self._folder.storage, f"{self._settings.workspace}/"
        is_local = self._settings.bucket in storage.directories
        left_out = f"{prefix}{STAGING}", Workspace(storage, self._settings.workspace).task_logs
        objects: dict[str, StoredFile] = {}
        for uri in storage.list_uris(prefix):
            key = uri.removeprefix(prefix)
            if uri.startswith(left_out):
                continue
            if not is_path(key):  # as of the folders that Google's console makes
                self._on_progress(f"left out {uri}, which cannot be a file")
                continue
            try:
                path = storage.local_path(uri)
                stamp = stamp_of(path) if is_local else ""
                objects[key] = self._unchanged(current, key, stamp) or self._add(path, stamp=stamp)
            except (ObjectNotFound, FileNotFoundError):
                continue  # deleted meanwhile
            self._tell(len(objects))
        return objects

    def _unchanged(self, current: dict[str, StoredFile], key: str, stamp: str) -> StoredFile | None:
        file = reusable(current, key, stamp) or reusable(self._previous, key, stamp)
        return file if file is not None and self._folder.has(file) else None

    def _add(self, path: Path, *, stamp: str = "") -> StoredFile:
        self.num_read += 1
        return self._folder.add(path, stamp=stamp)

    def _tell(self, count: int) -> None:
        if time.monotonic() - self._last_note > PROGRESS_SECONDS:
            self._last_note = time.monotonic()
            self._on_progress(f"{count} objects of the bucket, {self.num_read} of them read")
