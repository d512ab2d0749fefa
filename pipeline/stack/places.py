"""The directories of a restore: filled beside those that they replace, then exchanged with them."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import BackupError, StackError
from pipeline.stack.snapshot import Snapshot, is_path
from pipeline.storage import Storage

MARK = ".restore"  # in a directory that is still being filled
HALF = ".half-restored"  # in a home whose state is partly that before a restore, partly the restored one
MOUNTS = Path("/proc/self/mountinfo")
AT_FDCWD, RENAME_EXCHANGE = -100, 2


class Places:
    """Where the restored files go first, and where they belong.

    Args:
        settings: Where the state lives.
        storage: Knows the directory of the bucket.
        snapshot: What is restored.

    Raises:
        BackupError: if a name of the snapshot leads out of them.
    """

    def __init__(self, settings: Settings, storage: Storage, snapshot: Snapshot) -> None:
        self.storage = storage
        self.live_home = settings.home.resolve()
        self.home = _staging(self.live_home)
        self._snapshot = snapshot.name
        self._pairs = [(self.home, self.live_home)]
        self.bucket: Path | None = None  # None: of Google Cloud Storage
        mapped = storage.directories.get(settings.bucket)
        directory = mapped.resolve() if mapped else None
        if directory is not None and directory.is_relative_to(self.live_home):
            self.bucket = self.home / directory.relative_to(self.live_home)
        elif directory is not None:
            self.bucket = _staging(directory)
            if snapshot.has_bucket:
                self._pairs.insert(0, (self.bucket, directory))
        self._uploads = self.bucket is None and bool(snapshot.objects)
        _check_names(snapshot.home)
        if self.bucket is not None:
            _check_names(snapshot.objects)

    def check_exchangeable(self) -> None:
        """Check, before anything is fetched, that no mount point is in the way.

        Raises:
            BackupError: if one is.
        """
        for _, live in self._pairs:
            for mount in _mounts():
                if mount.is_relative_to(live):
                    raise BackupError(
                        f"{live} cannot be replaced, because {mount} is a mount point. Nothing was changed. "
                        "Restore to a GRAFT_HOME, and a directory of GRAFT_BUCKETS, below the mount point."
                    )

    def clear(self) -> None:
        """Remove what an interrupted restore of another snapshot left; what it had replaced is set aside."""
        for staged, live in self._pairs:
            if staged.is_symlink() or (staged.exists() and staged.stat().st_uid != os.geteuid()):
                raise BackupError(f"{staged} is a link, or another user's. Remove it, and restore again.")
            (live / MARK).unlink(missing_ok=True)
            if staged.exists() and not (staged / MARK).exists():
                self._set_aside(staged, live)
            elif staged.exists() and (staged / MARK).read_text() != self._snapshot:
                shutil.rmtree(staged)
            staged.mkdir(parents=True, exist_ok=True, mode=0o700)
            (staged / MARK).write_text(self._snapshot)

    def exchange(self) -> None:
        """Put all staged directories in place, or none.

        Until `finish`, a home that is neither the old state nor the new one is marked as such.

        Raises:
            BackupError: if one cannot be; the state before is in place then.
        """
        if not self._is_one_step():
            for home in (self.home, self.live_home):
                (home / HALF).write_text(self._snapshot)
        done: list[tuple[Path, Path]] = []
        try:
            for staged, live in self._pairs:
                live.mkdir(parents=True, exist_ok=True, mode=0o700)
                _exchange(staged, live)
                done.append((staged, live))
        except BaseException:
            self._undo(done)
            (self.live_home / HALF).unlink(missing_ok=True)
            raise

    def undo(self) -> None:
        """Put the directories back after `exchange`; the home stays marked, because objects may be new."""
        self._undo(self._pairs)

    def _undo(self, pairs: list[tuple[Path, Path]]) -> None:
        for staged, live in reversed(pairs):
            _exchange(staged, live)

    def finish(self) -> list[Path]:
        """Give the directories of the state before their names; return those that hold any of it."""
        previous = []
        for staged, live in self._pairs:
            aside = self._set_aside(staged, live)
            (live / MARK).unlink()
            if {path.name for path in aside.iterdir()} <= {"stack.lock"}:  # there was no state
                shutil.rmtree(aside)
            else:
                previous.append(aside)
        (self.live_home / HALF).unlink(missing_ok=True)
        return previous

    def _is_one_step(self) -> bool:
        left_out = self._left_out(self.live_home, self.live_home, self.home)
        return len(self._pairs) == 1 and not self._uploads and not list(left_out)

    def _set_aside(self, staged: Path, live: Path) -> Path:
        """Name a directory that was replaced; what is no part of a backup moves to the new one."""
        (staged / HALF).unlink(missing_ok=True)
        staged.rename(aside := _aside(live))
        for old, new in list(self._left_out(live, aside, live)):
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
        return aside

    def _left_out(self, live: Path, old: Path, new: Path) -> Iterator[tuple[Path, Path]]:
        """Yield the buckets that only the old directory has, each with its place in the new one."""
        for directory in self.storage.directories.values():
            path = directory.parent.resolve() / directory.name
            if path.is_relative_to(live):
                name = path.relative_to(live)
                if (old / name).exists() and not (new / name).exists():
                    yield old / name, new / name


def check_whole(home: Path) -> None:
    """Check that no restore was interrupted when a part of its state was in place.

    Raises:
        StackError: if one was, with the remedy.
    """
    if is_half_restored(home):
        raise StackError(
            f"{home} is half restored: the restore of snapshot {(home / HALF).read_text()} did not end. Run "
            f"`graft restore` again. To go on with what is there instead, remove {home / HALF}."
        )


def is_half_restored(home: Path) -> bool:
    """Return True if a restore put only a part of its state in place."""
    return (home / HALF).exists()


def path_in(root: Path, name: str) -> Path:
    """Return where a file of the snapshot is put.

    Raises:
        BackupError: if a link leads elsewhere.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise BackupError(f"{path} leads out of {root} by a link. Remove {root}, and restore again.")
    return path


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if not is_path(name):
            raise BackupError(
                f"The snapshot names the file {name!r}; expected a path below a directory. Nothing was "
                "changed. Restore a snapshot that `graft backup` made."
            )


def _mounts() -> list[Path]:
    """Return where file systems are mounted; none where the system does not say."""
    if not MOUNTS.exists():
        return []
    fields = [line.split(" ")[4] for line in MOUNTS.read_text(errors="surrogateescape").splitlines()]
    return [Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)) for text in fields]


def _staging(live: Path) -> Path:
    return live.with_name(f".{live.name}.restoring")


def _aside(live: Path) -> Path:
    """Return a name that is free, also within the second of an interrupted restore."""
    for second in itertools.count(int(time.time())):
        moment = time.strftime("%Y%m%dT%H%M%S", time.localtime(second))
        path = live.with_name(f"{live.name}.before-restore-{moment}-{os.getpid()}")
        if not path.exists():
            return path
    raise AssertionError("there is always a later second")


def _exchange(staged: Path, live: Path) -> None:
    """Exchange two directories, in one step where the file system can.

    Raises:
        BackupError: if they cannot be; both are where they were.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(staged), AT_FDCWD, os.fsencode(live), RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    try:
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
        _exchange_by_names(staged, live)
    except OSError as error:
        raise BackupError(
            f"{live} cannot be replaced: {error.strerror}. It must not be a mount point, and its parent must "
            f"be writable. Everything is fetched to {staged}; the state before stays."
        ) from error


def _exchange_by_names(staged: Path, live: Path) -> None:
    """Exchange two directories on a file system that cannot do so in one step."""
    live.rename(moved := _aside(live))
    try:
        staged.rename(live)
    except OSError:
        moved.rename(live)
        raise
    moved.rename(staged)
