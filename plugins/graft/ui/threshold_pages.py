"""*Thresholds*: what a threshold for each class does to a version's answers, and the way into the YAML."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from graft.ui import access
from graft.ui.actions import Form, go_back, text_of
from graft.ui.page_context import PageContextDep
from graft.ui.pages import VersionQuery, common
from graft.ui.rendering import render
from pipeline.config import Settings
from pipeline.config.written_thresholds import read_serving, write_thresholds
from pipeline.pages.thresholds import FoldedVersion, chosen_thresholds, judge_thresholds, read_folds

router = APIRouter()
actions = APIRouter(dependencies=[Depends(access.require_same_site)])


@router.get("/classifiers/{name}/thresholds")
def thresholds(
    request: Request,
    user: GetUserDep,
    name: access.Readable,
    page_context: PageContextDep,
    version: VersionQuery = "",
) -> Response:
    """The sliders, and what their values do; a parameter `t3` is the threshold of class 3."""
    from pipeline.report.charts import class_curves

    folded = read_folds(page_context.cache, name, version)
    written = read_serving(name, Settings())
    below = written.serving.reject_below if written else 0.0
    begin = [written.serving.thresholds.get(label, below) for label in folded.classes] if written else None
    bounds = _read_bounds(request, folded, begin or folded.served)
    judged = judge_thresholds(folded, bounds)
    chart = class_curves(judged.curves, title="Precision and recall of each class", x="recall", y="precision")
    chosen = chosen_thresholds(judged, below)
    values = {
        "judged": judged,
        "chart": chart,
        "written": written,
        "is_written": written is not None and chosen == written.serving.thresholds,
        "choice": json.dumps(chosen, ensure_ascii=False),
        "served_alike": begin is None or begin == folded.served,
    }
    return render(request, "thresholds.html", {**common(request, user, name, "versions"), **values})


def _read_bounds(request: Request, folded: FoldedVersion, default: Sequence[float]) -> list[float]:
    return [_read_share(request, f"t{index}", value) for index, value in enumerate(default)]


def _read_share(request: Request, field: str, default: float) -> float:
    text = request.query_params.get(field, "")
    try:
        value = round(float(text), 4) if text else default
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise HTTPException(400, f"A threshold is a number from 0 to 1. Received: {field}={text[:20]!r}")
    return value


@actions.post("/classifiers/{name}/thresholds/write")
async def write(request: Request, user: GetUserDep, name: access.Writable, form: Form) -> Response:
    """Put the thresholds that the page shows into the classifier's YAML."""
    try:
        value = json.loads(text_of(form, "choice"))
    except ValueError:
        value = None
    if not isinstance(value, dict) or not all(type(each) in (int, float) for each in value.values()):
        raise HTTPException(400, "The form has no thresholds by class. Load the page again.")
    await run_in_threadpool(write_thresholds, name, value, Settings(), digest=text_of(form, "file"))
    return go_back(request, f"classifiers/{name}", "notice=thresholds", anchor="start")
