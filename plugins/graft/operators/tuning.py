"""Finds the parameters of a classifier's head by a hyperparameter tuning job of ML Engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.inputs import StepInput, read_step
from graft.operators.jobs import MLEngineJobOperator, was_cleared
from graft.ownership import RUN
from pipeline.artifacts.steps import DatasetResult, TuneResult
from pipeline.config import Classifier
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.compare.study import Study
    from pipeline.ml_engine.resources import Job


class MLEngineTuneClassifierOperator(MLEngineJobOperator):
    """Try combinations of parameters, as `model.tune` says, and find the best one by cross-validation.

    The trials are judged on the training pictures, on cached features; no test picture is read. The job is
    named by all that it does: another try, or another run on the same pictures, adopts it. A job that was
    cancelled or failed is followed by one that keeps its trials and does the rest.

    Args:
        dataset: Result of the clean step; it carries the classifier as this run has it.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("dataset",)

    def __init__(self, *, dataset: StepInput, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset

    def submit(self, context: Context) -> list[Job]:
        """Stage what the trials need and submit the study."""
        study = self._study(context)
        self.set_job_labels(context, shared=True)
        job = self._submit(study, redo=was_cleared(context, self))
        if job["state"] == "SUCCEEDED" and not study.is_readable(job):  # its folder was swept away
            job = self._submit(study, redo=True)
        return [job]

    def _submit(self, study: Study, *, redo: bool) -> Job:
        return self.submit_once(study.key, study.make_body, make_id=study.make_id, redo=redo)

    def _study(self, context: Context) -> Study:
        from pipeline.compare.study import Study
        from pipeline.ml_engine.protocol import label_value
        from pipeline.submission.staged_training import stage_training

        dataset = read_step(DatasetResult, self.dataset)
        classifier = Classifier.from_dict(dataset.classifier)
        if classifier.model.tune is None:
            raise ConfigError(f"{self.task_id}: the classifier {classifier.name} has no `model.tune`.")
        staged = stage_training(self.workspace, classifier, pack_index=dataset.pack_index)
        return Study(
            workspace=self.workspace,
            engine=self.connect(),
            classifier=classifier.name,
            dataset_version=dataset.version,
            tune=classifier.model.tune,
            package_uri=staged.package_uri,
            args=staged.spec.to_args(),
            max_running_seconds=int(self.wait_seconds),
            labels={RUN: label_value(context["ti"].run_id)},
        )

    def complete(self, context: Context, jobs: Sequence[Job]) -> TuneResult:
        """Write `tuning.json` beside the trials, and return the parameters that train."""
        from pipeline.compare.tuned import count_forwarded, read_tuning

        study, job = self._study(context), jobs[0]
        tuning = read_tuning(study, job)
        uri = self.workspace.job(job["jobId"]).tuning
        tuning.write(self.workspace.storage, uri)
        reference = tuning.reference(uri)
        self.log.info("%s", reference.line)
        is_own = job.get("labels", {}).get(RUN) == study.labels[RUN]
        return TuneResult(tuning=reference, forwarded=count_forwarded(study, job) if is_own else 0)
