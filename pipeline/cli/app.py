"""The commands, their order in `--help`, and how errors become exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from pipeline.cli import (
    backup,
    compare,
    dataset,
    demo,
    doctor,
    engine,
    explain,
    export,
    lineage,
    logs,
    open,
    predict,
    preview,
    ray,
    rollback,
    run,
    stack,
    versions,
)
from pipeline.cli.help import Command, Group
from pipeline.cli.output import EXIT_CODES, ExitCode, UsageError, print_json, print_note
from pipeline.errors import PipelineError

EXIT_CODE_HELP = "; ".join(f"{code.value} {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="graft",
    cls=Group,
    help="Graft a new head onto a trained image network, and keep the result in production.",
    epilog=f"Exit codes: {EXIT_CODE_HELP}.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    stack.up,
    stack.join,
    stack.down,
    stack.status,
    preview.init,
    run.run,
    compare.compare,
    logs.logs,
    open.open_page,
    predict.predict,
    export.export,
    versions.versions,
    rollback.rollback,
    rollback.history,
    lineage.lineage,
    lineage.reproduce,
    explain.classify,
    explain.layers,
    explain.features,
    doctor.doctor,
    backup.backup,
    backup.restore,
    demo.demo,
):
    app.command(name=command.__name__.removesuffix("_page"), cls=Command)(command)
dataset.dataset.command(cls=Command)(preview.preview)
app.add_typer(dataset.dataset)
app.add_typer(engine.engine)
app.add_typer(ray.ray)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `graft`; always ends with SystemExit.

    Args:
        arguments: The command line without the program's name; that of the process by default.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(arguments, prog_name="graft")
    except PipelineError as error:
        print_note(f"graft: {error}")
        if "--json" in arguments:
            print_json({"error": {"type": type(error).__name__, "message": str(error)}})
        sys.exit(ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.ERROR)
    except SystemExit as ended:
        if ended.code == ExitCode.USAGE and "--json" in arguments:
            print_json({"error": {"type": "UsageError", "message": "bad command line; stderr says what"}})
        raise
