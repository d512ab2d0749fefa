"""Restore: everything is fetched and checked beside the home first, then takes its place in one step."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.record import Record
from pipeline.config import Settings
from pipeline.errors import BackupError
from pipeline.stack.control import down, up
from pipeline.stack.description import status
from pipeline.stack.places import Places, is_half_restored, path_in
from pipeline.stack.profile import find_profile
from pipeline.stack.secret_files import SECRET_FILES, read_secrets
from pipeline.stack.snapshot import BackupFolder, Snapshot, StoredFile
from pipeline.stack.state import StackState, load_state, locked, save_state
from pipeline.stack.status import Overall
from pipeline.storage import Storage
from pipeline.types import Profile

Progress = Callable[[str], None]
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult(Record):
    """What was restored.

    Args:
        snapshot: Its name.
        home: Where to.
        files: How many files and objects.
        bytes: Their size.
        previous: Directories with the state before, which nothing needs any more.
        settings: The variables that were set where the backup was made, for comparison.
        has_secrets: Whether the secrets came with it; else those of this home stay, or new ones are made.
        was_running: Whether the stack ran and was started again.
    """

    snapshot: str
    home: str
    files: int
    bytes: int
    previous: tuple[str, ...]
    settings: dict[str, str]
    has_secrets: bool
    was_running: bool


def restore(
    settings: Settings, source: str, on_progress: Progress = lambda _: None, *, name: str | None = None
) -> RestoreResult:
    """Make the state of a snapshot that of the home; a stack that runs is stopped for the last step only.

    Args:
        settings: Where the state lives.
        source: The directory or `gs://` prefix of the backup.
        on_progress: Receives one line now and then.
        name: Of the snapshot; the latest by default.

    Raises:
        BackupError: if the backup is damaged, is of another bucket, or cannot be put in place. The state
            before stays.
    """
    _check_profile(settings)
    folder = BackupFolder(Storage.from_environment(), source)
    snapshot = folder.read(name) if name else folder.find_latest()
    if snapshot is None:
        raise BackupError(f"There is no backup in {folder.uri}.")
    _check_bucket(settings, snapshot)
    places = Places(settings, folder.storage, snapshot)
    places.check_exchangeable()
    umask = os.umask(0o077)
    try:
        places.clear()
        _fetch(folder, snapshot, places, on_progress)
        _write_secrets(folder, snapshot, places)
    finally:
        os.umask(umask)
    os.sync()
    was_running = status(settings).state is not Overall.STOPPED
    if was_running:
        down(settings, on_progress)
    try:
        previous = _put_in_place(settings, folder, snapshot, places, on_progress)
    finally:
        if was_running and not is_half_restored(settings.home):
            up(settings, on_progress)
    return RestoreResult(
        snapshot=snapshot.name,
        home=str(settings.home),
        files=len(snapshot.home) + len(snapshot.objects),
        bytes=snapshot.num_bytes,
        previous=tuple(str(path) for path in previous),
        settings=snapshot.settings,
        has_secrets=snapshot.has_secrets,
        was_running=was_running,
    )


def _check_profile(settings: Settings) -> None:
    if find_profile(settings.home) is Profile.TEAM:
        raise BackupError(
            f"{settings.home} is that of a team's stack, whose databases no snapshot has. Restore to another "
            "GRAFT_HOME; databases of PostgreSQL are restored with pg_restore."
        )


def _put_in_place(
    settings: Settings, folder: BackupFolder, snapshot: Snapshot, places: Places, on_progress: Progress
) -> list[Path]:
    """Exchange the directories, then write to a bucket in the cloud: the only step without a way back."""
    with locked(settings.home):
        _keep_ports(settings, snapshot, places)
        places.exchange()
        if places.bucket is None:
            try:
                _upload(folder, snapshot, on_progress)
            except BaseException:
                places.undo()
                on_progress("the bucket holds a part of the snapshot, so nothing is started: restore again")
                raise
        return places.finish()


def _check_bucket(settings: Settings, snapshot: Snapshot) -> None:
    """Check that the workspace here is the bucket that the records and databases of the snapshot name."""
    if snapshot.bucket != settings.bucket:
        raise BackupError(
            f"Snapshot {snapshot.name} is of the bucket {snapshot.bucket}, which its records name, but "
            f"GRAFT_BUCKET here is {settings.bucket}. Set GRAFT_BUCKET={snapshot.bucket} to restore it; with "
            f"GRAFT_BUCKETS={snapshot.bucket}=/some/directory its objects go there, not to the cloud."
        )


def _fetch(folder: BackupFolder, snapshot: Snapshot, places: Places, on_progress: Progress) -> None:
    """Fetch what belongs into directories; check only what belongs into a bucket of the cloud."""
    files: list[tuple[StoredFile, Path | None, str]] = [
        (file, places.home, name) for name, file in snapshot.home.items()
    ]
    files += [(file, places.bucket, key) for key, file in snapshot.objects.items()]
    last_note = time.monotonic()
    for number, (file, root, name) in enumerate(files):
        if root is None:
            folder.check(file)
        else:
            folder.fetch(file, path_in(root, name))
        if time.monotonic() - last_note > PROGRESS_SECONDS:
            last_note = time.monotonic()
            on_progress(f"{number + 1} of {len(files)} files restored")


def _upload(folder: BackupFolder, snapshot: Snapshot, on_progress: Progress) -> None:
    """Write the objects of the workspace to its bucket in the cloud; objects of the same content stay."""
    for key, file in snapshot.objects.items():
        uri = f"gs://{snapshot.bucket}/{key}"
        if not _is_same(folder, uri, file):
            folder.copy(file, uri)
            on_progress(f"restored {uri}")


def _is_same(folder: BackupFolder, uri: str, file: StoredFile) -> bool:
    if not folder.storage.exists(uri):
        return False
    return hashlib.sha256(folder.storage.read_bytes(uri)).hexdigest() == file.sha256


def _write_secrets(folder: BackupFolder, snapshot: Snapshot, places: Places) -> None:
    """Put the secrets of the backup in place, else those that the home has."""
    if snapshot.has_secrets:
        texts = read_secrets(folder, snapshot.name, is_encrypted=snapshot.is_encrypted)
    else:
        live = {name: places.live_home / name for name in SECRET_FILES}
        texts = {name: path.read_text() for name, path in live.items() if path.exists()}
    for name, text in texts.items():
        path = places.home / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)


def _keep_ports(settings: Settings, snapshot: Snapshot, places: Places) -> None:
    """Keep the addresses of this home, which clients know."""
    old = load_state(settings.home)
    state = StackState(engine_port=old.engine_port, airflow_port=old.airflow_port, database=snapshot.airflow)
    save_state(places.home, state)
