"""By which names files are taken for lists of labels."""

from __future__ import annotations

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
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
# Words in the names of tables that may be lists: `HAM10000_metadata.csv`, `Training_GroundTruth.csv`.
LIST_WORDS = frozenset(
    (*PART_WORDS, *("label", "labels", "metadata", "annotation", "annotations", "classes", "truth"))
)
VOC_SUFFIX = ".xml"


def is_list(name: str) -> bool:
    """Return True if a file is named as lists of labels are."""
    return is_usual_list(name) or (
        name.lower().endswith(TABLE_SUFFIXES) and bool(LIST_WORDS & set(words_of(stem_of(name))))
    )


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
