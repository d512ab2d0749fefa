"""The test pictures in parts: by class, by where they come from, by size, by any column of the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.artifacts.evaluation import SliceMetrics
from pipeline.artifacts.manifest import COLUMNS, ManifestRow
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Answers

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
    allowed = tuple(dict.fromkeys((*ALWAYS, *COLUMNS)))
    for column in columns:
        if column not in allowed:
            raise ConfigError(f"`gate.slices`: there is no column `{column}`; known: {', '.join(allowed)}")


def slice_value(row: ManifestRow, column: str) -> str:
    """Return which slice a picture is in.

    `source` is the host or the folder that it came from; `size` a band of its longer side in pixels.
    """
    if column == "source":
        return _source(row.source_url)
    if column == "size":
        decoded = row.fingerprint
        return _size(max(decoded.width or 0, decoded.height or 0) if decoded else 0)
    value = row.to_dict()[column]
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


def slice_pictures(rows: Sequence[ManifestRow], column: str) -> dict[str, list[int]]:
    """Return the positions of each slice's rows; the smallest slices of more than fifty are put together."""
    values = [slice_value(row, column) for row in rows]
    shown = {value for value, _ in Counter(values).most_common(MAX_VALUES)}
    positions: dict[str, list[int]] = {}
    for position, value in enumerate(values):
        positions.setdefault(value if value in shown else OTHER, []).append(position)
    return dict(sorted(positions.items()))


def measure_slices(
    rows: Mapping[str, ManifestRow],
    columns: Iterable[str],
    candidate: Answers,
    champion: Answers | None = None,
) -> dict[str, dict[str, SliceMetrics]]:
    """Return how the models did on each slice.

    Args:
        rows: Manifest rows of the test pictures, by id.
        columns: What to slice by, besides label, source and size.
        candidate: The candidate's answers.
        champion: The champion's, if there is one, for the same pictures in the same order.
    """
    ordered = [rows[key] for key in candidate.keys]
    return {
        column: {
            value: _measure(candidate, positions, _measure(champion, positions) if champion else None)
            for value, positions in slice_pictures(ordered, column).items()
        }
        for column in dict.fromkeys((*ALWAYS, *columns))
    }


def _measure(
    answers: Answers, positions: Sequence[int], champion: SliceMetrics | None = None
) -> SliceMetrics:
    import numpy as np

    from pipeline.evaluate.metrics import wilson_interval
    from pipeline.evaluate.scores import average_over_classes, class_scores, picture_losses

    truth, predicted = answers.truth[positions], answers.predicted[positions]
    width, hits = len(answers.classes), int((truth == predicted).sum())
    counts = [np.bincount(part, minlength=width) for part in (truth[truth == predicted], predicted, truth)]
    macro_f1, _ = average_over_classes(class_scores(*counts)[2], counts[2])
    return SliceMetrics(
        pictures=len(positions),
        accuracy=hits / len(positions),
        accuracy_ci95=wilson_interval(hits, len(positions)),
        loss=float(picture_losses(truth, answers.probabilities[positions]).mean()),
        macro_f1=float(macro_f1),
        champion=champion,
    )
