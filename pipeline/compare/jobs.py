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


def submit_comparison(
    workspace: Workspace, engine: MLEngine, classifier: str, spec: ComparisonSpec, options: Sequence[Option]
) -> ComparisonJob:
    """Submit the job of some options, or adopt the one that does, or has done, exactly this work."""
    package_uri, args = stage_package(workspace), spec.to_args()

    def make_body(job_id: str) -> Job:
        return training_job(
            job_id,
            package_uri=package_uri,
            module=MODULE,
            args=args,
            job_dir=workspace.job(job_id).uri,
            runtime_version=RUNTIME_VERSION,
            labels={"classifier": classifier, "step": "compare"},
            max_running_seconds=DEADLINE_SECONDS,
        )

    key = ("compare", classifier, package_uri, *args)
    job = submit_job(engine, key, make_body)
    directory = workspace.job(job["jobId"])
    if job["state"] == "SUCCEEDED" and not workspace.storage.exists(directory.comparison):  # swept away
        job = submit_job(engine, key, make_body, redo=True)
        directory = workspace.job(job["jobId"])
    return ComparisonJob(job_id=job["jobId"], options=tuple(options), directory=directory)
