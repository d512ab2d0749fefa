"""Writes the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

    Returns:
        Its URI.
    """
    inputs = read_inputs(
        storage, run_id=run_id, dataset=dataset, training=training, evaluation=evaluation, decision=decision
    )
    uri = report_uri(workspace, evaluation["job"])
    storage.write_bytes(uri, render_page(build_content(inputs, storage, workspace)).encode())
    return uri


def copy_report(storage: Storage, workspace: str, *, evaluation_job: str, model_uri: str) -> None:
    """Put the report beside the model, so that a version carries it."""
    storage.write_bytes(
        f"{model_uri}/graft/report.html", storage.read_bytes(report_uri(workspace, evaluation_job))
    )
