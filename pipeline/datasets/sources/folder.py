"""A folder with a sub-folder per class, on this machine or in a bucket."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.artifacts.provenance import Provenance
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import EmptyDataset, SourceNotFound
from pipeline.storage import Storage
from pipeline.types import JsonObject

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Listing:
    """Files by class folder; every class folder has an entry, an empty one too."""

    root: str
    files: dict[str, list[str]]


class FolderSource:
    """Every file of every class folder, at any depth; names that start with a dot are left out.

    Whether a file is a picture is not asked here: `clean` looks at the bytes and says why it keeps one out.

    Args:
        uri: A path, `file://` or `gs://bucket/prefix`.
        classes: Exactly these sub-folders, in this order; None takes all, sorted by name.
        storage: Reads `gs://` URIs.
        label: The class of every file, at any depth; sub-folders mean nothing then.
        is_alone: Whether the dataset has no other source, so that this one needs two classes.
    """

    def __init__(
        self,
        uri: str,
        *,
        classes: list[str] | None,
        storage: Storage,
        label: str | None = None,
        is_alone: bool = True,
    ) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._uri = uri
        self._classes = classes if label is None else [label]
        self._storage = storage
        self._label = label
        self._min_classes = 2 if is_alone and label is None else 1

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every num_chunks-th file, sorted by class and name.

        Raises:
            SourceNotFound: if the folder, or the sub-folder of a listed class, is not there.
            EmptyDataset: if there is no class, one class only, or a class folder without a file.
        """
        directory = self._directory()
        listing = _list_directory(directory) if directory else _list_bucket(self._uri, self._storage)
        if self._label is not None:
            loose = _loose_files(directory) if directory else []
            files = [*loose, *(file for files in listing.files.values() for file in files)]
            listing = _Listing(listing.root, {self._label: files})
        classes = self._checked_classes(listing)
        places = [(label, file) for label in classes for file in sorted(listing.files[label])]
        for position, (label, file) in enumerate(places):
            if position % num_chunks == chunk:
                yield self._entry(position, label, file, directory)

    def _entry(self, position: int, label: str, file: str, directory: Path | None) -> SourceEntry:
        path = self._storage.local_path(file) if directory is None else Path(file)
        try:
            facts = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        in_bucket = urlsplit(self._uri).scheme == "gs"
        url = f"{self._uri.rstrip('/')}/{path.relative_to(directory).as_posix()}" if directory else file
        return SourceEntry(
            position=position,
            label=label,
            provenance=Provenance(source_url=url if in_bucket else path.as_uri()),
            validator=f"{facts.st_size} bytes, {facts.st_mtime_ns} ns",
            read=lambda: self._read(path),
        )

    def _read(self, path: Path) -> bytes:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        self.transferred += 1
        return data

    def _directory(self) -> Path | None:
        """Return the directory behind the URI, None for a bucket that is not a directory."""
        parts = urlsplit(self._uri)
        if parts.scheme == "gs":
            root = self._storage.directories.get(parts.netloc)
            return None if root is None else root / self._uri[len(f"gs://{parts.netloc}") :].strip("/")
        path = unquote(parts.path) if parts.scheme == "file" else self._uri
        return Path(path).expanduser().absolute()

    def _checked_classes(self, listing: _Listing) -> list[str]:
        folders = sorted(listing.files)
        classes = folders if self._classes is None else self._classes
        _refuse_missing(classes, folders, listing.root)
        _refuse_too_few(classes, listing, self._min_classes)
        if set(folders) - set(classes):
            log.info("%s: not in `classes`, left out: %s", listing.root, sorted(set(folders) - set(classes)))
        return classes


def _unreadable(path: Path, error: OSError) -> SourceNotFound:
    return SourceNotFound(
        f"{path} cannot be read: {error.strerror}. Correct its permissions or take it out of the folder.",
        path=str(path),
    )


def _raise_unreadable(error: OSError) -> None:
    raise _unreadable(Path(error.filename), error) from error


def _refuse_missing(classes: list[str], folders: list[str], root: str) -> None:
    missing = [label for label in classes if label not in folders]
    if missing:
        raise SourceNotFound(
            f"{root} has no sub-folder {', '.join(map(repr, missing))}, which `classes` lists; add it or "
            f"correct `classes`. Received: {', '.join(folders) or 'no sub-folder'}",
            path=root,
            classes=missing,
        )


def _refuse_too_few(classes: list[str], listing: _Listing, min_classes: int) -> None:
    root = listing.root
    if len(classes) < min_classes:
        raise EmptyDataset(
            f"{root} has {len(classes)} class folder(s); a classifier needs at least two. Put the pictures "
            f"of each class into a sub-folder of their own. Received: {classes or None}",
            path=root,
            classes=classes,
        )
    empty = [label for label in classes if not listing.files[label]]
    if empty:
        raise EmptyDataset(
            f"the class folder {', '.join(f'{root}/{label}' for label in empty)} has no file; "
            "add pictures, remove the folder, or name the classes you want in `classes`.",
            path=root,
            classes=empty,
        )


def _list_directory(root: Path) -> _Listing:
    if not root.is_dir():
        raise SourceNotFound(
            f"there is no folder {root}; correct `dataset.source.uri`, which needs a folder with one "
            "sub-folder per class.",
            path=str(root),
        )
    files: dict[str, list[str]] = {}
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise _unreadable(root, error) from error
    for folder in folders:
        files[folder.name] = []
        for directory, names, here in os.walk(folder, onerror=_raise_unreadable):
            names[:] = [name for name in names if not name.startswith(".")]
            paths = (Path(directory) / name for name in here if not name.startswith("."))
            files[folder.name] += [str(path) for path in paths if path.is_file()]
    return _Listing(str(root), files)


def _loose_files(root: Path) -> list[str]:
    return [str(path) for path in root.iterdir() if path.is_file() and not path.name.startswith(".")]


def _list_bucket(uri: str, storage: Storage) -> _Listing:
    prefix = uri.rstrip("/") + "/"
    files: dict[str, list[str]] = {}
    for file in storage.list_uris(prefix):
        label, slash, rest = file[len(prefix) :].partition("/")
        if slash and rest and not any(part.startswith(".") for part in (label, *rest.split("/"))):
            files.setdefault(label, []).append(file)
    if not files:
        raise SourceNotFound(
            f"there is nothing under {prefix}; correct `dataset.source.uri`, which needs one "
            "sub-folder per class.",
            path=prefix,
        )
    return _Listing(prefix.rstrip("/"), files)
