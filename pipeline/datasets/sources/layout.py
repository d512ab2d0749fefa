"""How a tree of files tells classes: by class folders, below one common folder or the parts of a split.

Folders and archives share these rules. Nothing is left out without being counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.config.labels import normalize_label
from pipeline.datasets.sources.part_folders import (
    check_clear,
    describe_spellings,
    find_doubled,
    find_part_folders,
    join_spellings,
    list_folders,
    named_like_parts,
    refuse_no_classes,
)
from pipeline.datasets.sources.split_names import (
    SPLIT_NAMES,
    TEST,
    VALIDATION,
    describe_split,
    find_folder_parts,
    find_parts,
)

SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "@eadir", "$recycle.bin", "lost+found", "system volume information"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
)
# Files that are no pictures, whatever is in them; others are looked into.
OTHER_SUFFIXES = (
    *(".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".html", ".htm", ".log", ".tex"),
    *(".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".xls", ".xlsx", ".mat", ".pkl"),
    *(".py", ".ipynb", ".sh", ".m", ".r", ".js", ".css"),
)
LOOSE = "beside the class folders"
EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOutFile:
    """A file that belongs to a class.

    Args:
        name: Its path below the source.
        label: Its class.
        split: The part of the split that the source puts it into; None without one.
    """

    name: str
    label: str
    split: str | None = None


@dataclass(slots=True, kw_only=True)
class Layout:
    """A tree of files by class.

    Args:
        root: The folder that holds the class folders, or the parts of the split; with a trailing slash.
        files: Those that belong to a class, in the order they came.
        parts: The folders that are parts of a split, by their path below the root.
        part_counts: Files in each of them.
        left_out: Files that belong to no class, by the reason.
        examples: Some of those beside the class folders.
        notes: Statements of the lists that told the labels.
        odd_labels: Classes that are named like a part of a split and were not listed by the user.
    """

    root: str = ""
    files: list[LaidOutFile] = field(default_factory=list)
    parts: Mapping[str, str] = field(default_factory=dict)
    part_counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    odd_labels: list[str] = field(default_factory=list)

    def leave_out(self, names: Iterable[str], reason: str = LOOSE) -> None:
        """Count files that belong to no class."""
        for name in names:
            self.left_out[reason] += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(name.rpartition("/")[2])

    def put_into_parts(self, splits: Mapping[str, str]) -> None:
        """Put files into the parts of a split, by their names; others stay where they are."""
        self.files = [replace(file, split=splits.get(file.name, file.split)) for file in self.files]

    @property
    def labels(self) -> set[str]:
        """The classes."""
        return {file.label for file in self.files}

    @property
    def statements(self) -> list[str]:
        """What a reader of the dataset card should know."""
        statements = [*self.notes, *self._describe_split()]
        for label in self.odd_labels:
            statements.append(
                f"split_like_class: the class {label} is named like a part of a split; if it is one, let "
                "`uri` name the folder that holds the classes"
            )
        if self.left_out:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            shown = f" ({', '.join(self.examples)})" if self.examples else ""
            statements.append(f"files left out: {counts}{shown}")
        return statements

    def describe_unwanted(self, classes: Collection[str]) -> list[str]:
        """Return a statement about the classes that are there but not asked for."""
        unwanted = Counter(file.label for file in self.files if file.label not in classes)
        counts = ", ".join(f"{label} ({count})" for label, count in sorted(unwanted.items()))
        return [f"classes left out, because `classes` does not list them: {counts}"] if unwanted else []

    def _describe_split(self) -> list[str]:
        splits = Counter(file.split for file in self.files if file.split is not None)
        if not self.parts and not {TEST, VALIDATION} & set(splits):
            return []
        counts = {part: self.part_counts[part] for part in self.parts} or splits
        return describe_split(counts, splits[TEST])


def system_part(name: str) -> str | None:
    """Return what makes a file one of an operating system's or a tool's own; None for any other."""
    for part in name.split("/"):
        if part not in (".", "..") and (part.startswith(".") or part.casefold() in SYSTEM_NAMES):
            return "hidden" if part.startswith(".") else part
    return None


def lay_out(
    names: Iterable[str], *, classes: Collection[str] | None = None, may_descend: bool = True, origin: str
) -> Layout:
    """Find the class folders of a tree, and the part of a split that each file is in.

    Folders that are named like parts of a split (`train`, `val_set`, `seg_test` and the like) are one if they
    share class folders. Common folders of any depth are looked into.

    Args:
        names: Paths of files below the source.
        classes: The classes that the user listed: folders of these names are class folders.
        may_descend: False if a single folder may be the only class: it is looked into if it holds several
            folders, which is stated.
        origin: The source, for messages.

    Raises:
        EmptyDataset: if it cannot be told whether folders are parts of a split or classes.
    """
    layout = Layout()
    files = []
    for name in names:
        part = system_part(name)
        if part is None:
            files.append(name)
        else:
            layout.left_out[part] += 1
    files = _leave_out_papers(layout, files, classes or ())
    if may_descend or _holds_several(files, classes or ()):
        files = _descend(layout, files, classes or ())
    if layout.root and not may_descend:
        layout.notes.append(_describe_common(layout.root, files))
    doubled, copies = find_doubled(layout.root, files, classes or (), origin)
    if copies:
        layout.left_out[f"in {doubled}, a copy of the class folders"] += len(copies)
        held = set(copies)
        files = [name for name in files if name not in held]
    layout.parts = find_part_folders(layout.root, files, classes or ())
    paths = [name[len(layout.root) :] for name in files]
    within = find_folder_parts({path.rpartition("/")[0] for path in paths}, below=1)
    if not layout.parts:
        layout.notes += check_clear(layout.root, files, classes or (), within, origin)
    for name in files:
        _place(layout, name, within)
    _join_spellings(layout, classes or ())
    refuse_no_classes(layout.labels, classes or (), origin)
    labels = sorted(layout.labels - set(classes or ()))
    kin = find_parts(labels)
    layout.odd_labels = [label for label in labels if label.casefold() in SPLIT_NAMES or label in kin]
    return layout


def _leave_out_papers(layout: Layout, files: Sequence[str], classes: Collection[str]) -> list[str]:
    """Leave out folders such as `docs` and `annotations`, which hold nothing that may be a picture."""
    holding = {""}
    for name in files:
        if not name.lower().endswith(OTHER_SUFFIXES):
            folders = name.split("/")[:-1]
            holding |= {"/".join(folders[: depth + 1]) for depth in range(len(folders))}
    papers = {
        name
        for name in files
        if name.rpartition("/")[0] not in holding
        and not set(map(normalize_label, name.split("/")[:-1])) & set(classes)
    }
    if len(papers) == len(files):
        return list(files)
    layout.leave_out(name for name in files if name in papers)
    return [name for name in files if name not in papers]


def _place(layout: Layout, name: str, within: Mapping[str, str]) -> None:
    path = name[len(layout.root) :]
    part = next((part for part in layout.parts if path.startswith(f"{part}/")), None)
    inside = path if part is None else path[len(part) + 1 :]
    if "/" not in inside or (part is None and layout.parts):
        layout.leave_out([name])
        return
    label = normalize_label(inside.partition("/")[0])
    if part is not None:
        layout.part_counts[part] += 1
    split = within.get(path.rpartition("/")[0]) if part is None else layout.parts[part]
    layout.files.append(LaidOutFile(name=name, label=label, split=split))


def _join_spellings(layout: Layout, classes: Collection[str]) -> None:
    """Make one class of folders such as `train/Cat` and `test/cat`, and state it."""
    held: list[tuple[str, str]] = []
    for file in layout.files if layout.parts else ():
        path = file.name[len(layout.root) :]
        held.append((next(part for part in layout.parts if path.startswith(f"{part}/")), file.label))
    names = join_spellings(held, classes)
    layout.files = [replace(file, label=names.get(file.label, file.label)) for file in layout.files]
    layout.notes += [describe_spellings(label, name) for label, name in names.items()]


def _descend(layout: Layout, files: Sequence[str], classes: Collection[str]) -> list[str]:
    """Look into common folders; return the files in the innermost one, and count those outside."""
    while True:
        tops = list_folders(files, layout.root)
        inside = [name for name in files if "/" in name[len(layout.root) :]]
        has_folders = any(name[len(layout.root) :].count("/") > 1 for name in inside)
        if len(tops) != 1 or not has_folders or set(map(normalize_label, tops)) & set(classes):
            return list(files)
        layout.leave_out(name for name in files if "/" not in name[len(layout.root) :])
        layout.root, files = f"{layout.root}{tops.pop()}/", inside


def _holds_several(files: Sequence[str], classes: Collection[str]) -> bool:
    """Return True if the innermost common folder holds several folders that can be classes."""
    inner = Layout()
    files = _descend(inner, files, classes)
    tops = list_folders(files, inner.root)
    is_class = len(named_like_parts(tops, classes)) == len(tops)  # of which there are parts
    return len(tops) > 1 and (not is_class or bool(find_part_folders(inner.root, files, classes)))


def _describe_common(root: str, files: Sequence[str]) -> str:
    folder, inside = root.strip("/"), ", ".join(sorted(list_folders(files, root))[:EXAMPLES])
    return (
        f"common_folder: {folder} was looked into; it holds {inside}. If it is a class itself, write "
        f"`label: {folder.rpartition('/')[2]}` in this source"
    )
