"""Deploys a version of a classifier, and publishes it once it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from graft.links import RUN_LINKS
from graft.operators.base import GraftOperator
from graft.operators.inputs import StepInput, read_step
from graft.operators.release import decided_by
from graft.operators.run_summary import finish_decided_run
from pipeline.artifacts.steps import (
    DatasetResult,
    EvaluateResult,
    GateResult,
    PublishResult,
    TrainResult,
    VersionResult,
)
from pipeline.config import Classifier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.types import JsonDict


class MLEngineDeployClassifierOperator(GraftOperator):
    """Put evaluation, lineage and card beside the model and deploy it under the run's own version name.

    Args:
        dataset: Result of the clean step.
        training: Result of the train step.
        evaluation: Result of the evaluate step.
        gate: Result of the gate step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "training", "evaluation", "gate")

    def __init__(
        self,
        *,
        dataset: StepInput,
        training: StepInput,
        evaluation: StepInput,
        gate: StepInput,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.training = training
        self.evaluation = evaluation
        self.gate = gate

    def perform(self, context: Context) -> VersionResult:
        """Return the version once it is READY."""
        from pipeline.deploy.version import deploy_version, version_name

        ti = context["ti"]
        dataset, training = read_step(DatasetResult, self.dataset), read_step(TrainResult, self.training)
        version = version_name(ti.dag_id, ti.run_id)
        description = self._record(ti.run_id, dataset, training)
        deployed = deploy_version(
            self.connect(),
            model=dataset.dataset,
            version=version,
            model_uri=training.model_uri,
            runtime_version=training.runtime_version,
            description=description,
            labels={"run": ti.run_id, "dataset": dataset.version, "job": training.job},
        )
        return VersionResult(
            model=dataset.dataset,
            version=version,
            state=deployed["state"],
            deployment_uri=training.model_uri,
        )

    def _record(self, run_id: str, dataset: DatasetResult, training: TrainResult) -> str:
        """Put lineage, evaluation, card and report beside the model; return the version's description."""
        from pipeline.backbones.table import find_backbone
        from pipeline.deploy.approval import check_approval
        from pipeline.deploy.lineage import build_lineage
        from pipeline.deploy.model_card import count_licences, model_card
        from pipeline.deploy.version import record_in_model
        from pipeline.evaluate.evaluation import read_evaluation
        from pipeline.evaluate.gate import GateDecision
        from pipeline.evaluate.report import metrics_line, verdict_line
        from pipeline.report.build import copy_report

        storage, workspace = self.workspace.storage, self.workspace.uri
        classifier = Classifier.from_dict(dataset.classifier)
        gate = read_step(GateResult, self.gate)
        evaluation = read_evaluation(storage, read_step(EvaluateResult, self.evaluation).uri)
        decision = GateDecision.from_dict(dict(gate.decision))
        approval = check_approval(storage, workspace, classifier, decision, run_id)
        lineage = build_lineage(
            classifier,
            run_id=run_id,
            dataset=dataset.to_dict(),
            training=training.to_dict(),
            evaluation=evaluation,
            decision=decision,
            approval=approval.to_dict() if approval else None,
        )
        card = model_card(
            classifier,
            lineage,
            evaluation,
            weights_license=find_backbone(classifier.model.backbone).license,
            licences=count_licences(storage, dataset.uri),
        )
        record_in_model(
            storage, training.model_uri, evaluation=evaluation.to_dict(), lineage=lineage, card=card
        )
        if gate.report is not None:
            copy_report(self.workspace, evaluation_job=evaluation.job, model_uri=training.model_uri)
        description = f"Run {run_id}: {metrics_line(evaluation.candidate)}; gate: {verdict_line(decision)}"
        return f"{description}; {approval.line}" if approval else description


class PublishModelOperator(GraftOperator):
    """Announce a version that serves: an asset event with the metrics, the run's summary and its note.

    Args:
        model: Name of the model, which is also the asset's.
        gate: Result of the gate step.
        version: Result of the create_version step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("gate", "version")
    operator_extra_links = RUN_LINKS  # type: ignore[misc]

    def __init__(self, *, model: str, gate: StepInput, version: StepInput, **arguments: Any) -> None:
        super().__init__(outlets=[model_asset(model)], **arguments)
        self.model = model
        self.gate = gate
        self.version = version

    def perform(self, context: Context) -> PublishResult:
        """Return where the summary is."""
        from pipeline.deploy.approval import find_approval
        from pipeline.evaluate.gate import GateDecision

        gate, version = read_step(GateResult, self.gate), read_step(VersionResult, self.version).version
        workspace = self.workspace
        approval = find_approval(workspace.storage, workspace.uri, self.model, context["ti"].run_id)
        summary: JsonDict = {**(gate.summary or {}), "version": version}
        context["outlet_events"][model_asset(self.model)].extra = {
            "version": version,
            "run_id": summary["run_id"],
            "dataset_version": summary["dataset"]["version"],
            "decided_by": decided_by(self, context, self.model, gate),
            **{name: summary["evaluation"][name] for name in ("accuracy", "loss", "test_pictures")},
        }
        decision = GateDecision.from_dict(dict(gate.decision))
        return PublishResult(
            summary=finish_decided_run(context, summary, decision, approval), version=version
        )


def model_asset(name: str) -> Asset:
    """Return the asset that stands for a classifier's served model."""
    return Asset(name=name, uri=f"graft://models/{name}", group="model")
