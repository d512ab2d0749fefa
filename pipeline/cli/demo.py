"""`graft demo`: the whole story on the pictures that come with Graft. `make demo` runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipeline.cli.connection import open_workspace
from pipeline.cli.output import print_note, print_text
from pipeline.cli.stack import ProfileOption, WorkersOption
from pipeline.cli.tables import print_table

if TYPE_CHECKING:
    from pipeline.artifacts.run_summary import RunSummary
    from pipeline.artifacts.workspace import Workspace
    from pipeline.config import Settings
    from pipeline.stack import StackStatus

CLASSIFIER = "surfaces"


def demo(profile: ProfileOption = None, workers: WorkersOption = None) -> None:
    """Start the stack, train and deploy the classifier `surfaces`, and ask it for predictions."""
    from pipeline.cli import run as runs
    from pipeline.cli.connection import connect_airflow, pages_url
    from pipeline.cli.run_result import print_result
    from pipeline.cli.stack import print_addresses
    from pipeline.config import Settings
    from pipeline.stack import up

    settings = Settings()
    status = up(settings, print_note, profile=profile, workers=workers)
    api = connect_airflow(status)
    run_id = runs.start_run(api, CLASSIFIER, {}, settings)
    result = runs.watch_run(api, CLASSIFIER, run_id, settings)
    print_text()
    print_result(result, pages_url(api.url))
    if result.summary is not None and result.version:
        print_text("  online predictions, one test picture of each class")
        _print_predictions(status, settings, result.summary)
    print_text()
    print_addresses(status)
    raise typer.Exit(result.exit_code)


def _print_predictions(status: StackStatus, settings: Settings, summary: RunSummary) -> None:
    from pipeline.bulk.answers import predict_pictures
    from pipeline.cli.connection import connect_engine

    pictures = pick_test_pictures(open_workspace(settings), CLASSIFIER, summary.dataset.version)
    answers = predict_pictures(connect_engine(status), CLASSIFIER, pictures, version=summary.version)
    rows = [(answer.file, answer.label, answer.score) for answer in answers]
    print_table(("picture of", "predicted", "score"), rows)


def pick_test_pictures(workspace: Workspace, dataset: str, version: str) -> dict[str, bytes]:
    """Return one picture of each class that no training has used, by label."""
    from pipeline.artifacts.manifest import Manifest

    blobs: dict[str, str] = {}
    folder = workspace.dataset(dataset).version(version)
    for row in Manifest(folder).rows(columns=("label", "blob", "split")):
        if row.split == "test":
            blobs.setdefault(row.label, row.blob)
    return {
        label: workspace.storage.read_bytes(workspace.blob(blob)) for label, blob in sorted(blobs.items())
    }
