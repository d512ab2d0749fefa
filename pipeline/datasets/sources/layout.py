"""How a tree of files tells classes: by class folders, below one common folder or the parts of a split.

Folders and archives share these rules. Nothing is left out without being counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.config.labels import normalize_label
from pipeline.datasets.sources.split_names import SPLIT_NAMES, TEST, find_parts, find_split
from pipeline.errors import EmptyDataset

SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "@eadir", "$recycle.bin", "lost+found", "system volume information"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    }
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

    @property
    def has_test_part(self) -> bool:
        """True if the source brings its own test set."""
        return TEST in self.parts.values()

    @property
    def statements(self) -> list[str]:
        """What a reader of the dataset card should know."""
        statements = list(self.notes)
        if self.parts:
            statements.append(self._describe_split())
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

    def _describe_split(self) -> str:
        parts = ", ".join(f"{name} ({self.part_counts[name]})" for name in self.parts)
        if not self.has_test_part:
            return f"given_split: {parts}: of a split without labelled test pictures; all are split anew"
        tests = sum(file.split == TEST for file in self.files)
        return f"given_split: {parts} are parts of a split, not classes; {tests} pictures are the test set"


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
        may_descend: True if a single folder may be a common one rather than a class.
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
    if may_descend:
        files = _descend(layout, files, classes or ())
    layout.parts = _find_parts(layout.root, files, classes or ())
    _refuse_unclear(layout, files, classes or (), origin)
    for name in files:
        _place(layout, name)
    labels = sorted({file.label for file in layout.files} - set(classes or ()))
    kin = find_parts(labels)
    layout.odd_labels = [label for label in labels if label.casefold() in SPLIT_NAMES or label in kin]
    return layout


def _place(layout: Layout, name: str) -> None:
    path = name[len(layout.root) :]
    part = next((part for part in layout.parts if path.startswith(f"{part}/")), None)
    inside = path if part is None else path[len(part) + 1 :]
    if "/" not in inside or (part is None and layout.parts):
        layout.leave_out([name])
        return
    label = normalize_label(inside.partition("/")[0])
    if part is not None:
        layout.part_counts[part] += 1
    layout.files.append(LaidOutFile(name=name, label=label, split=layout.parts[part] if part else None))


def _descend(layout: Layout, files: Sequence[str], classes: Collection[str]) -> list[str]:
    """Look into common folders; return the files in the innermost one, and count those outside."""
    while True:
        tops = _folders(files, layout.root)
        inside = [name for name in files if "/" in name[len(layout.root) :]]
        has_folders = any(name[len(layout.root) :].count("/") > 1 for name in inside)
        if len(tops) != 1 or not has_folders or set(map(normalize_label, tops)) & set(classes):
            return list(files)
        layout.leave_out(name for name in files if "/" not in name[len(layout.root) :])
        layout.root, files = f"{layout.root}{tops.pop()}/", inside


def _folders(files: Iterable[str], root: str) -> set[str]:
    """Return the folders below another that have files."""
    names = (name[len(root) :] for name in files if name.startswith(root))
    return {name.partition("/")[0] for name in names if "/" in name}


def _find_parts(root: str, files: Sequence[str], classes: Collection[str]) -> dict[str, str]:
    """Return the folders that are parts of a split and hold classes; none if they are classes themselves."""
    tops = _named_like_parts(_folders(files, root), classes)
    inner = _look_into_parts(root, tops, files, classes)
    labels = {top: _folders(files, f"{root}{path}/") for top, path in inner.items()}
    counts = Counter(label for names in labels.values() for label in names)
    parts = [top for top in tops if labels[top]]
    if not parts or (len(parts) > 1 and max(counts.values()) == 1):
        return {}
    return {inner[top]: tops[top] for top in parts}


def _look_into_parts(
    root: str, tops: Collection[str], files: Sequence[str], classes: Collection[str]
) -> dict[str, str]:
    """Return the folder of each part that holds its classes: `seg_test/seg_test`, `train/images`."""
    paths = {top: top for top in tops}
    while True:
        inside = {top: _folders(files, f"{root}{path}/") for top, path in paths.items()}
        several = {name for names in inside.values() if len(names) > 1 for name in names}
        single = {top: next(iter(names)) for top, names in inside.items() if len(names) == 1}
        common = {
            name for top, name in single.items() if len(_folders(files, f"{root}{paths[top]}/{name}/")) > 1
        }
        deeper = {
            top: f"{paths[top]}/{name}"
            for top, name in single.items()
            if name not in several
            and normalize_label(name) not in classes
            and (name in common or find_split(name) == find_split(top))
        }
        if not deeper:
            return paths
        paths |= deeper


def _named_like_parts(folders: Iterable[str], classes: Collection[str]) -> dict[str, str]:
    return find_parts(name for name in folders if normalize_label(name) not in classes)


def _refuse_unclear(layout: Layout, files: Sequence[str], classes: Collection[str], origin: str) -> None:
    """Refuse folders that may be classes or parts of a split; warn of those that are likely to be classes."""
    if layout.parts:
        return
    tops = _folders(files, layout.root)
    named = sorted(_named_like_parts(tops, classes))
    if len(named) > 1 and len(named) == len(tops):
        raise EmptyDataset(
            f"{origin} has the folders {', '.join(named)}, which are named like parts of a split but share "
            f"no class folder. If these are the classes, write `classes: [{', '.join(named)}]`; else put the "
            "pictures of each class into a sub-folder of its own in each part.",
            classes=named,
        )
    counts = Counter(name for top in tops for name in _folders(files, f"{layout.root}{top}/"))
    shared = sorted(name for name, count in counts.items() if count > 1)
    if not classes and len(shared) > 1:
        _tell_shared(layout, sorted(tops), shared, origin)


def _tell_shared(layout: Layout, tops: Sequence[str], shared: Sequence[str], origin: str) -> None:
    """Tell of class folders that hold the same folders; refuse them if one has the name of a part."""
    shown, below = ", ".join(tops[:EXAMPLES]), ", ".join(shared[:EXAMPLES])
    remedy = (
        f"If the classes are {shown}, list them in `classes`; if they are {below}, list each folder that "
        "holds these as a source of its own in `dataset.sources`"
    )
    if any(map(find_split, tops)):
        raise EmptyDataset(
            f"{origin} has the folders {shown}, which hold the same folders ({below}), and one is named like "
            f"a part of a split. {remedy}, or name the parts `train` and `test`.",
            classes=list(tops),
        )
    layout.notes.append(f"shared_folders: the classes {shown} hold the same folders ({below}). {remedy}")
