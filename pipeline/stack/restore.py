"""Restore: everything is fetched and checked beside the home first, then takes its place in one step."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.record import Record
from pipeline.config import Settings
from pipeline.errors import BackupError
from pipeline.stack.control import down, status, up
from pipeline.stack.secret_files import SECRET_FILES, read_secrets
from pipeline.stack.snapshot import BackupFolder, Snapshot, StoredFile
from pipeline.stack.state import StackState, load_state, locked, save_state
from pipeline.stack.status import Overall
from pipeline.storage import Storage

Progress = Callable[[str], None]
MARK = ".restore"  # in a directory that is still being filled
AT_FDCWD, RENAME_EXCHANGE = -100, 2
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
        BackupError: if the backup is damaged, or cannot be put in place. The state before stays.
    """
    folder = BackupFolder(Storage.from_environment(), source)
    snapshot = folder.read(name) if name else folder.find_latest()
    if snapshot is None:
        raise BackupError(f"There is no backup in {folder.uri}.")
    places = _Places(settings, folder.storage, snapshot)
    umask = os.umask(0o077)
    try:
        places.clear(keep=snapshot.name)
        _fetch(folder, snapshot, places, on_progress)
        _write_secrets(folder, snapshot, places)
    finally:
        os.umask(umask)
    os.sync()
    was_running = status(settings).state is not Overall.STOPPED
    if was_running:
        down(settings, on_progress)
    with locked(settings.home):
        _keep_ports(settings, snapshot, places)
        previous = places.swap()
    if was_running:
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


class _Places:
    """Where the restored files go first, and where they belong.

    Args:
        settings: Where the state lives.
        storage: Knows the directory of the bucket.
        snapshot: What is restored.
    """

    def __init__(self, settings: Settings, storage: Storage, snapshot: Snapshot) -> None:
        self.storage = storage
        self.live_home = settings.home
        self.home = _staging(settings.home)
        self._pairs = [(self.home, settings.home)]
        self.bucket: Path | None = None  # None: of Google Cloud Storage
        directory = storage.directories.get(settings.bucket)
        if directory is not None and directory.is_relative_to(settings.home):
            self.bucket = self.home / directory.relative_to(settings.home)
        elif directory is not None:
            self.bucket = _staging(directory)
            if snapshot.has_bucket:
                self._pairs.insert(0, (self.bucket, directory))

    def clear(self, *, keep: str) -> None:
        """Remove what an interrupted restore of another snapshot left; what it had replaced is set aside."""
        for staged, live in self._pairs:
            (live / MARK).unlink(missing_ok=True)
            if staged.exists() and not (staged / MARK).exists():
                staged.rename(_aside(live))
            elif staged.exists() and (staged / MARK).read_text() != keep:
                shutil.rmtree(staged)
            staged.mkdir(parents=True, exist_ok=True, mode=0o700)
            (staged / MARK).write_text(keep)

    def swap(self) -> list[Path]:
        """Put the staged directories in place; return where the former ones are now."""
        previous = []
        for staged, live in self._pairs:
            if _exchange(staged, live):
                staged.rename(aside := _aside(live))
                self._bring_back(aside, live)
                if [path.name for path in aside.iterdir()] == ["stack.lock"]:  # there was no state
                    shutil.rmtree(aside)
                else:
                    previous.append(aside)
            (live / MARK).unlink()
        return previous

    def _bring_back(self, old: Path, live: Path) -> None:
        """Move buckets of the home that are no part of a backup to the new home."""
        for directory in self.storage.directories.values():
            if directory.is_relative_to(live) and not directory.exists():
                former = old / directory.relative_to(live)
                if former.exists():
                    directory.parent.mkdir(parents=True, exist_ok=True)
                    former.rename(directory)


def _staging(live: Path) -> Path:
    return live.with_name(f".{live.name}.restoring")


def _aside(live: Path) -> Path:
    return live.with_name(f"{live.name}.before-restore-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")


def _exchange(staged: Path, live: Path) -> bool:
    """Exchange two directories in one step; True if there was one to exchange with.

    Raises:
        BackupError: if the file system cannot.
    """
    if not live.exists():
        staged.rename(live)
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(staged), AT_FDCWD, os.fsencode(live), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise BackupError(
            f"{live} cannot be replaced: {os.strerror(number)}. It must not be a mount point, and its parent "
            f"must be writable. Everything is fetched to {staged}; the state before stays."
        )
    live.rename(moved := _aside(live))  # a file system without exchanges: not in one step
    staged.rename(live)
    moved.rename(staged)
    return True


def _fetch(folder: BackupFolder, snapshot: Snapshot, places: _Places, on_progress: Progress) -> None:
    files = [(file, places.home / name) for name, file in snapshot.home.items()]
    if places.bucket is not None:
        files += [(file, places.bucket / key) for key, file in snapshot.objects.items()]
    elif snapshot.objects:
        _upload(folder, snapshot, on_progress)
    last_note = time.monotonic()
    for number, (file, path) in enumerate(files):
        folder.fetch(file, path)
        if time.monotonic() - last_note > PROGRESS_SECONDS:
            last_note = time.monotonic()
            on_progress(f"{number + 1} of {len(files)} files restored")


def _upload(folder: BackupFolder, snapshot: Snapshot, on_progress: Progress) -> None:
    """Write the objects of the workspace to its bucket in the cloud; objects of the same content stay."""
    for key, file in snapshot.objects.items():
        uri = f"gs://{snapshot.bucket}/{key}"
        if not _is_same(folder, uri, file):
            folder.storage.write_bytes(uri, folder.storage.read_bytes(folder.object(file.sha256)))
            on_progress(f"restored {uri}")


def _is_same(folder: BackupFolder, uri: str, file: StoredFile) -> bool:
    if not folder.storage.exists(uri):
        return False
    return hashlib.sha256(folder.storage.read_bytes(uri)).hexdigest() == file.sha256


def _write_secrets(folder: BackupFolder, snapshot: Snapshot, places: _Places) -> None:
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


def _keep_ports(settings: Settings, snapshot: Snapshot, places: _Places) -> None:
    """Keep the addresses of this home, which clients know."""
    old = load_state(settings.home)
    state = StackState(engine_port=old.engine_port, airflow_port=old.airflow_port, database=snapshot.airflow)
    save_state(places.home, state)
