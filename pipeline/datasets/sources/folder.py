"""A folder with a sub-folder per class, on this machine or in a bucket."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.artifacts.provenance import Provenance
from pipeline.config.labels import normalize_label
from pipeline.datasets.sources.folder_tree import (
    FolderTree,
    describe_unreadable,
    list_bucket,
    list_directory,
)
from pipeline.datasets.sources.label_list import Labels, ListOptions, lay_out_labels
from pipeline.datasets.sources.layout import LaidOutFile, Layout, lay_out, system_part
from pipeline.datasets.sources.list_choice import choose_labels
from pipeline.datasets.sources.list_names import is_list
from pipeline.datasets.sources.name_pattern import (
    TEACHABLE_MACHINE,
    is_teachable_machine,
    lay_out_by_name,
    suggest_pattern,
)
from pipeline.datasets.sources.records import refuse_records, suggest_boxes
from pipeline.datasets.sources.source import SourceEntry
from pipeline.datasets.sources.split_file_rows import find_split_files
from pipeline.datasets.sources.split_files import read_split_files
from pipeline.errors import EmptyDataset, SourceNotFound
from pipeline.storage import Storage
from pipeline.types import JsonObject


class FolderSource:
    """Every file of every class folder, at any depth; system files are left out and counted.

    `clean` decides by the bytes whether a file is a picture, and gives the reason if it is none.

    Args:
        uri: A path, `file://` or `gs://bucket/prefix`.
        classes: Exactly these sub-folders, in this order; None takes all, sorted by name.
        storage: Reads `gs://` URIs.
        label: The class of every file, at any depth; sub-folders mean nothing then.
        is_alone: Whether the dataset has no other source, so that this one needs two classes.
        may_descend: False if a single folder may be the only class; as `is_alone` by default.
        lists: What the user said about its lists of labels.
        label_pattern: Finds the class in the name of a file.
    """

    def __init__(
        self,
        uri: str,
        *,
        classes: list[str] | None,
        storage: Storage,
        label: str | None = None,
        is_alone: bool = True,
        may_descend: bool | None = None,
        lists: ListOptions | None = None,
        label_pattern: str | None = None,
    ) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._uri = uri
        self._classes = classes
        self._storage = storage
        self._label = label
        self._is_alone = is_alone
        self._may_descend = is_alone if may_descend is None else may_descend
        self._lists = lists or ListOptions()
        self._pattern = None if label_pattern is None else re.compile(label_pattern)
        self._unused_lists: list[str] = []

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every num_chunks-th file, sorted by class and name.

        Raises:
            SourceNotFound: if the folder, or the sub-folder of a listed class, is not there.
            EmptyDataset: if there is no class, one class only, or a class folder without a file.
        """
        directory = self._directory()
        tree = list_directory(directory) if directory else list_bucket(self._uri, self._storage)
        layout = self._lay_out(tree, directory)
        classes = self._checked_classes(layout, tree)
        if chunk == 0:
            self.statements += [*layout.statements, *layout.describe_unwanted(classes)]
        by_label: dict[str, list[LaidOutFile]] = {label: [] for label in classes}
        for file in layout.files:
            if file.label in by_label:
                by_label[file.label].append(file)
        places = [file for label in classes for file in sorted(by_label[label], key=lambda file: file.name)]
        for position, file in enumerate(places):
            if position % num_chunks == chunk:
                yield self._entry(position, file, directory)

    def _lay_out(self, tree: FolderTree, directory: Path | None) -> Layout:
        refuse_records(tree.names, tree.root)
        labels = self._read_labels(tree, directory) if self._label is None else None
        split_files = set(find_split_files(tree.names))
        names = [name for name in tree.names if name not in split_files]
        pattern = self._pattern or (TEACHABLE_MACHINE if is_teachable_machine(names) else None)
        if self._label is None and pattern is not None:
            layout = lay_out_by_name(names, pattern)
        elif labels is not None:
            layout = lay_out_labels((name for name in names if not is_list(name)), labels)
            layout.notes += labels.statements
        elif self._label is None:
            may_descend = self._may_descend or self._classes is not None
            layout = lay_out(names, classes=self._classes, may_descend=may_descend, origin=tree.root)
            layout.notes += self._unused_lists
        else:
            layout = Layout()
            for name in names:
                part = system_part(name)
                if part is None:
                    layout.files.append(LaidOutFile(name=name, label=self._label))
                else:
                    layout.left_out[part] += 1
        layout.left_out.update(tree.left_out)
        parts = read_split_files(split_files, self._reader(directory), layout.files, tree.root)
        layout.put_into_parts(parts.splits)
        layout.notes += parts.statements
        return layout

    def _read_labels(self, tree: FolderTree, directory: Path | None) -> Labels | None:
        """Return the labels of the folder's lists; None if it has none, or class folders tell the classes."""
        if self._pattern:
            return None
        return choose_labels(
            tree.names,
            self._reader(directory),
            classes=self._classes,
            options=self._lists,
            origin=tree.root,
            unused=self._unused_lists,
        )

    def _reader(self, directory: Path | None) -> Callable[[str], bytes]:
        return lambda name: self._path(name, directory).read_bytes()

    def _path(self, name: str, directory: Path | None) -> Path:
        if directory is not None:
            return directory / name
        return self._storage.local_path(f"{self._uri.rstrip('/')}/{name}")

    def _entry(self, position: int, file: LaidOutFile, directory: Path | None) -> SourceEntry:
        uri = f"{self._uri.rstrip('/')}/{file.name}"
        path = self._path(file.name, directory)
        try:
            facts = path.stat()
        except OSError as error:
            raise describe_unreadable(path, error) from error
        in_bucket = urlsplit(self._uri).scheme == "gs"
        return SourceEntry(
            position=position,
            label=file.label,
            provenance=Provenance(source_url=uri if in_bucket else path.as_uri()),
            validator=f"{facts.st_size} bytes, {facts.st_mtime_ns} ns",
            read=lambda: self._read(path),
            split=file.split,
        )

    def _read(self, path: Path) -> bytes:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise describe_unreadable(path, error) from error
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

    def _checked_classes(self, layout: Layout, tree: FolderTree) -> Sequence[str]:
        if self._label is not None:
            folders, wanted = {self._label}, [self._label]
        else:
            # A class folder without a file is a class, and an error, as long as there is no split.
            empty = {
                normalize_label(name.removeprefix(layout.root))
                for name in tree.empty
                if name.startswith(layout.root)
            }
            folders = {file.label for file in layout.files}
            folders |= {name for name in empty if "/" not in name and not layout.parts}
            wanted = sorted(folders) if self._classes is None else self._classes
        _refuse_missing(wanted, sorted(folders), tree.root)
        min_classes = 2 if self._is_alone and self._label is None else 1
        hint = " ".join([suggest_pattern(tree.names), suggest_boxes(tree.names), *self._unused_lists])
        _refuse_too_few(wanted, layout, f"{tree.root}/{layout.root}".rstrip("/"), min_classes, hint)
        return wanted


def _refuse_missing(classes: Sequence[str], folders: Sequence[str], root: str) -> None:
    missing = [label for label in classes if label not in folders]
    if missing:
        raise SourceNotFound(
            f"{root} has no sub-folder {', '.join(map(repr, missing))}, which `classes` lists; add it or "
            f"correct `classes`. Received: {', '.join(folders) or 'no sub-folder'}",
            path=root,
            classes=missing,
        )


def _refuse_too_few(classes: Sequence[str], layout: Layout, root: str, min_classes: int, hint: str) -> None:
    if len(classes) < min_classes:
        raise EmptyDataset(
            f"{root} has {len(classes)} class folder(s); a classifier needs at least two. Put the pictures "
            f"of each class into a sub-folder of their own. Received: {list(classes) or None}"
            f"{'.' if hint else ''}{hint}",
            path=root,
            classes=list(classes),
        )
    labels = {file.label for file in layout.files}
    empty = [label for label in classes if label not in labels]
    if empty:
        raise EmptyDataset(
            f"the class folder {', '.join(f'{root}/{label}' for label in empty)} has no file; "
            "add pictures, remove the folder, or name the classes you want in `classes`.",
            path=root,
            classes=empty,
        )
