"""Steps 8 to 11: deploy the version, test it in place, give it the traffic, tell everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from graft.links import RUN_LINKS
from graft.operators.base import GraftOperator
from graft.operators.run_summary import finish_run, skip_what_follows
from pipeline.config import Classifier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.deploy.approval import Approval
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

    def __init__(self, *, dataset: Any, training: Any, evaluation: Any, gate: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.training = training
        self.evaluation = evaluation
        self.gate = gate

    def perform(self, context: Context) -> dict[str, Any]:
        """Return the version's name once it is READY."""
        from pipeline.backbones.table import find_backbone
        from pipeline.deploy.approval import check_approval
        from pipeline.deploy.lineage import build_lineage
        from pipeline.deploy.model_card import count_licences, model_card
        from pipeline.deploy.version import deploy_version, record_in_model, version_name
        from pipeline.evaluate.evaluation import read_evaluation
        from pipeline.evaluate.gate import GateDecision
        from pipeline.evaluate.report import metrics_line, verdict_line
        from pipeline.report.build import copy_report

        run_id = context["ti"].run_id
        classifier = Classifier.from_dict(self.dataset["classifier"])
        evaluation = read_evaluation(self.workspace.storage, self.evaluation["uri"])
        decision = GateDecision.from_dict(self.gate["decision"])
        approval = check_approval(self.workspace.storage, self.workspace.uri, classifier, decision, run_id)
        lineage = build_lineage(
            classifier,
            run_id=run_id,
            dataset=self.dataset,
            training=self.training,
            evaluation=evaluation,
            decision=decision,
            approval=approval.to_dict() if approval else None,
        )
        model_uri = self.training["model_uri"]
        record_in_model(
            self.workspace.storage,
            model_uri,
            evaluation=evaluation.to_dict(),
            lineage=lineage,
            card=model_card(
                classifier,
                lineage,
                evaluation,
                weights_license=find_backbone(classifier.model.backbone).license,
                licences=count_licences(self.workspace.storage, self.dataset["uri"]),
            ),
        )
        copy_report(self.workspace, evaluation_job=evaluation.job, model_uri=model_uri)
        version = deploy_version(
            self.connect(),
            model=classifier.name,
            version=version_name(context["ti"].dag_id, run_id),
            model_uri=model_uri,
            runtime_version=self.training["runtime_version"],
            description=f"Run {run_id}: {metrics_line(evaluation.candidate)}; gate: {verdict_line(decision)}"
            + (f"; {approval.line}" if approval else ""),
            labels={"run": run_id, "dataset": self.dataset["version"], "job": self.training["job"]},
        )
        return {
            "model": classifier.name,
            "version": version_name(context["ti"].dag_id, run_id),
            "state": version["state"],
            "deployment_uri": model_uri,
        }


class MLEngineSmokeTestVersionOperator(GraftOperator):
    """Predict golden test pictures online; a version that answers otherwise than evaluated is deleted.

    Args:
        dataset: Result of the clean step.
        evaluation: Result of the evaluate step.
        version: Result of the create_version step.
        latency_budget_seconds: The longest that one picture may take.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "evaluation", "version")

    def __init__(
        self,
        *,
        dataset: Any,
        evaluation: Any,
        version: Any,
        latency_budget_seconds: float = 10.0,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.evaluation = evaluation
        self.version = version
        self.latency_budget_seconds = latency_budget_seconds

    def perform(self, context: Context) -> dict[str, Any]:
        """Return how near the online answers are and how fast they came."""
        from pipeline.deploy.smoke_test import read_golden_instances, smoke_test_or_delete
        from pipeline.evaluate.predictions import join_predictions, read_predictions, read_test_labels

        storage, gate = self.workspace.storage, Classifier.from_dict(self.dataset["classifier"]).gate
        labels = read_test_labels(storage, self.dataset["uri"])
        tests = storage.read_json(self.dataset["pack_index"])["tests"]
        rows = read_predictions(storage, self.evaluation["predictions"])
        result = smoke_test_or_delete(
            self.connect(),
            model=self.version["model"],
            version=self.version["version"],
            instances=read_golden_instances(storage, [test["uri"] for test in tests], labels),
            expected=join_predictions(rows, labels),
            latency_budget_seconds=self.latency_budget_seconds,
            p95_budget_ms=gate.latency_ms.p95 if gate.latency_ms else None,
        )
        return result.to_dict()


class MLEnginePromoteVersionOperator(GraftOperator):
    """Give the version the traffic if the default still is the champion it was compared with.

    Otherwise the version is deleted and the run ends `superseded`: green, with what follows skipped.

    Args:
        dataset: Result of the clean step.
        evaluation: Result of the evaluate step.
        gate: Result of the gate step.
        version: Result of the create_version step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "evaluation", "gate", "version")

    def __init__(self, *, dataset: Any, evaluation: Any, gate: Any, version: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.evaluation = evaluation
        self.gate = gate
        self.version = version

    def perform(self, context: Context) -> dict[str, Any]:
        """Return how the promotion ended and which version was default before."""
        from pipeline.artifacts.history import record_event
        from pipeline.deploy.approval import find_approval
        from pipeline.deploy.promote import Promotion, promote_version
        from pipeline.deploy.summary import RunState
        from pipeline.evaluate.gate import GateDecision

        model, version = self.version["model"], self.version["version"]
        champion = self.evaluation["champion_version"]
        promotion = promote_version(
            self.connect(),
            self.workspace.storage,
            self.workspace.uri,
            model=model,
            version=version,
            champion=champion,
        )
        approval = find_approval(self.workspace.storage, self.workspace.uri, model, context["ti"].run_id)
        event = {
            "event": str(promotion),
            "version": version,
            "previous": champion,
            "run_id": context["ti"].run_id,
            "dataset_version": self.dataset["version"],
            "accuracy": self.evaluation["candidate"]["accuracy"],
            "decided_by": decided_by(self.gate["decision"], approval),
        }
        record_event(self.workspace.storage, self.workspace.uri, model, event)
        result = {"promotion": str(promotion), "previous": champion}
        if promotion is Promotion.PROMOTED:
            return result
        summary = {**self.gate["summary"], "state": str(RunState.SUPERSEDED)}
        finish_run(self, context, summary, GateDecision.from_dict(self.gate["decision"]), approval)
        context["ti"].xcom_push(key="return_value", value=result)
        raise skip_what_follows(self)


class PublishModelOperator(GraftOperator):
    """Tell everybody: an asset event with the metrics, the run's summary and its note.

    Args:
        model: Name of the model, which is also the asset's.
        gate: Result of the gate step.
        version: Result of the create_version step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("gate", "version")
    operator_extra_links = RUN_LINKS  # type: ignore[misc]

    def __init__(self, *, model: str, gate: Any, version: Any, **arguments: Any) -> None:
        super().__init__(outlets=[model_asset(model)], **arguments)
        self.model = model
        self.gate = gate
        self.version = version

    def perform(self, context: Context) -> dict[str, Any]:
        """Return where the summary is."""
        from pipeline.deploy.approval import find_approval
        from pipeline.evaluate.gate import GateDecision

        approval = find_approval(self.workspace.storage, self.workspace.uri, self.model, context["ti"].run_id)
        summary = {**self.gate["summary"], "version": self.version["version"]}
        context["outlet_events"][model_asset(self.model)].extra = {
            "version": summary["version"],
            "run_id": summary["run_id"],
            "dataset_version": summary["dataset"]["version"],
            "decided_by": decided_by(self.gate["decision"], approval),
            **{name: summary["evaluation"][name] for name in ("accuracy", "loss", "test_pictures")},
        }
        uri = finish_run(self, context, summary, GateDecision.from_dict(self.gate["decision"]), approval)
        return {"summary": uri, "version": summary["version"]}


def decided_by(decision: JsonDict, approval: Approval | None) -> str:
    """Return who let the version through: the gate, the person who overrode it, or the one who approved."""
    override = decision.get("override")
    if approval is not None:
        return approval.by
    return str(override["by"]) if override else "gate"


def model_asset(name: str) -> Asset:
    """Return the asset that stands for a classifier's served model."""
    return Asset(name=name, uri=f"graft://models/{name}", group="model")
