"""Charts as inline SVG that takes the colours of the page, so that it reads in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.artifacts.metrics import CoveragePoint, ReliabilityBin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's own text colour
SERIES = tuple(f"#0102{number:02x}" for number in range(16, 24))  # stand for --series-1, --series-2, ...
_DASHES = ("-", "--", "-.", ":")  # so that lines differ by more than their colour
_STYLE: dict[str, str | float | bool] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "text.parse_math": False,  # labels are text
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def learning_curve(history: Mapping[str, Sequence[float]], name: str, best_epoch: int | None) -> str:
    """Return `loss` or `accuracy` over the epochs, of training and validation pictures."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for number, key in enumerate((name, f"val_{name}")):
            if key in history:
                label = "validation" if number else "training"
                epochs = range(1, len(history[key]) + 1)
                axes.plot(epochs, history[key], _DASHES[number], color=SERIES[number], label=label)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=INK, alpha=0.5, linestyle=":", label="kept")
        _finish(axes, x="epoch", y=name)

    return _svg(draw, f"learning-{name}", size=(4.4, 3.0))


def reliability(bins: Sequence[ReliabilityBin], before: Sequence[ReliabilityBin] = ()) -> str:
    """Return how often the model was right, by how sure it was, and before it was calibrated."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], ":", color=INK, alpha=0.6, label="as sure as right")
        num_pictures = sum(each.pictures for each in bins)
        sizes = [12 + 120 * each.pictures / num_pictures for each in bins]
        confidence, accuracy = [each.confidence for each in bins], [each.accuracy for each in bins]
        if before:
            points = [each.confidence for each in before], [each.accuracy for each in before]
            axes.plot(*points, _DASHES[1], marker="x", color=SERIES[1], label="without the temperature")
        axes.plot(confidence, accuracy, "-", color=SERIES[0])
        axes.scatter(confidence, accuracy, s=sizes, color=SERIES[0], label="pictures (area: how many)")
        _finish(axes, x="probability of the answer", y="share that was right")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04))

    return _svg(draw, "reliability", size=(4.4, 3.2))


def coverage(points: Sequence[CoveragePoint]) -> str:
    """Return how accurate the answers are when the least sure ones are withheld."""
    pairs = [(each.coverage, each.accuracy) for each in points if each.accuracy is not None]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(*zip(*pairs, strict=True), "-o", ms=3, color=SERIES[0])
        _finish(axes, x="share of pictures answered", y="accuracy of the answers", legend=False)
        axes.set(xlim=(0, 1.02))

    return _svg(draw, "coverage", size=(4.4, 3.2))


def class_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> str:
    """Return a line of (x, y) for each class, such as precision over recall."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (label, points) in enumerate(curves.items()):
            across, up = zip(*points, strict=True)
            style = _DASHES[number % len(_DASHES)]
            axes.plot(across, up, style, color=SERIES[number % len(SERIES)], label=_plain(label))
        _finish(axes, x=x, y=y)
        axes.set(xlim=(-0.02, 1.02), ylim=(0, 1.04))

    return _svg(draw, f"{y}-{x}".replace(" ", "-"), size=(4.4, 3.2))


def _plain(label: str) -> str:
    """Return a label short enough for a legend, and not hidden from it by its first character."""
    short = label if len(label) <= 24 else f"{label[:23]}…"
    return short.lstrip("_") or "-"


def _finish(axes: Axes, *, x: str, y: str, legend: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.15)
    if legend:
        axes.legend(frameon=False, fontsize=9)


def _svg(draw: Callable[[Figure], None], name: str, *, size: tuple[float, float]) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    # Matplotlib's stubs know the names of its settings only as literals.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):  # type: ignore[dict-item]
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """Return the drawing alone: no prologue, ids of its own, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor")
    for number, colour in enumerate(SERIES, start=1):
        svg = svg.replace(colour, f"var(--series-{number})")
    width = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    size = f'style="max-width: {float(width[1]) * 4 / 3:.0f}px"' if width else ""
    return re.sub(r"<svg ", f'<svg aria-hidden="true" focusable="false" {size} ', svg, count=1)
