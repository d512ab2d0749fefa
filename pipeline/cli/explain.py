"""`graft classify`, `graft layers`, `graft features`: look inside a network and behind a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import JsonOption, NameArgument, UsageError, print_json, print_text
from pipeline.cli.tables import WideOption, print_table

if TYPE_CHECKING:
    from pipeline.explain import Explanation

BackboneOption = Annotated[str, typer.Option(metavar="B", help="A network of the backbone table.")]
WeightsOption = Annotated[
    str, typer.Option(metavar="PATH", help="`imagenet`, or a Keras .h5 file with its classifier layer.")
]
FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures.")]
BackboneArgument = Annotated[str, typer.Argument(metavar="BACKBONE", help="A network of the backbone table.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A picture.")]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the figure here, as .png or .svg.")
]
ThemeOption = Annotated[str, typer.Option(metavar="THEME", help="`light` or `dark`: of the figure.")]
VersionOption = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Ask this version instead of the default one.")
]


def classify(
    files: FilesArgument,
    backbone: BackboneOption = "efficientnet_lite0",
    weights: WeightsOption = "imagenet",
    as_json: JsonOption = False,
) -> None:
    """Classify pictures by a network as ImageNet trained it. Needs no stack."""
    from pipeline import explain

    pictures = explain.classify(files, backbone=backbone, weights=weights)
    if as_json:
        print_json([picture.to_dict() for picture in pictures])
        return
    for picture in pictures:
        print_text(picture.file)
        print_table(("label", "score"), [(each.label, each.score) for each in picture.top])


def layers(backbone: BackboneArgument, wide: WideOption = False, as_json: JsonOption = False) -> None:
    """List the layers of a network; a new head is put on the one named `pooled`."""
    from pipeline import explain
    from pipeline.explain.network import POOLED

    network = explain.layers(backbone)
    if as_json:
        print_json([layer.to_dict() for layer in network])
        return
    print_table(
        ("index", "name", "type", "output_shape", "parameters"),
        [(each.index, each.name, each.type, _shape(each.output_shape), each.parameters) for each in network],
        wide=wide,
    )
    pooled = next(layer for layer in network if layer.name == POOLED)
    width = pooled.output_shape[-1]
    print_text(f"The pooled layer is number {pooled.index}: a new head is put on its {width} features.")


def _shape(lengths: Sequence[int | None]) -> str:
    return " x ".join("n" if length is None else str(length) for length in lengths)


def features(
    name: NameArgument,
    file: FileArgument,
    out: OutOption = None,
    theme: ThemeOption = "light",
    version: VersionOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Explain a prediction: features, channels, most similar training pictures, class-activation map."""
    from pipeline.explain import explain_file
    from pipeline.explain.figure import FORMATS, THEMES, draw_explanation, save_figure

    if out and out.suffix[1:] not in FORMATS:
        raise UsageError(f"--out must end with .png or .svg. Received: {out}")
    if theme not in THEMES:
        raise UsageError(f"--theme is one of {', '.join(THEMES)}. Received: {theme!r}")
    workspace = open_workspace()
    explanation = explain_file(workspace, connect_engine(require_stack()), name, file, version=version)
    if out:
        figure = draw_explanation(workspace, explanation, file.read_bytes(), theme=theme)
        out.write_bytes(save_figure(figure, out.suffix[1:]))
    if as_json:
        print_json(explanation.to_dict())
        return
    print_explanation(explanation, wide=wide)
    if out:
        print_text(f"  figure: {out}")


def print_explanation(explanation: Explanation, *, wide: bool = False) -> None:
    """Print the explanation of a prediction as text."""
    print_text(str(explanation))
    print_table(
        ("channel", "value", "lit most by training pictures of"),
        [
            (channel.number, channel.share, ", ".join(row.label for row, _ in channel.pictures))
            for channel in explanation.channels
        ],
        wide=wide,
    )
    print_table(
        ("most alike", "label", "cosine"),
        [
            (near.row.source_url.rpartition("/")[2], near.row.label, near.cosine)
            for near in explanation.neighbours
        ],
        wide=wide,
    )
