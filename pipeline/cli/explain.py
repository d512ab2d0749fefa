"""`graft classify`, `graft layers`, `graft features`: look inside a network and behind a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.connection import connect_engine, require_stack
from pipeline.cli.output import JsonOption, NameArgument, UsageError, print_json, print_table, print_text

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
ThemeOption = Annotated[str, typer.Option(help="`light` or `dark`: of the figure.")]
VersionOption = Annotated[str | None, typer.Option(help="Ask this version instead of the default one.")]


def classify(
    files: FilesArgument,
    backbone: BackboneOption = "efficientnet_lite0",
    weights: WeightsOption = "imagenet",
    as_json: JsonOption = False,
) -> None:
    """Classify pictures by a network as ImageNet trained it. Needs no stack."""
    from pipeline import explain

    found = explain.classify(files, backbone=backbone, weights=weights)
    if as_json:
        print_json(found)
        return
    for picture in found:
        print_text(picture["file"])
        print_table(("label", "score"), [(row["label"], row["score"]) for row in picture["top"]])


def layers(backbone: BackboneArgument, as_json: JsonOption = False) -> None:
    """List the layers of a network; a new head is put on the one named `pooled`."""
    from pipeline import explain

    found = explain.layers(backbone)
    if as_json:
        print_json(found)
        return
    columns = ("index", "name", "type", "output_shape", "parameters")
    print_table(columns, [[_cell(row[column]) for column in columns] for row in found])
    pooled = next(row for row in found if row["name"] == "pooled")
    width = pooled["output_shape"][-1]
    print_text(f"The pooled layer is number {pooled['index']}: a new head is put on its {width} features.")


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " x ".join("n" if length is None else str(length) for length in value)
    return value


def features(
    name: NameArgument,
    file: FileArgument,
    out: OutOption = None,
    theme: ThemeOption = "light",
    version: VersionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what lies behind a prediction: features, channels, the training pictures most alike, the map."""
    from pipeline import explain
    from pipeline.config import Settings
    from pipeline.explain.figure import FORMATS, THEMES, draw_features, save_figure
    from pipeline.storage import Storage

    if out and out.suffix[1:] not in FORMATS:
        raise UsageError(f"--out wants a .png or .svg file. Received: {out}")
    if theme not in THEMES:
        raise UsageError(f"--theme is one of {', '.join(THEMES)}. Received: {theme!r}")
    storage, workspace = Storage.from_environment(), Settings().workspace
    engine = connect_engine(require_stack())
    found = explain.features(name, file, engine=engine, storage=storage, workspace=workspace, version=version)
    if out:
        figure = draw_features(found, file.read_bytes(), storage, workspace, theme=theme)
        out.write_bytes(save_figure(figure, out.suffix[1:]))
    if as_json:
        print_json(found.to_dict())
        return
    print_features(found)
    if out:
        print_text(f"  figure: {out}")


def print_features(found: Any) -> None:
    """Print what lies behind a prediction, for people."""
    print_text(f"{found.file}: {found.label} ({found.score:.4f}) says {found.classifier} {found.version}")
    print_table(
        ("channel", "value", "lit most by training pictures of"),
        [
            (row["channel"], row["value"], ", ".join(picture["label"] for picture in row["pictures"]))
            for row in found.channels
        ],
    )
    print_table(
        ("most alike", "label", "cosine"),
        [(row["source"].rpartition("/")[2], row["label"], row["cosine"]) for row in found.neighbours],
    )
