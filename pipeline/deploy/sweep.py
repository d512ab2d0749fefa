"""What nobody needs any more: versions that never served or served long ago, and the folders of old jobs.

Kept whatever their age: the default version, what a rollback goes to, and `keep` versions altogether that
served; what runs that still go on have made; and of jobs all that a version is made of, or is compared by.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from pipeline.artifacts.history import read_history, served_before
from pipeline.errors import ObjectNotFound
from pipeline.ml_engine.protocol import MLEngine, default_version, resource_id
from pipeline.ml_engine.resources import Job, Model, Version
from pipeline.ml_v1 import JobState
from pipeline.storage import Storage

log = logging.getLogger(__name__)

RUN_VERSION = re.compile(r"v_[0-9a-f]{12}")
RUN_LABELS = {"run", "dataset", "job"}
BUSY = ("CREATING", "UPDATING", "DELETING")


def find_old_versions(
    engine: MLEngine,
    storage: Storage,
    workspace: str,
    model: Model,
    *,
    live: Collection[str],
    keep: int,
    grace: timedelta,
    now: datetime,
) -> list[str]:
    """Return the versions of a model that nobody needs, of those that runs of ours have made.

    Args:
        engine: Where the model lives.
        storage: Where its history is.
        workspace: The bucket of the classifier.
        model: The v1 model.
        live: Versions of runs that have not ended.
        keep: How many that served stay, the default among them.
        grace: How long one that never served stays, so that a person can clear its run's failed task.
        now: The time.
    """
    name, default = resource_id(model), default_version(model)
    served = served_before(read_history(storage, workspace, name))
    kept = {default, *live, *served[-keep:]}
    if default in served:  # after a rollback, too, there must be something to go back to
        kept |= set(served[: served.index(default) + 1][-keep:])
    old = []
    for version in engine.list_versions(name):
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
    """Return the jobs whose folders nobody needs: ended long ago, and carrying our mark.

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


def find_needed_jobs(engine: MLEngine, storage: Storage, workspace: str, jobs: Iterable[Job]) -> set[str]:
    """Return the ids of the jobs that versions are made of, or were or will be compared by."""
    needed, versions = set(), set()
    for model in engine.list_models():
        name = resource_id(model)
        for version in engine.list_versions(name):
            versions.add(f"{name}/{resource_id(version)}")
            needed |= _jobs_of(storage, workspace, name, version)
    for job in jobs:
        asked = str(job.get("predictionInput", {}).get("versionName", "")).split("/")
        if len(asked) == 6 and f"{asked[3]}/{asked[5]}" in versions:
            needed.add(job["jobId"])
    return needed


def _jobs_of(storage: Storage, workspace: str, model: str, version: Version) -> set[str]:
    uri, folder = str(version.get("deploymentUri", "")), f"{workspace}/jobs/"
    needed = {uri[len(folder) :].partition("/")[0]} if uri.startswith(folder) else set()
    made_here = [uri.rstrip("/")] if uri.startswith(f"{workspace}/") else []
    for place in (f"{workspace}/models/{model}/{resource_id(version)}", *made_here):
        try:
            lineage = storage.read_json(f"{place}/graft/lineage.json")
        except ObjectNotFound:
            continue
        needed |= {str(lineage["training"]["job"]), str(lineage["evaluation_job"])}
    return needed


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


def delete_job_folders(storage: Storage, workspace: str, job_ids: Iterable[str]) -> list[str]:
    """Delete what jobs have left in the bucket; return the ids of those that had left something."""
    deleted = []
    for job_id in job_ids:
        folder = f"{workspace}/jobs/{job_id}"
        if storage.list_uris(f"{folder}/"):
            log.info("deleting %s", folder)
            storage.delete_tree(folder)
            deleted.append(job_id)
    return deleted


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
