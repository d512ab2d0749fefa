"""Charts as inline SVG that takes the colours of the page, so that it reads in light and in dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.artifacts.metrics import CoveragePoint, ReliabilityBin
from pipeline.report.plot import DASHES, Line, Plot, fit_range, fit_shares

NUM_SERIES = 8  # colours of the page: --series-1, --series-2, ...
SHARES = (0.0, 1.0)  # an axis of shares


def learning_curve(history: Mapping[str, Sequence[float]], name: str, best_epoch: int | None) -> str:
    """Return `loss` or `accuracy` over the epochs, of training and validation pictures."""
    lines = [
        Line(points=list(enumerate(history[key], start=1)), label=label, series=number, dash=number)
        for number, (key, label) in enumerate(((name, "training"), (f"val_{name}", "validation")))
        if key in history
    ]
    values = [value for line in lines for _, value in line.points]
    low, high = fit_shares(values) if name == "accuracy" else fit_range(values)
    if best_epoch is not None:
        lines.append(Line(points=[(best_epoch, low), (best_epoch, high)], label="kept", dash=3))
    num_epochs = max((len(line.points) for line in lines), default=1)
    title, x_range = f"{name.capitalize()} by epoch", (0, num_epochs + 0.5)
    return Plot(title=title, lines=lines, x="epoch", y=name, x_range=x_range, y_range=(low, high)).svg()


def reliability(bins: Sequence[ReliabilityBin], before: Sequence[ReliabilityBin] = ()) -> str:
    """Return how often the model was right, by how sure it was, and before it was calibrated."""
    points = [(each.confidence, each.accuracy) for each in bins]
    num_pictures = sum(each.pictures for each in bins)
    radii = [2 + 7 * (each.pictures / num_pictures) ** 0.5 for each in bins]
    earlier = [(each.confidence, each.accuracy) for each in before]
    lines = [Line(points=[(0, 0), (1, 1)], label="as sure as right", dash=3)]
    if earlier:
        lines.append(Line(points=earlier, label="without the temperature", series=1, dash=1))
    lines.append(Line(points=points, series=0))
    label = "pictures (area: how many)"
    lines.append(Line(points=points, label=label, series=0, is_drawn=False, radii=radii))
    x, y = "probability of the answer", "share that was right"
    title = "How sure, and how often right"
    return Plot(title=title, lines=lines, x=x, y=y, x_range=SHARES, y_range=SHARES).svg()


def coverage(points: Sequence[CoveragePoint]) -> str:
    """Return how accurate the answers are when the least sure ones are withheld."""
    pairs = [(each.coverage, each.accuracy) for each in points if each.accuracy is not None]
    line = Line(points=pairs, series=0, radii=[2.0] * len(pairs))
    x, y = "share of pictures answered", "accuracy of the answers"
    title, y_range = "Accuracy of the surest answers", fit_shares([accuracy for _, accuracy in pairs])
    return Plot(title=title, lines=[line], x=x, y=y, x_range=SHARES, y_range=y_range).svg()


def class_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, title: str, x: str, y: str) -> str:
    """Return a line of (x, y) for each class, such as precision over recall."""
    lines = [
        Line(points=points, label=_plain(label), series=number % NUM_SERIES, dash=number % len(DASHES))
        for number, (label, points) in enumerate(curves.items())
    ]
    return Plot(title=title, lines=lines, x=x, y=y, x_range=SHARES, y_range=SHARES).svg()


def _plain(label: str) -> str:
    """Return a label short enough for a legend."""
    return label if len(label) <= 24 else f"{label[:23]}…"
