"""Comparison jobs: one for each backbone, because its pictures, network and cached features are shared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.held_out_answers import ComparisonRecord, ComparisonSpec, HeldOutAnswers
from pipeline.artifacts.workspace import Workspace
from pipeline.compare.options import Option
from pipeline.ml_engine.jobs import submit_job, training_job
from pipeline.ml_engine.protocol import MLEngine
from pipeline.ml_engine.resources import Job
from pipeline.ml_v1 import RUNTIME_VERSION
from pipeline.preprocess.pack import TEST_ITEM, pack_shard, plan_pack
from pipeline.submission.backbone import resolve_backbone, stage_backbone
from pipeline.submission.package import stage_package
from pipeline.submission.staged_head import stage_head

MODULE = "pipeline.trainer.comparison"
DEADLINE_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonJob:
    """A job that was submitted.

    Args:
        job_id: Its id.
        options: What it cross-validates, in the order of its answers.
        directory: Where it writes.
    """

    job_id: str
    options: tuple[Option, ...]
    directory: JobDirectory

    def read(self) -> tuple[ComparisonRecord, HeldOutAnswers]:
        """Return what the job has left.

        Raises:
            ObjectNotFound: if it has left nothing.
        """
        return ComparisonRecord.read(self.directory), HeldOutAnswers.read(self.directory)


def stage_comparison(
    workspace: Workspace, dataset: str, version: str, options: Sequence[Option]
) -> ComparisonSpec:
    """Pack the training pictures for a backbone, and stage its weights and the options' own heads.

    Args:
        workspace: Where to.
        dataset: The classifier's name.
        version: The dataset version.
        options: They share a backbone and its weights.

    Raises:
        WeightsNotFound: if the weights are neither installed nor staged.
        NetworkRefused: if the file of a network of the user's own cannot be a backbone.
        ConfigError: if the file of a head cannot be read.
    """
    model = options[0].classifier.model
    backbone, weights = resolve_backbone(workspace, model), stage_backbone(workspace, model)
    plan = plan_pack(workspace, dataset, version, backbone.spec)
    for item in plan.items:
        if item != TEST_ITEM:  # test pictures are no business of a comparison
            pack_shard(workspace, plan.index_uri, item)
    specs = []
    for option in options:
        module = option.classifier.model.head.module
        specs.append(
            option.training_spec(
                pack_index=plan.index_uri,
                weights=weights.uri,
                workspace=workspace.uri,
                module=stage_head(workspace, module).uri if module else "",
            )
        )
    return ComparisonSpec(base=specs[0], options=tuple(specs))


def by_backbone(options: Sequence[Option]) -> Iterator[tuple[Option, ...]]:
    """Yield the options of each backbone and weights."""

    def network(option: Option) -> tuple[str, str]:
        return option.classifier.model.backbone_name, option.classifier.model.weights

    for _, group in itertools.groupby(sorted(options, key=network), key=network):
        yield tuple(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonWork:
    """What a comparison job does.

    Args:
        workspace: Where it writes.
        classifier: The classifier's name.
        options: What it cross-validates; they share a backbone and its weights.
        spec: What it is told.
        package_uri: The trainer package.
    """

    workspace: Workspace
    classifier: str
    options: tuple[Option, ...]
    spec: ComparisonSpec
    package_uri: str

    @property
    def key(self) -> tuple[str, ...]:
        """What names the work."""
        return ("compare", self.classifier, self.package_uri, *self.spec.to_args())

    def make_body(self, job_id: str) -> Job:
        """Return the job with an id."""
        return training_job(
            job_id,
            package_uri=self.package_uri,
            module=MODULE,
            args=self.spec.to_args(),
            job_dir=self.workspace.job(job_id).uri,
            runtime_version=RUNTIME_VERSION,
            labels={"classifier": self.classifier, "step": "compare"},
            max_running_seconds=DEADLINE_SECONDS,
        )

    def was_swept(self, job: Job) -> bool:
        """Return True if a job has succeeded, and what it left is no longer in the bucket."""
        comparison = self.workspace.job(job["jobId"]).comparison
        return job["state"] == "SUCCEEDED" and not self.workspace.storage.exists(comparison)

    def job(self, job_id: str) -> ComparisonJob:
        """Return the job that does the work, for reading what it leaves."""
        return ComparisonJob(job_id=job_id, options=self.options, directory=self.workspace.job(job_id))


def stage_work(
    workspace: Workspace, classifier: str, version: str, options: Sequence[Option]
) -> ComparisonWork:
    """Stage what the job of some options reads; the arguments and errors are those of `stage_comparison`."""
    return ComparisonWork(
        workspace=workspace,
        classifier=classifier,
        options=tuple(options),
        spec=stage_comparison(workspace, classifier, version, options),
        package_uri=stage_package(workspace),
    )


def submit_comparison(engine: MLEngine, work: ComparisonWork) -> ComparisonJob:
    """Submit the job of some work, or adopt the one that does, or has done, exactly this."""
    job = submit_job(engine, work.key, work.make_body)
    if work.was_swept(job):
        job = submit_job(engine, work.key, work.make_body, redo=True)
    return work.job(job["jobId"])
