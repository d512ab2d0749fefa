"""The format of a backup: objects by digest, one manifest for each snapshot, and a pointer to the latest.

objects/<sha256>           content, written once
snapshots/<name>.json      which content is where, complete when it is there
secrets/<name>             only when asked for, in mode 0600 or encrypted
newest.json                names the newest snapshot, written last
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

from pipeline.artifacts.record import Record
from pipeline.errors import BackupError, FormatTooNew, ObjectNotFound, RecordInvalid
from pipeline.storage import Storage

FORMAT = 1
NEWEST = "newest.json"
NAME = re.compile(r"[0-9A-Za-z_-]+")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile(Record):
    """A file of a snapshot.

    Args:
        sha256: Of its content, and the name of its object.
        size: In bytes.
        stamp: Changes when the original is written; empty if it has none, and is read each time.
    """

    sha256: str
    size: int
    stamp: str = ""

    def __post_init__(self) -> None:
        """Check the digest, which names a file."""
        if not DIGEST.fullmatch(self.sha256):
            raise ValueError(f"expected a SHA-256 of 64 hexadecimal digits, received {self.sha256!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Record):
    """The manifest of one backup.

    Args:
        name: Its own, by which snapshots are ordered.
        created_at: ISO 8601.
        graft: The version of Graft that made it.
        airflow: The version of Airflow whose tables are in Airflow's database.
        bucket: The name of the workspace's bucket.
        has_bucket: Whether the objects of the workspace are part of it.
        has_secrets: Whether secrets are part of it.
        is_encrypted: Whether they are encrypted.
        settings: The variables of the environment that start with `GRAFT_`, without secrets.
        home: Files by their path below `GRAFT_HOME`.
        objects: Objects of the workspace by their key.
    """

    FORMAT: ClassVar[int | None] = FORMAT

    name: str
    created_at: str
    graft: str
    airflow: str
    bucket: str
    has_bucket: bool
    has_secrets: bool
    is_encrypted: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    home: dict[str, StoredFile]
    objects: dict[str, StoredFile]

    @property
    def num_bytes(self) -> int:
        """The size of everything in it."""
        return sum(file.size for file in (*self.home.values(), *self.objects.values()))


class BackupFolder:
    """A directory or `gs://` prefix that holds backups.

    Args:
        storage: Reads and writes it.
        uri: Where it is.
    """

    def __init__(self, storage: Storage, uri: str) -> None:
        self.storage = storage
        self.uri = uri.rstrip("/")

    @property
    def is_remote(self) -> bool:
        """Whether it is in a bucket of Google Cloud Storage, where files have no owner."""
        bucket = self.uri.removeprefix("gs://").partition("/")[0]
        return self.uri.startswith("gs://") and bucket not in self.storage.directories

    def object(self, digest: str) -> str:
        """Return the URI of content."""
        return f"{self.uri}/objects/{digest}"

    def secrets(self, name: str) -> str:
        """Return the URI of a snapshot's secrets."""
        return f"{self.uri}/secrets/{name}"

    def find_latest(self) -> Snapshot | None:
        """Return the newest snapshot, None if there is none yet."""
        try:
            value = self.storage.read_json(f"{self.uri}/{NEWEST}")
            FormatTooNew.check(f"pointer {self.uri}/{NEWEST}", value.get("format", 0), FORMAT)
            name = str(value["snapshot"])
        except ObjectNotFound:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupError(
                f"{self.uri}/{NEWEST} is damaged. Name one of the snapshots in {self.uri}/snapshots with "
                "`--snapshot NAME`."
            ) from error
        return self.read(name)

    def read(self, name: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            BackupError: if there is none of this name, or it is damaged.
            FormatTooNew: if a newer Graft made it.
        """
        uri = f"{self.uri}/snapshots/{name}.json"
        if not NAME.fullmatch(name):
            raise BackupError(
                f"There is no snapshot {name!r} in {self.uri}: a name has letters and digits only."
            )
        try:
            snapshot = Snapshot.from_dict(self.storage.read_json(uri))
        except ObjectNotFound as error:
            raise BackupError(f"There is no snapshot {name} in {self.uri}.") from error
        except (ValueError, AttributeError, RecordInvalid) as error:
            raise self._damaged_manifest(uri, str(error)) from error
        if snapshot.name != name:
            raise self._damaged_manifest(uri, f"it is that of the snapshot {snapshot.name!r}")
        return snapshot

    def write(self, snapshot: Snapshot) -> None:
        """Add a snapshot, whose objects are all there, and make it the latest."""
        snapshot.write(self.storage, f"{self.uri}/snapshots/{snapshot.name}.json")
        self.storage.write_json(f"{self.uri}/{NEWEST}", {"format": FORMAT, "snapshot": snapshot.name})

    def add(self, path: Path, *, stamp: str = "") -> StoredFile:
        """Store the content of a file unless it is there already."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)

            def write(target: BinaryIO) -> None:
                if _copy(file, target) != digest:
                    raise BackupError(f"{path} changed while it was read. Run the backup again.")

            if not self.storage.exists(self.object(digest)):
                self.storage.write_large(self.object(digest), write, if_absent=True)
        return StoredFile(sha256=digest, size=path.stat().st_size, stamp=stamp)

    def has(self, file: StoredFile) -> bool:
        """Return True if the content is there; assumed in the cloud, where each look costs a request."""
        return self.is_remote or self.storage.exists(self.object(file.sha256))

    def fetch(self, file: StoredFile, path: Path) -> None:
        """Write content to a path, unless it is there from an interrupted restore.

        Raises:
            BackupError: if the object is missing, is not what was stored, or cannot be written there.
        """
        if path.is_file() and path.stat().st_size == file.size and digest_of(path) == file.sha256:
            return
        content = self._content(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content, path)
        except (OSError, ValueError) as error:  # the disk is full, or this system has no such names
            raise BackupError(f"Writing {path} failed: {error}. The state before stays.") from error
        if digest_of(path) != file.sha256:
            path.unlink()
            raise self._damaged(file)

    def check(self, file: StoredFile) -> None:
        """Check content without writing it anywhere.

        Raises:
            BackupError: if the object is missing, or is not what was stored.
        """
        if digest_of(self._content(file)) != file.sha256:
            raise self._damaged(file)

    def copy(self, file: StoredFile, uri: str) -> None:
        """Write content to an object of a bucket.

        Raises:
            BackupError: if the content is missing, or is not what was stored; the object stays as it is.
        """

        def write(target: BinaryIO) -> None:
            with self._content(file).open("rb") as source:
                if _copy(source, target) != file.sha256:
                    raise self._damaged(file)

        self.storage.write_large(uri, write)

    def _damaged_manifest(self, uri: str, reason: str) -> BackupError:
        return BackupError(f"The manifest {uri} is damaged: {reason}. Name another `--snapshot`.")

    def _content(self, file: StoredFile) -> Path:
        try:
            return self.storage.local_path(self.object(file.sha256))
        except ObjectNotFound as error:
            text = f"The backup {self.uri} is damaged: {self.object(file.sha256)} is gone."
            raise BackupError(text) from error

    def _damaged(self, file: StoredFile) -> BackupError:
        return BackupError(
            f"The backup {self.uri} is damaged: {self.object(file.sha256)} is not what was stored. "
            "Restore another snapshot, or remove that object and back up again where the original is."
        )


def is_path(name: str) -> bool:
    """Return True if a name of a manifest means one file below a directory, and is spelled in one way."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy a file in pieces; return the SHA-256 of what was copied."""
    copied = hashlib.sha256()
    while chunk := source.read(1 << 20):
        copied.update(chunk)
        target.write(chunk)
    return copied.hexdigest()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path) -> str:
    """Return a text that changes when a file is replaced or written."""
    status = path.stat()
    return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}"


def reusable(previous: Mapping[str, StoredFile], name: str, stamp: str) -> StoredFile | None:
    """Return the file of the previous snapshot if the original was not written since."""
    file = previous.get(name)
    return file if file is not None and stamp and file.stamp == stamp else None
