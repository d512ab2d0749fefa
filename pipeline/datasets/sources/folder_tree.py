"""The files of a folder on this machine or in a bucket, those behind links too."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.sources.layout import system_part
from pipeline.errors import SourceNotFound
from pipeline.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderTree:
    """The files of a folder.

    Args:
        root: The folder, for messages.
        names: Paths below it.
        empty: Folders without a file, at any depth.
        left_out: Files in system folders, and broken links.
    """

    root: str
    names: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_directory(root: Path) -> FolderTree:
    """Return the files of a directory.

    Raises:
        SourceNotFound: if there is no such directory, or one in it cannot be read.
    """
    if not root.is_dir():
        raise SourceNotFound(
            f"there is no folder {root}; correct `dataset.source.uri`, which needs a folder with one "
            "sub-folder per class.",
            path=str(root),
        )
    tree = FolderTree(root=str(root))
    _walk(root, "", tree, ())
    return tree


def _walk(directory: Path, prefix: str, tree: FolderTree, above: tuple[tuple[int, int], ...]) -> bool:
    """Add the files of a directory, those behind links too; return True if there is one.

    Args:
        directory: The directory.
        prefix: Its path below the source, with a trailing slash.
        tree: Takes the files.
        above: The directories on the way, so that links that lead back are not followed for ever.
    """
    try:
        facts = directory.stat()
        inside = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise describe_unreadable(Path(error.filename), error) from error
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        tree.left_out["links that lead back to a folder above"] += 1
        return False
    before = len(tree.names)
    for entry in inside:
        name = f"{prefix}{entry.name}"
        if entry.is_dir() and _is_alias(entry, directory):
            tree.left_out["in links to a folder beside them"] += sum(
                len(files) for _, _, files in os.walk(entry.path)
            )
        elif entry.is_dir():
            part = system_part(entry.name)
            if part is not None:
                tree.left_out[part] += sum(len(files) for _, _, files in os.walk(entry.path))
            elif not _walk(Path(entry.path), f"{name}/", tree, (*above, here)):
                tree.empty.append(name)
        elif entry.is_file():
            tree.names.append(name)
        elif entry.is_symlink():
            tree.left_out["broken links"] += 1
    return len(tree.names) > before


def _is_alias(entry: os.DirEntry[str], directory: Path) -> bool:
    """Return True for a link such as `latest` to a folder beside it, whose files would be read twice."""
    if not entry.is_symlink():
        return False
    target = Path(entry.path).resolve()
    return target.parent == directory.resolve() and system_part(target.name) is None


def list_bucket(uri: str, storage: Storage) -> FolderTree:
    """Return the objects below a URI.

    Raises:
        SourceNotFound: if there are none.
    """
    prefix = uri.rstrip("/") + "/"
    names = [file[len(prefix) :] for file in storage.list_uris(prefix)]
    if not names:
        raise SourceNotFound(
            f"there is nothing under {prefix}; correct `dataset.source.uri`, which needs one "
            "sub-folder per class.",
            path=prefix,
        )
    return FolderTree(root=prefix.rstrip("/"), names=names)


def describe_unreadable(path: Path, error: OSError) -> SourceNotFound:
    """Return the error for a file that cannot be read."""
    return SourceNotFound(
        f"{path} cannot be read: {error.strerror}. Correct its permissions or take it out of the folder.",
        path=str(path),
    )
