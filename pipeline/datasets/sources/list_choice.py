"""Whether the lists of a source or its class folders tell the classes, where there are both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pipeline.datasets.sources.label_list import Labels, ListOptions, read_labels
from pipeline.datasets.sources.layout import EXAMPLES, Layout, lay_out, system_part
from pipeline.datasets.sources.list_names import find_tables, is_labels_file, is_list, is_usual_list
from pipeline.datasets.sources.part_folders import are_numbered
from pipeline.datasets.sources.row_files import folder_of
from pipeline.datasets.sources.split_names import TEST
from pipeline.errors import EmptyDataset

MIN_SHARE = 0.5  # of the files in the folders of a list's pictures


def choose_labels(
    names: Sequence[str],
    read: Callable[[str], bytes],
    *,
    classes: Sequence[str] | None,
    options: ListOptions,
    origin: str,
    unused: list[str],
) -> Labels | None:
    """Return the labels of a source's lists; None if it has none, or its class folders tell the classes.

    A list whose files are found wins: folders may be parts of a collection, or masks beside pictures. One
    that labels a few of their files only, or the same as they do, leaves the classes to the folders.

    Args:
        names: Every file of the source.
        read: Reads a list.
        classes: The classes that the user listed.
        options: What the user said about lists.
        origin: The source, for messages.
        unused: Takes the reasons why lists are not used.

    Raises:
        SourceNotFound: if a list cannot be read, naming line and remedy.
        EmptyDataset: if it is unclear whether list or folders tell the classes, or a list contradicts itself.
    """
    lists = sorted(name for name in names if is_list(name) and system_part(name) is None)
    tables = find_tables(name for name in names if system_part(name) is None)
    folders = _lay_out_folders(names, classes, origin) if lists or tables else None
    usual = [name for name in lists if options.columns or is_usual_list(name)]
    tiers = [usual, [name for name in lists if name not in usual], tables]
    if options.columns:
        tiers = [usual or tables, tables if usual else []]
    labels = None
    for number, tier in enumerate(tiers):
        is_open = number == 0 or folders is None or are_numbered(folders.labels)
        if tier and labels is None and is_open:
            labels = read_labels(tier, names, read, options=options, origin=origin, unused=unused)
    if labels is None or folders is None:
        return labels
    if not options.columns and not any(map(is_labels_file, usual)):
        if _say_the_same(folders, labels):
            return None
        reason = _doubt(folders, labels, classes or (), origin)
        if reason:
            unused.append(f"list not used: {reason}")
            return None
    labels.statements += _compare(folders, labels)
    return labels


def _lay_out_folders(names: Sequence[str], classes: Sequence[str] | None, origin: str) -> Layout | None:
    """Return the source by its class folders; None if these tell no classes."""
    try:
        layout = lay_out([name for name in names if not is_list(name)], classes=classes, origin=origin)
    except EmptyDataset:
        return None
    return layout if len(layout.labels) > 1 else None


def _say_the_same(folders: Layout, labels: Labels) -> bool:
    """Return True if the class folders tell all that the list does, its test part too."""
    has_test = TEST in {file.split for file in folders.files}
    if TEST in labels.splits.values() and not has_test:
        return False
    by_folder = {file.name: file.label for file in folders.files}
    pairs = {(by_folder.get(name, ""), label) for name, label in labels.labels.items()}
    if all(folder.casefold() == label.casefold() for folder, label in pairs):
        return True
    # Numbers that stand for the folders say less than their names.
    names, numbers = {folder for folder, _ in pairs}, {label for _, label in pairs}
    is_code = len(names) == len(numbers) == len(pairs) > 1 and all(map(str.isdigit, numbers))
    return is_code and not any(map(str.isdigit, names)) and not are_numbered(names)


def _doubt(folders: Layout, labels: Labels, classes: Collection[str], origin: str) -> str:
    """Return why a list does not tell the classes; empty if it does.

    Raises:
        EmptyDataset: if it may, for a few pictures only.
    """
    listed = set(labels.labels.values())
    if missing := set(classes) - listed:
        return f"it has no {_show(missing)}, which `classes` lists"
    if len(listed) < 2:
        return f"it gives all its pictures the label {_show(listed)}"
    inside = {folder_of(name) for name in labels.labels}
    near = {file.name.rpartition(".")[0] for file in folders.files if folder_of(file.name) in inside}
    if len(labels.labels) >= MIN_SHARE * len(near):
        return ""
    counts = f"it labels {len(labels.labels)} of the {len(near)} pictures in their folders"
    if _share_names(folders, labels):
        return counts
    raise EmptyDataset(
        f"{origin}: it is unclear whether the folders {_show(folders.labels)} are the classes, or those of a "
        f"list, {_show(listed)}: {counts}. If the folders are, write `classes: [{_show(folders.labels)}]`; "
        "else complete the list, or name it `labels.csv`."
    )


def _share_names(folders: Layout, labels: Labels) -> bool:
    listed = {label.casefold() for label in labels.labels.values()}
    return not listed.isdisjoint(label.casefold() for label in folders.labels)


def _compare(folders: Layout, labels: Labels) -> list[str]:
    """Return where a list that tells the classes and the folders disagree."""
    if not _share_names(folders, labels):
        names = f"({_show(set(labels.labels.values()))}), not the folders ({_show(folders.labels)})"
        return [f"list_and_folders: the list tells the classes {names}"]
    by_folder = {file.name: file.label for file in folders.files}
    others = [
        f"{name} ({label} in the list)"
        for name, label in labels.labels.items()
        if by_folder.get(name, label).casefold() != label.casefold()
    ]
    if not others:
        return []
    return [
        f"list_and_folders: {len(others)} of {len(labels.labels)} pictures lie in the folder of another "
        f"class than the list gives them, such as {', '.join(others[:EXAMPLES])}; the list was followed"
    ]


def _show(labels: Collection[str]) -> str:
    shown = ", ".join(sorted(labels)[:EXAMPLES])
    return shown if len(labels) <= EXAMPLES else f"{shown}, ..."
