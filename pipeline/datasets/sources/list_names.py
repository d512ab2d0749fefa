"""By which names files are taken for lists of labels."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.datasets.sources.split_names import words_of

LABELS_NAMES = ("labels.csv", "labels.tsv", "labels.jsonl")  # these win over class folders
PART_WORDS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
LIST_NAMES = frozenset(
    (
        *LABELS_NAMES,
        *("metadata.csv", "metadata.tsv", "metadata.jsonl"),
        *(f"{part}{end}.csv" for part in PART_WORDS for end in ("", "_labels", "labels")),
        *(f"{stem}.json" for stem in ("labels", "metadata", "annotations", "result", "coco")),
        *("_annotations.coco.json", "_annotations.csv", "_classes.csv"),
    )
)
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".manifest")
# Words in the names of tables that may be lists: `HAM10000_metadata.csv`, `Training_GroundTruth.csv`.
LIST_WORDS = frozenset(
    (*PART_WORDS, *("label", "labels", "metadata", "annotation", "annotations", "classes", "truth"))
)
VOC_SUFFIX = ".xml"
MAX_TABLES = 20
MAX_LIST_BYTES = 20_000_000


def is_list(name: str) -> bool:
    """Return True if a file is named as lists of labels are."""
    return is_usual_list(name) or (
        name.lower().endswith(TABLE_SUFFIXES) and bool(LIST_WORDS & set(words_of(stem_of(name))))
    )


def find_tables(names: Iterable[str]) -> list[str]:
    """Return files that may be lists under any name, which are read where nothing else tells the classes.

    None if there are many of a kind, as there are of files beside each picture.
    """
    tables = [name for name in names if may_be_table(name) and not is_list(name)]
    return sorted(
        name
        for name in tables
        if sum(other.rpartition(".")[2] == name.rpartition(".")[2] for other in tables) <= MAX_TABLES
    )


def may_be_table(name: str) -> bool:
    """Return True if a file may be a list by its extension; an example of what to hand in is none."""
    base = name.rpartition("/")[2].lower()
    return base.endswith((*TABLE_SUFFIXES, ".json")) and "submission" not in base


def is_usual_list(name: str) -> bool:
    """Return True if a file has a name by which lists are used wherever class folders may tell, too."""
    base = name.rpartition("/")[2].lower()
    is_coco = base.startswith("instances_") and base.endswith(".json")
    return base in LIST_NAMES or is_coco or is_voc(name)


def is_labels_file(name: str) -> bool:
    """Return True if a file is a `labels.csv`, which always tells the classes."""
    return name.rpartition("/")[2].lower() in LABELS_NAMES


def is_voc(name: str) -> bool:
    """Return True if a file may be an annotation of Pascal VOC."""
    return name.lower().endswith(VOC_SUFFIX)


def stem_of(name: str) -> str:
    """Return a file's name without folders and extension."""
    return name.rpartition("/")[2].rpartition(".")[0]
