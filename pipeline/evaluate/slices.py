"""The test pictures in parts: by class, by where they come from, by size, by any column of the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pipeline.artifacts.manifest import COLUMNS
from pipeline.errors import ConfigError
from pipeline.types import JsonDict

ALWAYS = ("label", "source", "size")
MAX_VALUES = 50
OTHER = "(other)"
SIZES = ((64, "up to 64"), (256, "65 to 256"), (1024, "257 to 1024"))
LARGEST = "over 1024"


def check_columns(columns: Iterable[str]) -> None:
    """Make sure that each name is something that pictures can be told apart by.

    Raises:
        ConfigError: naming the unknown one and those there are.
    """
    known = (*ALWAYS, *COLUMNS)
    for column in columns:
        if column not in known:
            raise ConfigError(
                f"`gate.slices`: there is no column `{column}`; known: {', '.join(dict.fromkeys(known))}"
            )


def slice_value(row: Mapping[str, Any], column: str) -> str:
    """Return which slice a picture is in.

    `source` is the host or the folder that it came from; `size` a band of its longer side in pixels.
    """
    if column == "source":
        return _source(str(row.get("source_url") or ""))
    if column == "size":
        return _size(max(int(row.get("width") or 0), int(row.get("height") or 0)))
    value = row.get(column)
    return "(none)" if value is None else str(value)


def _source(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return parts.hostname or "(none)"
    return url.partition("#")[0].rpartition("/")[0] or url or "(none)"


def _size(side: int) -> str:
    if not side:
        return "(none)"
    return next((name for limit, name in SIZES if side <= limit), LARGEST)


def slice_pictures(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, list[int]]:
    """Return the positions of each slice's rows; the smallest slices of more than fifty are put together."""
    values = [slice_value(row, column) for row in rows]
    shown = {value for value, _ in Counter(values).most_common(MAX_VALUES)}
    found: dict[str, list[int]] = {}
    for position, value in enumerate(values):
        found.setdefault(value if value in shown else OTHER, []).append(position)
    return dict(sorted(found.items()))


def measure_slices(
    rows: Mapping[str, Mapping[str, Any]], columns: Iterable[str], candidate: Any, champion: Any = None
) -> dict[str, dict[str, JsonDict]]:
    """Return how the models did on each slice.

    Args:
        rows: Manifest rows of the test pictures, by id.
        columns: What to slice by, besides label, source and size.
        candidate: The candidate's `Answers`.
        champion: The champion's, if there is one, for the same pictures in the same order.
    """
    ordered = [rows[key] for key in candidate.keys]
    return {
        column: {
            value: _measure_slice(positions, candidate, champion)
            for value, positions in slice_pictures(ordered, column).items()
        }
        for column in dict.fromkeys((*ALWAYS, *columns))
    }


def _measure_slice(positions: Sequence[int], candidate: Any, champion: Any) -> JsonDict:
    found = _brief(candidate, positions)
    if champion is not None:
        found["champion"] = _brief(champion, positions)
    return found


def _brief(answers: Any, positions: Sequence[int]) -> JsonDict:
    import numpy as np

    from pipeline.evaluate.metrics import wilson_interval
    from pipeline.evaluate.scores import average_over_classes, class_scores, picture_losses

    truth, predicted = answers.truth[positions], answers.predicted[positions]
    width, hits = len(answers.classes), int((truth == predicted).sum())
    counts = [np.bincount(part, minlength=width) for part in (truth[truth == predicted], predicted, truth)]
    macro_f1, _ = average_over_classes(class_scores(*counts)[2], counts[2])
    return {
        "pictures": len(positions),
        "accuracy": hits / len(positions),
        "accuracy_ci95": list(wilson_interval(hits, len(positions))),
        "loss": float(picture_losses(truth, answers.probabilities[positions]).mean()),
        "macro_f1": float(macro_f1),
    }
