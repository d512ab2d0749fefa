"""The figure of one prediction: picture, class-activation map, features, training pictures behind it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.explain.explanation import NUM_NEIGHBOURS, NUM_PICTURES, Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from PIL.Image import Image

    from pipeline.artifacts.workspace import Workspace

FORMATS = ("png", "svg")
THEMES = {
    "light": {"page": "#ffffff", "ink": "#1b1f24", "line": "#0a58ca", "mark": "#b35900"},
    "dark": {"page": "#0f1318", "ink": "#e8ecf1", "line": "#7db4ff", "mark": "#ffb366"},
}
_SIDE = 224


def draw_explanation(
    workspace: Workspace, explanation: Explanation, picture: bytes, *, theme: str = "light"
) -> Figure:
    """Return a matplotlib figure of one prediction.

    Args:
        workspace: Where the training pictures are.
        explanation: The explanation of the prediction.
        picture: The picture's bytes.
        theme: `light` or `dark`; the page is painted, so either reads on any background.

    Raises:
        ConfigError: for an unknown theme.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if theme not in THEMES:
        raise ConfigError(f"A theme is one of {', '.join(THEMES)}. Received: {theme!r}")
    # Matplotlib's stubs know the names of its settings only as literals.
    with mpl.rc_context(_style(THEMES[theme])):  # type: ignore[arg-type]
        figure = Figure(figsize=(11, 9.6), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        rows = figure.subfigures(3, 1, height_ratios=(1.25, 1, 2.2), squeeze=False)
        top, middle, bottom = rows[:, 0]
        _draw_answer(top, explanation, picture)
        _draw_vector(middle, explanation, THEMES[theme])
        _draw_pictures(bottom, explanation, workspace)
    return figure


def save_figure(figure: Figure, format: str) -> bytes:
    """Return a figure as a PNG or SVG file.

    Raises:
        ConfigError: for another format.
    """
    import matplotlib as mpl

    if format not in FORMATS:
        raise ConfigError(f"A figure is written as .png or .svg. Received: {format!r}")
    buffer = io.BytesIO()
    metadata = {"Date": None} if format == "svg" else None
    with mpl.rc_context({"svg.hashsalt": "features"}):
        figure.savefig(buffer, format=format, dpi=110, metadata=metadata)
    return buffer.getvalue()


def _style(colours: dict[str, str]) -> dict[str, float | str | bool]:
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    paper = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        "font.size": 10,
        "text.parse_math": False,  # labels are text
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(inked, colours["ink"]),
        **dict.fromkeys(paper, colours["page"]),
    }


def _draw_answer(part: SubFigure, explanation: Explanation, picture: bytes) -> None:
    from pipeline.explain.activation import overlay_activation
    from pipeline.explain.thumbnails import shrink_picture

    image = shrink_picture(picture, _SIDE)
    plain, heated, bars = part.subplots(1, 3, width_ratios=(1, 1, 1.6))
    _show(plain, image, _short(explanation.file.rpartition("/")[2], 34))
    title = f"what spoke for {_short(explanation.label, 20)}"
    _show(heated, overlay_activation(image, explanation.activation), title)
    best = sorted(explanation.outputs.items(), key=lambda item: -item[1])[:6][::-1]
    bars.barh([_short(label, 24) for label, _ in best], [score for _, score in best], color="#7a8699")
    for row, (_, score) in enumerate(best):
        bars.text(min(score, 0.86) + 0.01, row, f"{score:.3f}", va="center")
    title = f"{_short(explanation.classifier, 24)} {explanation.version}"
    bars.set(xlim=(0, 1), xlabel="probability", title=title)


def _draw_vector(part: SubFigure, explanation: Explanation, colours: dict[str, str]) -> None:
    axes, values = part.subplots(), explanation.values
    axes.plot(range(len(values)), values, color=colours["line"], linewidth=0.7, label="features")
    strongest = [channel.number for channel in explanation.channels]
    heights = [channel.share for channel in explanation.channels]
    axes.plot(strongest, heights, "o", color=colours["mark"], markersize=5, label="strongest channels")
    axes.set(
        xlabel="channel of the pooled features",
        ylabel="share of the strongest",
        xlim=(-5, len(values) + 4),
        ylim=(0, 1.08),
    )
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


@dataclass(frozen=True, slots=True)
class _Captioned:
    """A training picture, by the digest of its file, and the text above it."""

    blob: str
    caption: str


def _draw_pictures(part: SubFigure, explanation: Explanation, workspace: Workspace) -> None:
    left, right = part.subfigures(1, 2, width_ratios=(3, 1.15), squeeze=False)[0]
    left.suptitle("training pictures that light the strongest channels", fontsize=10)
    right.suptitle("most alike", fontsize=10)
    columns = []
    for channel in explanation.channels:
        column = [_Captioned(row.blob, _short(row.label, 16)) for row, _ in channel.pictures]
        if column:
            column[0] = _Captioned(column[0].blob, f"channel {channel.number}\n{column[0].caption}")
        columns.append(column)
    _grid(left, columns, NUM_PICTURES, workspace)
    near = [
        _Captioned(each.row.blob, f"{_short(each.row.label, 12)} {each.cosine:.2f}")
        for each in explanation.neighbours
    ]
    half = -(-NUM_NEIGHBOURS // 2)
    _grid(right, [near[:half], near[half:]], half, workspace)


def _grid(
    part: SubFigure, columns: Sequence[Sequence[_Captioned]], num_rows: int, workspace: Workspace
) -> None:
    from pipeline.explain.thumbnails import shrink_picture

    grid = part.subplots(num_rows, len(columns), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, pictures in enumerate(columns):
        for row, picture in enumerate(pictures[:num_rows]):
            data = workspace.storage.read_bytes(workspace.blob(picture.blob))
            _show(grid[row][number], shrink_picture(data, _SIDE), picture.caption)


def _show(axes: Axes, image: Image, title: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
