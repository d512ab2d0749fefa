"""The columns of lists of pictures: their usual names, and which of those with two meanings tell a split."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pipeline.datasets.sources.split_names import SPLIT_NAMES

FILE_COLUMNS = (
    *("url", "image_url", "imageurl", "image_link", "link", "image", "image_path", "img", "img_path"),
    *(
        "path",
        "file",
        "file_name",
        "filename",
        "filepath",
        "file_path",
        "image_name",
        "imagegcsuri",
        "source-ref",
        "fname",
        "image_filename",
        "image_file_name",
        "img_name",
        "img_file",
        "imagename",
        "imagepath",
        "relative_path",
        "file_url",
        "image_uri",
        "uri",
        "photo",
        "picture",
        "name",
        "image_id",
        "imageid",
        "image_file",
        "id_code",
        "id",
    ),
)
NAME_COLUMNS = ("class_name", "label_name", "classname", "labelname", "category_name", "class_label")
LABEL_COLUMNS = (
    *("label", "class", "category", "target", "choice", "breed", "species"),
    *NAME_COLUMNS,
    *("tag", "labels", "tags", "categories", "classes", "diagnosis", "dx", "class_id", "classid"),
)
PLURAL_COLUMNS = ("labels", "tags", "categories", "classes")
SPLIT_COLUMNS = ("split", "ml_use", "subset", "partition")
MAYBE_SPLIT_COLUMNS = ("set", "data_set", "dataset", "usage", "phase", "fold", "stage")
SPLITS: Mapping[str, str | None] = {
    **SPLIT_NAMES,
    **{"validate": "validation", "": None, "unassigned": None},
}


def describe_repeated(names: Sequence[str], used: Sequence[str]) -> str:
    """Return what is wrong if a column that is used occurs more than once; empty if none does."""
    for name in used:
        places = [str(place) for place, each in enumerate(names, 1) if each == name]
        if len(places) > 1:
            return (
                f"has the column {name!r} {len(places)} times (columns {', '.join(places)}): it is unclear "
                "which one counts. Rename the others, or take them out"
            )
    return ""


class MaybeSplit:
    """Columns such as `set` and `fold`: one tells the part of a split if its first value is one.

    Args:
        origin: The list, for messages.
    """

    def __init__(self, origin: str) -> None:
        self.statements: list[str] = []
        self._origin = origin
        self._name: str | None = None
        self._others: set[str] = set()

    def find(self, values: Mapping[str, str], used: Collection[str]) -> str | None:
        """Return the column that tells the part of a row; one that tells none becomes a statement.

        Args:
            values: The row by column.
            used: The columns that are used for something else.
        """
        for name in () if self._name else MAYBE_SPLIT_COLUMNS:
            value = values.get(name, "").strip()
            if not value or name in used or name in self._others:
                continue
            if value.casefold() in SPLITS:
                self._name = name
                break
            self._others.add(name)
            self.statements.append(f"columns: {name!r} of {self._origin} tells no part of a split: {value!r}")
        return self._name if self._name in values else None
