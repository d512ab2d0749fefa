"""Finds what is no longer needed: versions that never served or served long ago, and the folders of old jobs.

Kept whatever their age: the default version, what a rollback goes to, and `keep` versions altogether that
served; what running runs have made; and of jobs all that a version is made of, or is compared by.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.history import read_history, served_before
from pipeline.artifacts.model_record import read_lineage
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.staging import delete_empty_model, discard_staged
from pipeline.evaluate.ratchet import best_served
from pipeline.ml_engine.protocol import MLEngine, default_version, resource_id
from pipeline.ml_engine.resources import Job
from pipeline.ml_v1 import JobState

log = logging.getLogger(__name__)

RUN_VERSION = re.compile(r"v_[0-9a-f]{12}")
RUN_LABELS = {"run", "dataset", "job"}
BUSY = ("CREATING", "UPDATING", "DELETING")


def find_old_versions(
    workspace: Workspace,
    engine: MLEngine,
    model: str,
    *,
    default: str | None,
    live: Collection[str],
    keep: int,
    grace: timedelta,
    now: datetime,
) -> list[str]:
    """Return the versions of a model that are no longer needed, of those that runs of ours have made.

    Args:
        workspace: Where its history is.
        engine: Where the model lives.
        model: Name of the model.
        default: The version that serves.
        live: Versions of runs that have not ended.
        keep: How many that served stay, the default among them.
        grace: How long one that never served stays, so that a person can clear its run's failed task.
        now: The time.
    """
    history = read_history(workspace, model)
    served = served_before(history)
    kept = {default, *live, *served[-keep:]}
    kept.add(best_served(history, now=now))  # candidates are held against it
    if default in served:  # after a rollback, too, there must be something to go back to
        kept |= set(served[: served.index(default) + 1][-keep:])
    old = []
    for version in engine.list_versions(model):
        version_id = resource_id(version)
        is_ours = RUN_VERSION.fullmatch(version_id) and RUN_LABELS <= set(version.get("labels", {}))
        if not is_ours or version_id in kept or version.get("state") in BUSY:
            continue
        if version_id in served or now - _moment(version["createTime"]) >= grace:
            old.append(version_id)
    return old


def find_old_jobs(
    jobs: Iterable[Job], *, needed: Collection[str], mark: tuple[str, str], before: datetime
) -> list[str]:
    """Return the jobs whose folders are no longer needed: ended long ago, and carrying our mark.

    Args:
        jobs: The jobs of the engine.
        needed: Ids of those that versions need.
        mark: The label, name and value, of jobs that are ours.
        before: Jobs that ended later stay.
    """
    return [
        job["jobId"]
        for job in jobs
        if job.get("labels", {}).get(mark[0]) == mark[1]
        and JobState(job["state"]).is_terminal
        and job["jobId"] not in needed
        and _moment(job.get("endTime") or job["createTime"]) < before
    ]


def find_needed_jobs(workspace: Workspace, engine: MLEngine, jobs: Iterable[Job]) -> set[str]:
    """Return the ids of the jobs that versions are made of, or were or will be compared by."""
    needed, versions = set(), set()
    for model in engine.list_models():
        name = resource_id(model)
        for version in engine.list_versions(name):
            versions.add(f"{name}/{resource_id(version)}")
            needed |= _jobs_of(workspace, name, resource_id(version), str(version.get("deploymentUri", "")))
    for job in jobs:
        asked = str(job.get("predictionInput", {}).get("versionName", "")).split("/")
        if len(asked) == 6 and f"{asked[3]}/{asked[5]}" in versions:
            needed.add(job["jobId"])
    return needed


def _jobs_of(workspace: Workspace, model: str, version: str, deployment_uri: str) -> set[str]:
    job_id = workspace.job_id_of(deployment_uri)
    directories = [workspace.model(model, version)]
    if workspace.holds(deployment_uri):
        directories.append(ModelDirectory(workspace.storage, deployment_uri.rstrip("/")))
    lineages = [lineage for each in directories if (lineage := read_lineage(each)) is not None]
    jobs = {job for lineage in lineages for job in (lineage.training.job, lineage.evaluation_job)}
    jobs |= {lineage.training.tuning.job for lineage in lineages if lineage.training.tuning}
    return jobs | ({job_id} if job_id else set())


def delete_versions(engine: MLEngine, model: str, versions: Iterable[str]) -> list[str]:
    """Delete versions, but look again at the default before each: one may have been promoted meanwhile."""
    deleted = []
    for version in versions:
        if default_version(engine.get_model(model)) == version:
            continue
        log.info("deleting version %s of %s", version, model)
        engine.delete_version(model, version)
        deleted.append(version)
    return deleted


def delete_staged_versions(
    engine: MLEngine, staging: str, versions: Iterable[str], *, is_used: bool
) -> list[str]:
    """Delete versions of a hidden model, and that model if it has none left.

    Args:
        engine: Where the model is.
        staging: Name of the model.
        versions: The versions.
        is_used: Whether a run goes on that may be about to put a version into it.
    """
    deleted = []
    for version in versions:
        log.info("deleting version %s of %s, which never served", version, staging)
        discard_staged(engine, staging, version)
        deleted.append(version)
    if not is_used and not engine.list_versions(staging):
        delete_empty_model(engine, staging)
    return deleted


def delete_job_folders(workspace: Workspace, job_ids: Iterable[str]) -> list[str]:
    """Delete what jobs have left in the bucket, and what is cached for networks that only they have made.

    Returns:
        The ids of the jobs that had left something.
    """
    left = [job_id for job_id in job_ids if workspace.storage.list_uris(f"{workspace.job(job_id).uri}/")]
    _delete_caches(workspace, left)
    for job_id in left:
        folder = workspace.job(job_id).uri
        log.info("deleting %s", folder)
        workspace.storage.delete_tree(folder)
    return left


def _delete_caches(workspace: Workspace, job_ids: Collection[str]) -> None:
    """Delete the caches of fine-tuned networks whose weights lie in the folders of these jobs only."""
    digests = {digest for job_id in job_ids for digest in _finetuned_digests(workspace, job_id)}
    if not digests:
        return
    for uri in workspace.storage.list_uris(workspace.jobs):
        job_id = workspace.job_id_of(uri)
        if job_id and job_id not in job_ids:
            digests.discard(workspace.job(job_id).finetuned_digest(uri) or "")
    for digest in sorted(digests):
        log.info("deleting what is cached for the fine-tuned network %s", digest)
        for folder in workspace.caches(digest):
            workspace.storage.delete_tree(folder)


def _finetuned_digests(workspace: Workspace, job_id: str) -> Iterator[str]:
    job = workspace.job(job_id)
    for uri in workspace.storage.list_uris(f"{job.uri}/"):
        if digest := job.finetuned_digest(uri):
            yield digest


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
