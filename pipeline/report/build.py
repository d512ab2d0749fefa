"""Writes the report of a run."""

from __future__ import annotations

from pipeline.artifacts.evaluated_run import DatasetName, EvaluatedRun
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.steps import DatasetResult, TrainResult
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.report.content import build_content
from pipeline.report.gallery import Gallery
from pipeline.report.inputs import read_inputs
from pipeline.report.page import render_page


def write_report(
    workspace: Workspace,
    *,
    run_id: str,
    classifier: Classifier,
    dataset: DatasetResult,
    training: TrainResult,
    evaluation: Evaluation,
    decision: GateDecision,
) -> str:
    """Build the report of a run from the results of its steps, and write it beside the evaluation.

    The run's own folder gets `evaluated.json`, which says where the report is and what the gate decided; it
    holds the suspected labels as data, for people to decide on.

    Returns:
        Its URI.
    """
    inputs = read_inputs(
        workspace,
        run_id=run_id,
        classifier=classifier,
        dataset=dataset,
        training=training,
        evaluation=evaluation,
        decision=decision,
    )
    gallery = Gallery(workspace, inputs)
    report = workspace.job(evaluation.job).report
    workspace.storage.write_bytes(report, render_page(build_content(inputs, gallery)).encode())
    evaluated = EvaluatedRun(
        run_id=run_id,
        dataset=DatasetName(dataset=dataset.dataset, version=dataset.version),
        evaluation_job=evaluation.job,
        accuracy=evaluation.candidate.accuracy,
        accepted=decision.accepted,
        reasons=decision.reasons,
        report=report,
        label_issues=gallery.suspected_labels,
    )
    evaluated.write(workspace.storage, workspace.run(classifier.name, run_id).evaluated)
    return report


def copy_report(workspace: Workspace, *, evaluation_job: str, model_uri: str) -> None:
    """Put the report beside the model, so that a version carries it."""
    storage = workspace.storage
    page = storage.read_bytes(workspace.job(evaluation_job).report)
    storage.write_bytes(ModelDirectory(storage, model_uri).report, page)
