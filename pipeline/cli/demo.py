"""`graft demo`: the whole story on the pictures that come with Graft. `make demo` runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from pipeline.cli.output import print_note, print_table, print_text

if TYPE_CHECKING:
    from pipeline.config import Settings
    from pipeline.storage import Storage

CLASSIFIER = "surfaces"


def demo() -> None:
    """Start the stack, train and deploy the classifier `surfaces`, and ask it for predictions."""
    from pipeline.cli import run as runs
    from pipeline.cli.stack import print_addresses
    from pipeline.config import Settings
    from pipeline.stack import up

    settings = Settings()
    status = up(settings, print_note)
    api = runs.connect_airflow(status)
    run_id = runs.start_run(api, CLASSIFIER, {}, settings)
    result = runs.watch_run(api, CLASSIFIER, run_id, settings)
    print_text()
    runs.print_result(result)
    if result["version"]:
        print_text("  online predictions, one test picture of each class")
        _print_predictions(status, settings, result)
    print_text()
    print_addresses(status)
    raise typer.Exit(runs.exit_code(result))


def _print_predictions(status: dict[str, Any], settings: Settings, result: dict[str, Any]) -> None:
    from pipeline.cli.predict import connect_engine, predict_pictures
    from pipeline.storage import Storage

    pictures = pick_test_pictures(
        Storage.from_environment(), settings.workspace, CLASSIFIER, result["dataset"]["version"]
    )
    answers = predict_pictures(connect_engine(status), CLASSIFIER, pictures, version=result["version"])
    rows = [(answer["file"], answer["label"], answer["score"]) for answer in answers]
    print_table(("picture of", "predicted", "score"), rows)


def pick_test_pictures(storage: Storage, workspace: str, dataset: str, version: str) -> dict[str, bytes]:
    """Return one picture of each class that no training has seen, by label."""
    manifest = storage.read_bytes(f"{workspace}/datasets/{dataset}/{version}/manifest.jsonl")
    rows = [json.loads(line) for line in manifest.splitlines() if line.strip()]
    picked: dict[str, str] = {}
    for row in rows:
        if row["status"] == "kept" and row["split"] == "test":
            picked.setdefault(row["label"], row["blob"])
    return {label: storage.read_bytes(f"{workspace}/blobs/{blob}") for label, blob in sorted(picked.items())}
