"""`graft export`: a version as a zip that programs outside of Graft load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.bulk.answers import find_version
from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import JsonOption, NameArgument, UsageError, print_json, print_text
from pipeline.export.formats import ExportFormat

FormatOption = Annotated[
    ExportFormat,
    typer.Option("--format", metavar="FORMAT", help="`tflite`, `onnx`, `keras` or `savedmodel`."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The zip to write; NAME-VERSION-FORMAT.zip here by default."),
]
VersionOption = Annotated[
    str | None, typer.Option(metavar="VERSION", help="This version instead of the default one.")
]


def export(
    name: NameArgument,
    format: FormatOption = ExportFormat.TFLITE,
    version: VersionOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version as a zip with labels, pixels, model card and a program that predicts a picture."""
    from pipeline.export.archive import export_version

    version = version or find_version(connect_engine(require_stack()), name)
    file = out or Path(f"{name}-{version}-{format.value}.zip")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--out: there is no directory {file.absolute().parent}; make it first.")
    made = export_version(open_workspace(), model=name, version=version, format=format, file=file)
    value = {
        "file": str(made.file),
        "version": version,
        "format": made.format.value,
        "bytes": made.num_bytes,
        "largest_difference": made.largest_difference,
    }
    if as_json:
        print_json(value)
    else:
        print_text(
            f"{made.file} ({made.num_bytes / 1e6:.1f} MB): {name} {version}, equal to what is served to "
            f"{made.largest_difference:.0e} of a probability. Its README.md says how to load it."
        )
