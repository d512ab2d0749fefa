"""`graft backup`, `graft restore`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.output import JsonOption, print_json, print_note, print_text


def backup(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A directory, or gs://bucket/prefix.")],
    secrets: Annotated[
        bool,
        typer.Option(
            "--secrets",
            help="Include tokens, passwords and keys: in a file of mode 0600, or encrypted with "
            "GRAFT_BACKUP_PASSPHRASE.",
        ),
    ] = False,
    without_bucket: Annotated[
        bool, typer.Option("--without-bucket", help="Leave out the objects of the workspace.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Back up databases, classifiers, settings and the bucket; the stack may run.

    Only what is new since the last backup to the same target is stored. An interrupted backup leaves the
    target as it was, and what it has stored is not stored again.
    """
    from pipeline.config import Settings
    from pipeline.stack.backup import back_up

    result = back_up(Settings(), target, print_note, with_secrets=secrets, with_bucket=not without_bucket)
    if as_json:
        print_json(result.to_dict())
        return
    print_text(
        f"Snapshot {result.snapshot} in {result.target}: {result.files} files, {result.bytes / 1e6:.1f} MB, "
        f"{result.files_read} of them read, in {result.seconds:.1f} s."
    )
    if not result.has_secrets:
        print_text("Without secrets: a restore elsewhere makes new tokens and passwords (`--secrets`).")


def restore(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="What `graft backup` wrote to.")],
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="SNAPSHOT", help="The name of a snapshot; the latest one by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the state of a backup that of GRAFT_HOME; nothing of the state before is deleted.

    Everything is fetched and checked first. A stack that runs is then stopped, gets the new state in one
    step, and is started again. An interrupted restore leaves the state before; run it again to go on.
    """
    from pipeline.config import Settings
    from pipeline.stack.restore import restore as bring_back

    result = bring_back(Settings(), source, print_note, name=snapshot)
    if as_json:
        print_json(result.to_dict())
        return
    print_text(f"{result.home} has the state of snapshot {result.snapshot}: {result.files} files.")
    for path in result.previous:
        print_text(f"  The state before is in {path}; delete it when you do not need it any more.")
    for name, value in result.settings.items():
        print_text(f"  The backup was made with {name}={value}")
    if not result.has_secrets:
        print_text("  The backup has no secrets: Airflow's stored connections must be entered again.")
    if not result.was_running:
        print_text("  Start it with `graft up`.")
