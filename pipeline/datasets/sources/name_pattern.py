"""Classes that are told by the names of the files: `cat.0.jpg`, `Abyssinian_12.jpg`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pipeline.config.labels import normalize_label
from pipeline.datasets.sources.layout import LaidOutFile, Layout, system_part
from pipeline.datasets.sources.split_names import find_folder_parts

# Names as downloads, cameras and Teachable Machine number them: a word, then digits.
NUMBERED = re.compile(r"^(?P<label>.*?[^\W\d_])(?:-!-|[ ._-])*\(?\d+\)?(?=\.\w+$)")
TEACHABLE_MACHINE = re.compile(r"^(?P<label>.+)-!-\d+\.\w+$")
MIN_PER_CLASS = 2
UNMATCHED = "whose name does not match `label_pattern`"


def lay_out_by_name(names: Iterable[str], pattern: re.Pattern[str]) -> Layout:
    """Return the files by what a pattern finds in their names; those that do not match are counted.

    Args:
        names: Paths of files below the source.
        pattern: Its group `label`, else its first group, else the whole match is the class.
    """
    layout = Layout()
    labels: dict[str, str] = {}
    for name in names:
        part, label = system_part(name), find_label(name, pattern)
        if part is not None:
            layout.left_out[part] += 1
        elif not label:
            layout.leave_out([name], UNMATCHED)
        else:
            labels[name] = label
    parts = find_folder_parts({name.rpartition("/")[0] for name in labels}, may_stand_alone=True)
    layout.files = [
        LaidOutFile(name=name, label=label, split=parts.get(name.rpartition("/")[0]))
        for name, label in labels.items()
    ]
    return layout


def find_label(name: str, pattern: re.Pattern[str]) -> str:
    """Return the class that a pattern finds in a file's name; empty if it does not match."""
    match = pattern.search(name.rpartition("/")[2])
    if match is None:
        return ""
    label = match["label"] if "label" in pattern.groupindex else match[1] if pattern.groups else match[0]
    return normalize_label(label or "")


def is_teachable_machine(names: Sequence[str]) -> bool:
    """Return True if pictures are named as Teachable Machine names the samples of its classes."""
    files = [name for name in names if not name.endswith(".json") and system_part(name) is None]
    return bool(files) and all(find_label(name, TEACHABLE_MACHINE) for name in files)


def suggest_pattern(names: Sequence[str]) -> str:
    """Return a sentence about `label_pattern` if the names look like numbered classes; empty otherwise."""
    files = [name for name in names if system_part(name) is None]
    counts = Counter(label for name in files if (label := find_label(name, NUMBERED)))
    counts = Counter({label: count for label, count in counts.items() if count >= MIN_PER_CLASS})
    if len(counts) < 2 or counts.total() < 0.8 * len(files):
        return ""
    shown = ", ".join(f"{label} ({count})" for label, count in counts.most_common(3))
    return (
        f" The names of the files look like classes: {shown}. If they are, write "
        r"`label_pattern: '^(.*?)[ ._-]*\d+\.'`."
    )
