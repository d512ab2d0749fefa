"""Steps 5 and 6: evaluate what will be served, and decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graft.links import RUN_LINKS
from graft.operators.base import GraftOperator
from graft.operators.dataset import as_list
from graft.operators.jobs import MLEngineJobOperator, instance_key
from graft.operators.run_summary import finish_run, skip_what_follows
from pipeline.config import Classifier
from pipeline.errors import LabelMapMismatch
from pipeline.ml_v1 import RUNTIME_VERSION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.evaluate.champion import Champion
    from pipeline.ml_engine.resources import Job


class MLEngineEvaluateModelOperator(MLEngineJobOperator):
    """Let candidate and champion predict the same encoded test pictures in batch prediction jobs.

    The champion is the model's default version at this moment. Its job id is made from the version and the
    dataset version, so what it says of the same pictures is asked once and adopted by later runs.

    Args:
        dataset: Result of the clean step.
        training: Result of the train step.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "training")

    def __init__(self, *, dataset: Any, training: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.training = training

    def submit(self, context: Context) -> list[Job]:
        """Submit the candidate's job, and the champion's where there is one."""
        from pipeline.ml_engine.jobs import batch_prediction_job
        from pipeline.ml_engine.protocol import default_version

        name, version = self.dataset["dataset"], self.dataset["version"]
        index = self.workspace.storage.read_json(self.dataset["pack_index"])
        if index["classes"] != self.training["classes"]:
            raise LabelMapMismatch(
                f"The model was trained on {self.training['classes']}, the dataset has {index['classes']}."
            )
        inputs = [test["uri"] for test in index["tests"]]

        def make_body(job_id: str, **model: str) -> Job:
            return batch_prediction_job(
                job_id,
                input_uris=inputs,
                output_path=f"{self.workspace.uri}/jobs/{job_id}/predictions",
                runtime_version=RUNTIME_VERSION,
                labels={"classifier": name, "step": "evaluate"},
                **model,
            )

        model_uri = self.training["model_uri"]
        self.own(context)
        candidate = self.submit_once(
            (*instance_key(context), model_uri),
            lambda job_id: make_body(job_id, model_uri=model_uri, signature_name="explained"),
        )
        champion = default_version(self.connect().get_model(name))
        if champion is None or self._labels_of(champion) is None:  # who could join its answers?
            return [candidate]
        self.own(context, shared=True)
        return [candidate, self._submit_champion(champion, version, make_body)]

    def _submit_champion(self, champion: str, dataset_version: str, make_body: Callable[..., Job]) -> Job:
        engine, name = self.connect(), self.dataset["dataset"]
        resource = engine.get_version(name, champion)
        created = resource.get("createTime") if resource else None
        full_name = f"projects/{engine.project}/models/{name}/versions/{champion}"
        return self.submit_once(
            ("champion", name, champion, created, dataset_version),
            lambda job_id: make_body(job_id, version_name=full_name),
        )

    def _model_uris(self, version: str) -> list[str]:
        from pipeline.deploy.version import model_uris

        return model_uris(self.connect(), self.workspace.uri, self.dataset["dataset"], version)

    def _labels_of(self, version: str) -> tuple[str, ...] | None:
        from pipeline.evaluate.champion import read_labels

        return read_labels(self.workspace.storage, self._model_uris(version))

    def _find_champion(self, job: Job | None) -> Champion | None:
        """Return the version that the job asked, or the one that serves and cannot be asked.

        A default that came after `submit` is neither: the promotion will find it and end `superseded`.
        """
        from pipeline.evaluate.champion import Champion, read_champion
        from pipeline.ml_engine.protocol import default_version

        if job is not None:
            version = _version_of(job)
            return read_champion(self.workspace.storage, version, job, self._model_uris(version))
        serving = default_version(self.connect().get_model(self.dataset["dataset"]))
        if serving is None or self._labels_of(serving) is not None:
            return None
        return Champion(version=serving)

    def complete(self, context: Context, jobs: Sequence[Job]) -> dict[str, Any]:
        """Join, measure, compare, and write `evaluation.json` beside the candidate's predictions."""
        from pipeline.evaluate.evaluation import evaluate_model
        from pipeline.evaluate.predictions import check_counts
        from pipeline.evaluate.report import evaluation_report

        candidate, champion = jobs[0], (jobs[1] if len(jobs) > 1 else None)
        check_counts(candidate, self.dataset["test_pictures"])
        evaluation = evaluate_model(
            self.workspace.storage,
            dataset_uri=self.dataset["uri"],
            classes=self.training["classes"],
            candidate_job=candidate,
            champion=self._find_champion(champion),
            slices=[rule.by for rule in Classifier.from_dict(self.dataset["classifier"]).gate.slices],
        )
        self.log.info("%s", evaluation_report(evaluation))
        uri = f"{self.workspace.uri}/jobs/{evaluation.job}/evaluation.json"
        self.workspace.storage.write_json(uri, evaluation.to_dict())
        brief = evaluation.headline().to_dict()
        return {**brief, "uri": uri, "predictions": candidate["predictionInput"]["outputPath"]}


def _version_of(job: Job) -> str:
    return str(job["predictionInput"]["versionName"]).rpartition("/")[2]


class GateOperator(GraftOperator):
    """Decide whether the candidate is deployed. A refusal is an outcome: green, with all after it skipped.

    Args:
        fetched: Results of the fetch step.
        dataset: Result of the clean step.
        packed: Results of the pack step.
        training: Result of the train step.
        evaluation: Result of the evaluate step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("fetched", "dataset", "packed", "training", "evaluation")
    operator_extra_links = RUN_LINKS  # type: ignore[misc]

    def __init__(
        self, *, fetched: Any, dataset: Any, packed: Any, training: Any, evaluation: Any, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.fetched = fetched
        self.dataset = dataset
        self.packed = packed
        self.training = training
        self.evaluation = evaluation

    def perform(self, context: Context) -> dict[str, Any]:
        """Return the decision and the run's summary so far."""
        from pipeline.deploy.summary import RunState, build_summary, count_work
        from pipeline.evaluate.evaluation import read_evaluation
        from pipeline.evaluate.gate import decide_gate
        from pipeline.report.build import write_report

        classifier = Classifier.from_dict(self.dataset["classifier"])
        evaluation = read_evaluation(self.workspace.storage, self.evaluation["uri"])
        decision = decide_gate(evaluation, classifier.gate)
        for rule in decision.rules:
            self.log.info("%s: %s", rule.verdict, rule.text)
        summary = build_summary(
            classifier=classifier.name,
            run_id=context["ti"].run_id,
            state=RunState.SUCCESS if decision.accepted else RunState.REFUSED,
            dataset=self.dataset,
            work=count_work(as_list(self.fetched), self.dataset, as_list(self.packed), self.training),
            evaluation=evaluation,
            decision=decision,
            version=None,
        )
        report = write_report(
            self.workspace,
            run_id=context["ti"].run_id,
            dataset=self.dataset,
            training=self.training,
            evaluation=self.evaluation,
            decision=decision.to_dict(),
        )
        self.log.info("report: %s", report)
        result = {"decision": decision.to_dict(), "summary": summary, "report": report}
        if decision.override:
            self.log.warning("overridden by %(by)s: %(reason)s", decision.override)
        if decision.accepted:
            return result
        self.log.warning("refused: %s", "; ".join(decision.reasons))
        finish_run(self, context, summary, decision)
        context["ti"].xcom_push(key="return_value", value=result)
        raise skip_what_follows(self)
