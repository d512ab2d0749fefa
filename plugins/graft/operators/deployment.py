"""Deploys a version of a classifier, and publishes it once it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from graft.links import RUN_LINKS
from graft.operators.base import GraftOperator
from graft.operators.inputs import StepInput, read_judged_gate, read_step
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
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context


class MLEngineDeployClassifierOperator(GraftOperator):
    """Put evaluation, lineage and card beside the model and deploy it under the run's own version name.

    A version that the gate refused, or that waits for a person's approval, is an error.

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
        state = deploy_version(
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
            state=state,
            deployment_uri=training.model_uri,
        )

    def _record(self, run_id: str, dataset: DatasetResult, training: TrainResult) -> str:
        """Put lineage, evaluation, card and report beside the model; return the version's description."""
        from pipeline.artifacts.evaluation import Evaluation
        from pipeline.artifacts.folders import DatasetVersionFolder, ModelDirectory
        from pipeline.artifacts.model_record import DatasetReference, TrainingReference
        from pipeline.deploy.approval import check_deployment
        from pipeline.deploy.lineage import build_lineage
        from pipeline.deploy.model_card import count_licences, model_card, read_cross_validation
        from pipeline.deploy.version import record_in_model
        from pipeline.evaluate.report import metrics_line, verdict_line
        from pipeline.report.build import copy_report
        from pipeline.submission.backbone import weights_license

        storage = self.workspace.storage
        classifier = Classifier.from_dict(dataset.classifier)
        gate = read_step(GateResult, self.gate)
        evaluation = Evaluation.read(storage, read_step(EvaluateResult, self.evaluation).uri)
        approval = check_deployment(self.workspace, classifier, gate.decision, run_id)
        lineage = build_lineage(
            classifier,
            run_id=run_id,
            dataset=DatasetReference.from_dict(dataset.to_dict()),
            training=TrainingReference.from_dict(training.to_dict()),
            evaluation=evaluation,
            decision=gate.decision,
            approval=approval,
        )
        card = model_card(
            classifier,
            lineage,
            evaluation,
            weights_license=weights_license(classifier.model),
            licences=count_licences(DatasetVersionFolder(storage, dataset.uri)),
            cross_validation=read_cross_validation(ModelDirectory(storage, training.model_uri).job),
        )
        record_in_model(
            ModelDirectory(storage, training.model_uri), evaluation=evaluation, lineage=lineage, card=card
        )
        if gate.report is not None:
            copy_report(self.workspace, evaluation_job=evaluation.job, model_uri=training.model_uri)
        description = (
            f"Run {run_id}: {metrics_line(evaluation.candidate)}; gate: {verdict_line(gate.decision)}"
        )
        return f"{description}; {approval.line}" if approval else description


class PublishModelOperator(GraftOperator):
    """Announce a version that serves: an asset event with the metrics, the run's summary and its note.

    Args:
        model: Name of the model, which is also the asset's.
        gate: Result of the gate step.
        version: Result of the create_version step.
        smoke_test: Result of the smoke test, which judged the gate's rule on the latency.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("gate", "version", "smoke_test")
    operator_extra_links = RUN_LINKS  # type: ignore[misc]

    def __init__(
        self,
        *,
        model: str,
        gate: StepInput,
        version: StepInput,
        smoke_test: StepInput | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(outlets=[model_asset(model)], **arguments)
        self.model = model
        self.gate = gate
        self.version = version
        self.smoke_test = smoke_test

    def perform(self, context: Context) -> PublishResult:
        """Return where the summary is."""
        from pipeline.artifacts.model_record import decided_by
        from pipeline.deploy.approval import find_approval

        gate = read_judged_gate(self.gate, self.smoke_test)
        version = read_step(VersionResult, self.version).version
        if gate.summary is None:
            raise ConfigError(f"{self.task_id}: the gate has no summary; give the gate its run's results.")
        approval = find_approval(self.workspace, self.model, context["ti"].run_id)
        summary, metrics = replace(gate.summary, version=version), gate.decision.metrics
        context["outlet_events"][model_asset(self.model)].extra = {
            "version": version,
            "run_id": summary.run_id,
            "dataset_version": summary.dataset.version,
            "decided_by": decided_by(gate.decision, approval),
            "accuracy": metrics.accuracy,
            "loss": metrics.loss,
            "test_pictures": metrics.test_pictures,
        }
        uri = finish_decided_run(context, summary, gate.decision, approval)
        return PublishResult(summary=uri, version=version)


def model_asset(name: str) -> Asset:
    """Return the asset that stands for a classifier's served model."""
    return Asset(name=name, uri=f"graft://models/{name}", group="model")
