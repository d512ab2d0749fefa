"""A run: started here, watched while it works, and its report once the gate has written it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from graft.ownership import DAG, RUN, TASK, digest
from graft.ui import access, scheduler
from graft.ui.look_pages import link_cells
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import REPORT_POLICY, common
from graft.ui.rendering import render
from graft.ui.task_log import read_failure
from pipeline.errors import ObjectNotFound, PlatformError
from pipeline.ml_engine.protocol import label_value
from pipeline.ml_engine.watch import leave_out_noise
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import explain_reasons
from pipeline.pages.progress import (
    JobProgress,
    Progress,
    count_trials,
    describe_progress,
    read_epochs,
)
from pipeline.pages.run_status import describe_ending
from pipeline.pages.schedule import Run

router = APIRouter()
LOG_SHOWN = 20_000  # bytes
TAIL_LINES = 12
PICTURE = re.compile(rb'<a data-picture="(\w{1,128})/(\w{1,64})">')  # as the report marks it
JOB_STEPS = ("tune", "train", "evaluate")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedJob:
    """The job that a run waits for.

    Args:
        job_id: Its id.
        position: Its position in the queue of jobs, from 1; empty unless it waits there.
        progress: How far it is; None if that is unknown.
        tail: The end of its log.
    """

    job_id: str
    position: str
    progress: JobProgress | None
    tail: str


@router.get("/runs/{name}/{run_id:path}")
def run(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep, run_id: str
) -> Response:
    """The report of a run, as the gate step wrote it; until then how far the run is."""
    evaluated = page_context.cache.evaluated(name, run_id)
    watched = scheduler.read_run(name, run_id)
    if evaluated is not None:
        try:
            data = page_context.cache.storage.read_bytes(evaluated.report)
        except ObjectNotFound:
            raise HTTPException(404, f"The sweep removed the report of {run_id} with its jobs.") from None
        address = f"{request.scope.get('root_path', '')}/classifiers/{name}"
        html = link_cells(_link_pictures(data, address), address, run_id)
        back = _way_back(request, name, watched, page_context.cache)
        html = html.replace(b"<body>", b"<body>" + back, 1)
        return Response(html, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})
    if watched is None:
        raise HTTPException(404, f"{name} has no run {run_id}.")
    may_read_logs = access.may_read_logs(request, user, name)
    values = watch(page_context, name, watched, may_read_logs=may_read_logs)
    return render(request, "run.html", {**common(request, user, name, ""), **values})


def _link_pictures(html: bytes, classifier: str) -> bytes:
    """Return a report in which each picture leads to its page, where it is larger and can be decided on."""
    link = rf'<a href="{classifier}/pictures?version=\1&amp;text=\2">'
    return PICTURE.sub(link.encode(), html)


def _way_back(request: Request, name: str, run: Run | None, cache: ArtifactCache) -> bytes:
    """Return what leads from the report to the pages around it, how the run ended, and what it waits for."""
    questions = scheduler.read_questions(name) if run else ()
    values = {
        "name": name,
        "run": run,
        "ending": describe_ending(cache, name, run) if run else "",
        "questions": [each for each in questions if run and each.run_id == run.run_id],
    }
    return bytes(render(request, "way_back.html", values).body)


def watch(page_context: PageContext, name: str, run: Run, *, may_read_logs: bool) -> dict[str, Any]:
    """Return what the page of a run shows while there is no report."""
    earlier = scheduler.read_last_success(name)
    progress = describe_progress(
        scheduler.read_tasks(name, run.run_id),
        scheduler.read_tasks(name, earlier.run_id) if earlier else (),
        now=datetime.now(UTC),
    )
    job = _read_job(page_context, name, run, progress) if may_read_logs else None
    return {
        "run": run,
        "is_waiting": run.state in ("queued", "running"),
        "progress": progress,
        "questions": [each for each in scheduler.read_questions(name) if each.run_id == run.run_id],
        "failure": read_failure(name, run.run_id) if progress.failed and may_read_logs else "",
        "job": job,
        **_read_pictures(page_context.cache, name, run.run_id),
    }


def _read_pictures(cache: ArtifactCache, name: str, run_id: str) -> dict[str, Any]:
    """Return the dataset version that the run has made, and why pictures were kept out of it."""
    result = scheduler.read_result(name, run_id, "clean")
    version = result.get("version") if isinstance(result, dict) else None
    info = cache.dataset(name, version) if version else None
    return {"info": info, "reasons": explain_reasons(info.rejected) if info else []}


def _read_job(page_context: PageContext, name: str, run: Run, progress: Progress) -> WatchedJob | None:
    """Return the job that the run waits for now; None if there is none."""
    step = progress.at_work
    if step is None or step.name not in JOB_STEPS:
        return None
    wanted = {TASK: digest(name, run.run_id, step.name, -1)}
    if step.name == "tune":  # a study is for all runs on its pictures
        wanted = {DAG: digest(name), RUN: label_value(run.run_id)}
    try:
        with page_context.engine() as engine:
            for job in engine.list_jobs():
                if wanted.items() <= job.get("labels", {}).items():
                    text = engine.read_job_log(job["jobId"], offset=-LOG_SHOWN).text
                    tail = "\n".join(leave_out_noise(text.splitlines())[-TAIL_LINES:])
                    far = count_trials(job) or read_epochs(text)
                    position = job.get("jobPosition", "")
                    return WatchedJob(job_id=job["jobId"], position=position, progress=far, tail=tail)
    except PlatformError:
        pass  # the page goes on without it, and looks again
    return None
