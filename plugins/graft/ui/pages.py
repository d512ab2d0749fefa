"""The pages that are only looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from graft.ui import access, scheduler
from graft.ui.page_context import PageContextDep
from graft.ui.rendering import render
from graft.ui.task_log import read_failure
from pipeline.artifacts.history import served_before, serving_periods
from pipeline.config import Settings
from pipeline.config.files import find_classifier_file
from pipeline.config.model import MAX_EPOCHS
from pipeline.errors import ObjectNotFound
from pipeline.pages.accuracy_chart import draw_accuracy
from pipeline.pages.classifier_list import Order, choose_classifiers
from pipeline.pages.decisions import count_pending, describe_decisions
from pipeline.pages.labels import find_suspects
from pipeline.pages.overview import (
    describe_classifier,
    describe_classifiers,
    find_alarms,
)
from pipeline.pages.pictures import (
    Choice,
    choose_pictures,
    explain_reasons,
    make_picture,
    make_thumbnail,
    pending_decisions,
    read_pictures,
)
from pipeline.pages.run_status import RunStatus
from pipeline.pages.schedule import Scheduled
from pipeline.pages.versions import (
    METRICS,
    add_intervals,
    changed_confusions,
    changed_settings,
    describe_side,
    find_moved,
    list_runs,
    list_versions,
)

router = APIRouter()
RUNS_SHOWN = 10
ALARMS_SHOWN = 50
NOTICES = {
    "rolled_back": "Rolled back: the traffic goes to the version that serves now.",
    "comparing": "The comparison has started; its result will be linked below.",
    "thresholds": "The YAML has these thresholds now; a run makes a version that serves with them.",
    "written": "The YAML has the recommended model now; a run trains it and tests it.",
}
RUNS_SEARCHED = 20
PICTURES_SHOWN = 48  # gained, and as many lost, on the page of two versions
REPORT_POLICY = (  # of pages that hold their own style and drawings
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
Version = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,128}$")]
VersionQuery = Annotated[str, Query(pattern=r"^[A-Za-z0-9_]{0,128}$")]
PictureId = Annotated[str, Path(pattern=r"^[A-Za-z0-9]{1,64}$")]


def common(request: Request, user: GetUserDep, name: str, tab: str) -> dict[str, Any]:
    """Return what every page of a classifier is given."""
    return {
        "name": name,
        "tab": tab,
        "can_write": access.may(request, user, name, "PUT"),
        "token": access.issue_token(user),
    }


def render_unread(request: Request, user: GetUserDep, name: str) -> Response:
    """Return what is shown of a classifier until Airflow has read its file: the page looks again."""
    files = scheduler.read_broken_files() if may_see_broken_files(user) else ()
    broken = [each for each in files if each.file == f"{name}.yaml"]
    return render(request, "created.html", {"name": name, "broken": broken})


@router.get("/")
def classifiers(
    request: Request,
    user: GetUserDep,
    page_context: PageContextDep,
    text: str = "",
    page: int = 1,
    sort: str = "",
) -> Response:
    """The classifiers that the person may see, and what needs somebody."""
    allowed = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    visible = [each for each in scheduler.read_classifiers() if each.name in allowed]
    serving = page_context.serving()
    versions = None if serving.problem else serving.versions
    order = Order.parse(sort)
    sheet = choose_classifiers(
        page_context.cache, visible, serving.versions, text=text[:100], page=page, order=order
    )
    alarms = find_alarms(page_context.cache, visible)
    values = {
        "rows": describe_classifiers(page_context.cache, sheet.shown, versions, serving.traffic),
        "sheet": sheet,
        "order": order,
        "text": text[:100],
        "num_visible": len(visible),
        "problem": serving.problem,
        "questions": [each for each in scheduler.read_questions() if each.name in allowed],
        "alarms": [
            (run, each, status, _why(request, user, each, status))
            for each, run, status in alarms[:ALARMS_SHOWN]
        ],
        "num_alarms": len(alarms),
        "can_create": access.may_create(request, user),
        "broken": scheduler.read_broken_files() if may_see_broken_files(user) else (),
    }
    return render(request, "classifiers.html", values)


def _why(request: Request, user: GetUserDep, scheduled: Scheduled, status: RunStatus | None) -> str:
    """Return why the newest run of a classifier deployed nothing, as far as the person may read it."""
    run = scheduled.last_run
    if status is None or run is None or not status.needs_somebody:
        return ""
    if status.reason:
        return status.reason
    may_read_logs = access.may_read_logs(request, user, scheduled.name)
    return read_failure(scheduled.name, run.run_id) if may_read_logs else ""


def may_see_broken_files(user: GetUserDep) -> bool:
    """Return whether the person may see Airflow's import errors."""
    return bool(get_auth_manager().is_authorized_view(access_view=AccessView.IMPORT_ERRORS, user=user))


@router.get("/classifiers/{name}")
def classifier(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep, notice: str = ""
) -> Response:
    """One classifier: its versions, what served when, and its runs."""
    matches = scheduler.read_classifiers([name])
    if not matches and find_classifier_file(name, Settings()) is None:
        raise HTTPException(
            404,
            f"Airflow has no classifier named {name}. Add {name}.yaml to dags/classifiers, and wait a few "
            "seconds; a mistake in it is among Airflow's import errors.",
        )
    if not matches:
        return render_unread(request, user, name)
    [scheduled] = matches
    history, numbers = page_context.cache.numbered_history(name)
    resources, problem = page_context.versions(name)
    versions = list_versions(page_context.cache, name, resources, history)
    versions = add_intervals(page_context.cache, name, versions)
    serving = next((row.version for row in versions if row.is_default), None)
    targets = [row.version for row in versions if row.can_serve]
    earlier = [version for version in served_before(history) if version in targets]
    runs = scheduler.read_runs(name, RUNS_SHOWN)
    row = describe_classifier(page_context.cache, scheduled, serving, is_known=problem is None)
    values = {
        "row": row,
        "problem": problem,
        "notice": NOTICES.get(notice, ""),
        "versions": versions,
        "chart": draw_accuracy(versions, numbers),
        "targets": targets,
        "target": earlier[-1] if earlier else None,
        "periods": serving_periods(history)[::-1],
        "runs": list_runs(page_context.cache, name, runs, history),
        "numbers": numbers,
        "questions": scheduler.read_questions(name),
        "failure": _why(request, user, scheduled, row.verdict),
        "is_compared": page_context.cache.has_comparison(name),
        "max_epochs": MAX_EPOCHS,
        "pending": count_pending(page_context.cache, name),
    }
    return render(request, "classifier.html", {**common(request, user, name, "versions"), **values})


@router.get("/classifiers/{name}/compare")
def compare(
    request: Request,
    user: GetUserDep,
    name: access.Readable,
    page_context: PageContextDep,
    left: VersionQuery,
    right: VersionQuery,
) -> Response:
    """Two versions side by side."""
    sides = [describe_side(page_context.cache, name, version) for version in (left, right)]
    one, other = sides
    if one is None or other is None:
        missing = left if one is None else right
        raise ObjectNotFound(f"Version {missing} of {name} carries no metadata of Graft's to compare.")
    values = {
        "sides": (one, other),
        "numbers": page_context.cache.numbered_history(name, 0)[1],
        "metrics": METRICS,
        "changed": changed_settings(one, other),
        "confusions": changed_confusions(one, other),
        "moved": find_moved(one, other),
        "shown": PICTURES_SHOWN,
    }
    return render(request, "compare.html", {**common(request, user, name, "versions"), **values})


@router.get("/classifiers/{name}/pictures")
def pictures(
    request: Request,
    user: GetUserDep,
    name: access.Readable,
    page_context: PageContextDep,
    version: VersionQuery = "",
    label: str = "",
    split: str = "",
    reason: str = "",
    text: str = "",
    page: int = 1,
) -> Response:
    """The pictures of a dataset version; the latest unless one is named."""
    cache, base = page_context.cache, common(request, user, name, "pictures")
    info = cache.dataset(name, version) if version else cache.latest_dataset(name)
    if info is None:
        if version:
            raise ObjectNotFound(f"{name} has no dataset version {version}.")
        return render(request, "no_pictures.html", base)
    listing = read_pictures(cache, name, info.version)
    choice = Choice(label=label, split=split, reason=reason, text=text[:100], page=page)
    sheet = choose_pictures(listing, choice)
    values = {
        "info": info,
        "sheet": sheet,
        "choice": choice,
        "reasons": explain_reasons(listing.reasons),
        "notes": describe_decisions(sheet.pictures, pending_decisions(cache, name)),
        "total": len(listing.rows),
    }
    return render(request, "pictures.html", {**base, **values})


@router.get("/classifiers/{name}/pictures/{version}/{id}.jpg")
def thumbnail(
    name: access.Readable,
    page_context: PageContextDep,
    version: Version,
    id: PictureId,
    large: bool = False,
) -> Response:
    """One picture, small or large, encoded anew: no byte of its file is passed on."""
    make = make_picture if large else make_thumbnail
    data = make(page_context.cache, read_pictures(page_context.cache, name, version), id)
    headers = {"cache-control": "private, max-age=3600"}
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/classifiers/{name}/labels")
def labels(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """The training pictures whose label is in doubt."""
    suspects = find_suspects(page_context.cache, name, scheduler.read_runs(name, RUNS_SEARCHED))
    info = page_context.cache.dataset(name, suspects.version) if suspects else None
    values = {"suspects": suspects, "info": info}
    return render(request, "labels.html", {**common(request, user, name, "labels"), **values})


@router.get("/classifiers/{name}/try")
def try_it(request: Request, user: GetUserDep, name: access.Readable) -> Response:
    """A place to drop a picture."""
    return render_trial(request, user, name)


def render_trial(
    request: Request,
    user: GetUserDep,
    name: str,
    values: Mapping[str, Any] | None = None,
    *,
    status_code: int = 200,
) -> Response:
    """Return *Try it* with an answer, with what is wrong with the picture, or empty."""
    shown = {"trial": None, "problem": None, **(values or {})}
    page = {**common(request, user, name, "try"), **shown}
    return render(request, "try.html", page, status_code=status_code)


@router.get("/runs/{name}")
def runs(request: Request, name: access.Readable) -> Response:
    """Where the runs of a classifier are listed."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}/classifiers/{name}#runs", status_code=303)
