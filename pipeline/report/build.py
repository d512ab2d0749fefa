"""Writes the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.deploy.summary import run_uri
from pipeline.report.content import build_content
from pipeline.report.inputs import read_inputs
from pipeline.report.page import render_page
from pipeline.storage import Storage


def report_uri(workspace: str, evaluation_job: str) -> str:
    """Return where the report of an evaluation is."""
    return f"{workspace}/jobs/{evaluation_job}/report.html"


def write_report(
    storage: Storage,
    workspace: str,
    *,
    run_id: str,
    dataset: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    decision: Mapping[str, Any],
) -> str:
    """Build the report of a run from the results of its steps, and write it beside the evaluation.

    The run's own folder gets `evaluated.json`, which says where the report is, and what the gate said; the
    suspected labels are there as data too, for people to decide on.

    Returns:
        Its URI.
    """
    inputs = read_inputs(
        storage, run_id=run_id, dataset=dataset, training=training, evaluation=evaluation, decision=decision
    )
    uri = report_uri(workspace, evaluation["job"])
    content = build_content(inputs, storage, workspace)
    storage.write_bytes(uri, render_page(content).encode())
    issues = content["issues"] and {name: content["issues"][name] for name in ("examined", "count", "found")}
    folder = run_uri(workspace, dataset["classifier"]["name"], run_id)
    storage.write_json(
        f"{folder}/evaluated.json",
        {
            "run_id": run_id,
            "dataset": {name: dataset[name] for name in ("dataset", "version")},
            "evaluation_job": evaluation["job"],
            "accuracy": evaluation["candidate"]["accuracy"],
            "accepted": decision["accepted"],
            "reasons": list(decision["reasons"]),
            "report": uri,
            "label_issues": issues,
        },
    )
    return uri


def copy_report(storage: Storage, workspace: str, *, evaluation_job: str, model_uri: str) -> None:
    """Put the report beside the model, so that a version carries it."""
    storage.write_bytes(
        f"{model_uri}/graft/report.html", storage.read_bytes(report_uri(workspace, evaluation_job))
    )
