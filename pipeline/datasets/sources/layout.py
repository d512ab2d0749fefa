"""How a tree of files tells classes: by class folders, below one common folder or the parts of a split.

Folders and archives share these rules. Nothing is left out without being counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.config.labels import normalize_label
from pipeline.errors import EmptyDataset

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
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
        parts: The folders that are parts of a split, by name.
        left_out: Files that belong to no class, by the reason.
        examples: Some of those beside the class folders.
        notes: Statements of the lists that told the labels.
        odd_labels: Classes that are named like a part of a split and were not listed by the user.
    """

    root: str = ""
    files: list[LaidOutFile] = field(default_factory=list)
    parts: Mapping[str, str] = field(default_factory=dict)
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
        counts = Counter(file.name[len(self.root) :].partition("/")[0] for file in self.files)
        parts = ", ".join(f"{name} ({counts[name]})" for name in self.parts)
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

    Folders that are named like parts of a split (`train`, `val`, `test` and the like) are one if they share
    class folders. Common folders of any depth are looked into.

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
    layout.odd_labels = _named_like_parts({file.label for file in layout.files}, classes or ())
    return layout


def _place(layout: Layout, name: str) -> None:
    folders = name[len(layout.root) :].split("/")[:-1]
    if not layout.parts and folders:
        layout.files.append(LaidOutFile(name=name, label=normalize_label(folders[0])))
    elif len(folders) > 1 and folders[0] in layout.parts:
        label, split = normalize_label(folders[1]), layout.parts[folders[0]]
        layout.files.append(LaidOutFile(name=name, label=label, split=split))
    else:
        layout.leave_out([name])


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
    labels = {top: _folders(files, f"{root}{top}/") for top in tops}
    counts = Counter(label for names in labels.values() for label in names)
    parts = [top for top in tops if labels[top]]
    if len(tops) < 2 or (len(parts) > 1 and max(counts.values()) == 1):
        return {}
    return {top: SPLIT_FOLDERS[top.casefold()] for top in parts}


def _named_like_parts(folders: Iterable[str], classes: Collection[str]) -> list[str]:
    return sorted(
        name for name in folders if name.casefold() in SPLIT_FOLDERS and normalize_label(name) not in classes
    )


def _refuse_unclear(layout: Layout, files: Sequence[str], classes: Collection[str], origin: str) -> None:
    tops = _folders(files, layout.root)
    named = _named_like_parts(tops, classes)
    if len(named) > 1 and len(named) == len(tops) and not layout.parts:
        raise EmptyDataset(
            f"{origin} has the folders {', '.join(named)}, which are named like parts of a split but share "
            f"no class folder. If these are the classes, write `classes: [{', '.join(named)}]`; else put the "
            "pictures of each class into a sub-folder of its own in each part.",
            classes=named,
        )
