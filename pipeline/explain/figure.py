"""The figure of one prediction: picture, class-activation map, features, what lights the same channels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.explain.prediction import NUM_NEIGHBOURS, NUM_PICTURES, Features

if TYPE_CHECKING:
    from pipeline.storage import Storage

FORMATS = ("png", "svg")
THEMES = {
    "light": {"page": "#ffffff", "ink": "#1b1f24", "line": "#0a58ca", "mark": "#b35900"},
    "dark": {"page": "#0f1318", "ink": "#e8ecf1", "line": "#7db4ff", "mark": "#ffb366"},
}
_SIDE = 224


def draw_features(
    found: Features, picture: bytes, storage: Storage, workspace: str, *, theme: str = "light"
) -> Any:
    """Return a matplotlib figure of one prediction.

    Args:
        found: What lies behind it.
        picture: The picture's bytes.
        storage: Where the training pictures are.
        workspace: URI of their bucket.
        theme: `light` or `dark`; the page is painted, so either reads on any background.

    Raises:
        ConfigError: for an unknown theme.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if theme not in THEMES:
        raise ConfigError(f"A theme is one of {', '.join(THEMES)}. Received: {theme!r}")
    with mpl.rc_context(_style(THEMES[theme])):
        figure = Figure(figsize=(11, 9.6), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        parts: Any = figure.subfigures(3, 1, height_ratios=(1.25, 1, 2.2))
        top, middle, bottom = parts
        _draw_answer(top, found, picture)
        _draw_vector(middle, found, THEMES[theme])
        _draw_pictures(bottom, found, _Pictures(storage, workspace))
    return figure


def save_figure(figure: Any, format: str) -> bytes:
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


class _Pictures:
    """Training pictures, small, by the digest of their bytes."""

    def __init__(self, storage: Storage, workspace: str) -> None:
        self._storage, self._workspace = storage, workspace

    def __call__(self, blob: str) -> Any:
        return _small(self._storage.read_bytes(f"{self._workspace}/blobs/{blob}"))


def _style(colours: dict[str, str]) -> dict[Any, Any]:
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


def _draw_answer(part: Any, found: Features, picture: bytes) -> None:
    from pipeline.explain.thumbnails import overlay_activation

    image = _small(picture)
    plain, heated, bars = part.subplots(1, 3, width_ratios=(1, 1, 1.6))
    _show(plain, image, _short(found.file.rpartition("/")[2], 34))
    _show(heated, overlay_activation(image, found.activation), f"what spoke for {_short(found.label, 20)}")
    best = sorted(found.outputs.items(), key=lambda item: -item[1])[:6][::-1]
    bars.barh([_short(label, 24) for label, _ in best], [score for _, score in best], color="#7a8699")
    for row, (_, score) in enumerate(best):
        bars.text(min(score, 0.86) + 0.01, row, f"{score:.3f}", va="center")
    bars.set(xlim=(0, 1), xlabel="probability", title=f"{_short(found.classifier, 24)} {found.version}")


def _draw_vector(part: Any, found: Features, colours: dict[str, str]) -> None:
    axes = part.subplots()
    axes.plot(range(len(found.values)), found.values, color=colours["line"], linewidth=0.7, label="features")
    strongest = [channel["channel"] for channel in found.channels]
    heights = [channel["value"] for channel in found.channels]
    axes.plot(strongest, heights, "o", color=colours["mark"], markersize=5, label="strongest channels")
    axes.set(
        xlabel="channel of the pooled features",
        ylabel="share of the strongest",
        xlim=(-5, len(found.values) + 4),
        ylim=(0, 1.08),
    )
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)


def _draw_pictures(part: Any, found: Features, read: _Pictures) -> None:
    left, right = part.subfigures(1, 2, width_ratios=(3, 1.15))
    left.suptitle("training pictures that light the strongest channels", fontsize=10)
    right.suptitle("most alike", fontsize=10)
    columns = [
        (f"channel {channel['channel']}", [(row["blob"], row["label"]) for row in channel["pictures"]])
        for channel in found.channels
    ]
    _grid(left, columns, NUM_PICTURES, read)
    near = [(row["blob"], f"{_short(row['label'], 12)} {row['cosine']:.2f}") for row in found.neighbours]
    half = -(-NUM_NEIGHBOURS // 2)
    _grid(right, [("", near[:half]), ("", near[half:])], half, read)


def _grid(
    part: Any, columns: Sequence[tuple[str, Sequence[tuple[str, str]]]], rows: int, read: _Pictures
) -> None:
    grid = part.subplots(rows, len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns):
        for row in range(rows):
            axes = grid[row][column]
            axes.set_axis_off()
            if row < len(pictures):
                blob, label = pictures[row]
                _show(
                    axes,
                    read(blob),
                    f"{title}\n{_short(label, 16)}" if title and not row else _short(label, 16),
                )


def _show(axes: Any, image: Any, title: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)


def _small(data: bytes) -> Any:
    from PIL import Image

    from pipeline.pixels.host import decode_picture

    image = Image.fromarray(decode_picture(data))
    image.thumbnail((_SIDE, _SIDE))
    return image


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
