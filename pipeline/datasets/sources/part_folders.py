"""Which folders of a tree are parts of a split rather than classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.config.labels import fold_spelling, normalize_label, singular
from pipeline.datasets.sources.split_names import FILLERS, SPLIT_NAMES, find_parts, find_split, words_of
from pipeline.errors import EmptyDataset

EXAMPLES = 3
# Numbered folders of these words hold pieces of one collection: `part1`, `images_002`, `batch-3`.
_UNKNOWN = frozenset(("all", "files", "unknown", "unlabeled", "unlabelled"))
_EDITIONS = frozenset(
    ("v", "version", "original", "originals", "raw", "augmented", "augmentation", "processed", "preprocessed")
    + ("resized", "cropped", "clean", "cleaned", "noisy", "copy", "backup", "old", "new")
)
_BESIDE = frozenset(
    ("mask", "masks", "annotation", "annotations", "segmentation", "segmentations", "groundtruth", "gt")
    + ("trimap", "trimaps", "depth", "heatmap", "heatmaps", "label", "labels", "contour", "contours")
)
_PIECES = frozenset(("part", "parts", "batch", "chunk", "fold", "shard", "volume", "images", "set"))


def list_folders(files: Iterable[str], root: str) -> set[str]:
    """Return the folders below another that have files."""
    names = (name[len(root) :] for name in files if name.startswith(root))
    return {name.partition("/")[0] for name in names if "/" in name}


def find_part_folders(root: str, files: Sequence[str], classes: Collection[str]) -> dict[str, str]:
    """Return the folders that are parts of a split and hold classes; none if they are classes themselves."""
    tops = named_like_parts(list_folders(files, root), classes)
    inner = _look_into_parts(root, tops, files, classes)
    labels = {top: list_folders(files, f"{root}{path}/") for top, path in inner.items()}
    several = {label for names in labels.values() if len(names) > 1 for label in names}
    labels = {top: names for top, names in labels.items() if not _is_unlabelled(names, several)}
    keys = _spellings(label for names in labels.values() for label in names)
    counts = Counter(key for names in labels.values() for key in {keys[name] for name in names})
    if not labels or (len(labels) > 1 and max(counts.values()) == 1):
        return {}
    return {inner[top]: tops[top] for top in sorted(labels)}


def join_spellings(held: Iterable[tuple[str, str]], classes: Collection[str]) -> dict[str, str]:
    """Return the name to use for class folders that differ in spelling only and lie in different parts.

    Args:
        held: The part and the class of each file.
        classes: The classes that the user listed: these are never renamed.
    """
    counts: Counter[str] = Counter()
    parts: dict[str, set[str]] = {}
    kin: dict[str, list[str]] = {}
    for part, label in held:
        counts[label] += 1
        parts.setdefault(label, set()).add(part)
    keys = _spellings(parts)
    for label in sorted(parts, key=lambda label: (label not in classes, -counts[label], label)):
        kin.setdefault(keys[label], []).append(label)
    names: dict[str, str] = {}
    for chosen, *others in kin.values():
        inside = [part for label in (chosen, *others) for part in parts[label]]
        if len(set(inside)) == len(inside) and not set(others) & set(classes):
            names |= dict.fromkeys(others, chosen)
    return names


def describe_spellings(label: str, name: str) -> str:
    """Return a statement of two folders that became one class."""
    way = "case" if label.casefold() == name.casefold() else "case, spaces, accents or plural"
    return (
        f"one_class: the folders {label} and {name} of different parts differ in {way} only; "
        f"they are the class {name}"
    )


def _spellings(labels: Iterable[str]) -> dict[str, str]:
    """Return what is left of each label without case, accents, spaces and plural."""
    folded = {label: fold_spelling(label) for label in labels}
    words = set(folded.values())
    return {label: singular(word, words) for label, word in folded.items()}


def _is_unlabelled(folders: Collection[str], several: Collection[str]) -> bool:
    """Return True if a part holds no class folders, or all its pictures in one, such as `test/images`."""
    return not folders or (
        len(folders) == 1
        and bool(several)
        and not set(folders) & set(several)
        and not set(words_of(*folders)) - {*FILLERS, *_UNKNOWN, *SPLIT_NAMES}
    )


def _look_into_parts(
    root: str, tops: Collection[str], files: Sequence[str], classes: Collection[str]
) -> dict[str, str]:
    """Return the folder of each part that holds its classes: `seg_test/seg_test`, `train/images`."""
    paths = {top: top for top in tops}
    while True:
        inside = {top: list_folders(files, f"{root}{path}/") for top, path in paths.items()}
        several = {name for names in inside.values() if len(names) > 1 for name in names}
        single = {top: next(iter(names)) for top, names in inside.items() if len(names) == 1}
        common = {
            name
            for top, name in single.items()
            if len(list_folders(files, f"{root}{paths[top]}/{name}/")) > 1
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


def named_like_parts(folders: Iterable[str], classes: Collection[str]) -> dict[str, str]:
    """Return the folders whose names tell parts of a split, those that the user listed as classes aside."""
    return find_parts(name for name in folders if normalize_label(name) not in classes)


def check_clear(
    root: str, files: Sequence[str], classes: Collection[str], within: Mapping[str, str], origin: str
) -> list[str]:
    """Return a statement of class folders that are likely to be none.

    Args:
        root: The folder that holds the class folders; with a trailing slash.
        files: Paths of files below the source.
        classes: The classes that the user listed.
        within: The folders below class folders that are parts of a split, by their path below the root.
        origin: The source, for messages.

    Raises:
        EmptyDataset: if it cannot be told whether folders are parts of a split or classes.
    """
    tops = list_folders(files, root)
    named = sorted(named_like_parts(tops, classes))
    if len(named) > 1 and len(named) == len(tops):
        raise EmptyDataset(
            f"{origin} has the folders {', '.join(named)}, which are named like parts of a split but share "
            f"no class folder. If these are the classes, write `classes: [{', '.join(named)}]`; else put the "
            "pictures of each class into a sub-folder of its own in each part.",
            classes=named,
        )
    shared = _find_shared([name[len(root) :] for name in files if name.startswith(root)], within)
    if classes:
        return []
    statements = _tell_shared(sorted(tops), shared, origin) if len(shared) > 1 else []
    if are_numbered(tops):
        shown = ", ".join(sorted(tops)[:EXAMPLES])
        statements.append(
            f"numbered_folders: the classes {shown} differ in a number only. If they are pieces of one "
            "collection, say where the labels are: `columns` of a list, or `label_pattern` for names"
        )
    return statements


def are_numbered(folders: Collection[str]) -> bool:
    """Return True if folders are named like the pieces of one collection: `part1` and `part2`."""
    rests = {re.sub(r"\d+", "", name.casefold()) for name in folders}
    return len(folders) > 1 and len(rests) == 1 and bool(_PIECES & set(words_of(*rests)))


def are_editions(folders: Collection[str]) -> bool:
    """Return True if folders are named like editions of one collection: `raw` and `augmented`, `v1`, `v2`."""
    return all(
        {*words_of(name)} - FILLERS and {*words_of(name)} <= {*_EDITIONS, *FILLERS} for name in folders
    )


def find_doubled(
    root: str, files: Sequence[str], classes: Collection[str], origin: str
) -> tuple[str, list[str]]:
    """Return a class folder that is a copy of all of them, as double packing leaves it, and its files.

    Returns:
        The folder and its files below the source; empty without one.

    Raises:
        EmptyDataset: if it holds other files than the folders beside it.
    """
    tops = list_folders(files, root)
    for top in sorted(tops):
        inner = list_folders(files, f"{root}{top}/")
        if len(inner) < 2 or not inner <= tops - {top} or normalize_label(top) in classes:
            continue
        inside = [name for name in files if name.startswith(f"{root}{top}/")]
        others = {*files} - {*inside}
        if any(f"{root}{name[len(root) + len(top) + 1 :]}" not in others for name in inside):
            raise EmptyDataset(
                f"{origin}: the folder {top} holds folders that lie beside it, too "
                f"({', '.join(sorted(inner)[:EXAMPLES])}), with other files. Join them, take {top} out, or "
                f"write `classes: [{top}, ...]` if it is a class.",
                classes=[top],
            )
        return top, inside
    return "", []


def refuse_no_classes(folders: Collection[str], classes: Collection[str], origin: str) -> None:
    """Raise if folders are named like pictures and what belongs to each of them: `images` and `masks`.

    Raises:
        EmptyDataset: with the remedy.
    """
    kinds = {name: {*words_of(name)} for name in folders}
    beside = [name for name, words in kinds.items() if words & _BESIDE and words <= {*_BESIDE, *FILLERS}]
    pictures = [
        name for name, words in kinds.items() if words and words <= {*FILLERS, "original", "originals"}
    ]
    if not beside or not pictures or len(beside) + len(pictures) < len(kinds) or set(folders) & set(classes):
        return
    raise EmptyDataset(
        f"{origin} has the folders {', '.join(sorted(folders))}: pictures and what was drawn for them, no "
        "classes. Put the pictures of each class into a folder of its own, or a `labels.csv` with the "
        f"columns `file,label` beside them. If these are the classes, write `classes: "
        f"[{', '.join(sorted(folders))}]`.",
        classes=sorted(folders),
    )


def _find_shared(paths: Iterable[str], within: Mapping[str, str]) -> list[str]:
    """Return the folders that several class folders hold, those for parts of a split aside."""
    held = set()
    for path in paths:
        top, *folders = path.split("/")[:-1] or [""]
        if path.rpartition("/")[0] in within:
            folders = [folder for folder in folders if find_split(folder) is None]
        held |= {(top, folder) for folder in folders[:1]}
    counts = Counter(folder for _, folder in held)
    return sorted(folder for folder, count in counts.items() if count > 1)


def _tell_shared(tops: Sequence[str], shared: Sequence[str], origin: str) -> list[str]:
    """Tell of class folders that hold the same folders; refuse them if one has the name of a part."""
    shown, below = ", ".join(tops[:EXAMPLES]), ", ".join(shared[:EXAMPLES])
    remedy = (
        f"If the classes are {shown}, list them in `classes`; if they are {below}, list each folder that "
        "holds these as a source of its own in `dataset.sources`"
    )
    if are_editions(tops):
        raise EmptyDataset(
            f"{origin} has the folders {shown}, which are named like editions of one collection and hold the "
            f"same folders ({below}). {remedy}.",
            classes=list(tops),
        )
    if any(map(find_split, tops)):
        raise EmptyDataset(
            f"{origin} has the folders {shown}, which hold the same folders ({below}), and one is named like "
            f"a part of a split. {remedy}, or name the parts `train` and `test`.",
            classes=list(tops),
        )
    return [f"shared_folders: the classes {shown} hold the same folders ({below}). {remedy}"]
