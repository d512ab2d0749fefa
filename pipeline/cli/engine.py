"""`graft engine`: look after the engine's database."""

from __future__ import annotations

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.help import Command, Group
from pipeline.cli.output import ExitCode, JsonOption, print_json, print_note, print_text

engine = typer.Typer(name="engine", cls=Group, help="Look after the engine's database.", no_args_is_help=True)


@engine.command(cls=Command)
def rebuild(as_json: JsonOption = False) -> None:
    """Register the models and versions of the workspace again, after the engine's database was lost."""
    from pipeline.deploy.rebuild import rebuild_engine
    from pipeline.deploy.staging import is_staging

    models = []
    for model in rebuild_engine(open_workspace(), connect_engine(require_stack())):
        if is_staging(model.model):
            continue
        models.append(model)
        print_note(f"{model.model}: {len(model.registered)} versions registered, {len(model.kept)} known")
    if as_json:
        print_json({"models": [model.to_dict() for model in models]})
    for model in models if not as_json else []:
        instead = f" instead of {model.lost_default}, which served last" if model.lost_default else ""
        print_text(f"{model.model} serves {model.default or 'nothing'}{instead}.")
        for version, reason in model.failed.items():
            print_text(f"  {version} is not registered, and its files are untouched: {reason}")
        for problem in model.damaged:
            print_text(f"  The history is not whole, so look whether the right version serves: {problem}")
    if not models and not as_json:
        print_text("The workspace holds no model.")
    is_whole = not any(model.failed or model.lost_default or model.damaged for model in models)
    raise typer.Exit(ExitCode.OK if is_whole else ExitCode.ERROR)
