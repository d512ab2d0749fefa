"""The last model comparison of a classifier: shown, made anew, and its choice put into the YAML."""

from __future__ import annotations

import hashlib

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.exceptions import DagNotFound
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from graft.ui import access
from graft.ui.actions import Form, go_back, text_of
from graft.ui.page_context import PageContext, PageContextDep
from graft.ui.pages import REPORT_POLICY
from graft.ui.rendering import render
from graft.ui.run_actions import start_dag_run

router = APIRouter()
actions = APIRouter(dependencies=[Depends(access.require_same_site)])
COMPARISON_DAG = "model_comparison"
POLICY = REPORT_POLICY.replace("form-action 'none'", "form-action 'self'")


@router.get("/classifiers/{name}/models")
def models(
    request: Request, user: GetUserDep, name: access.Readable, page_context: PageContextDep
) -> Response:
    """The last comparison of models, and a form that puts its choice into the YAML."""
    html = page_context.cache.comparison_page(name)
    if html is None:
        raise HTTPException(404, f"No models of {name} were compared yet; `graft compare {name}` does it.")
    section = page_context.cache.comparison_yaml(name)
    may_write = section is not None and access.may(request, user, name, "PUT")
    values = {
        "name": name,
        "choice": _digest(section) if section and may_write else "",
        "token": access.issue_token(user) if may_write else "",
    }
    bar = bytes(render(request, "models_bar.html", values).body)
    html = html.replace(b"<body>", b"<body>" + bar, 1)
    return Response(html, media_type="text/html", headers={"content-security-policy": POLICY})


@actions.post("/classifiers/{name}/models/compare")
async def compare_models(request: Request, user: GetUserDep, name: access.Writable, form: Form) -> Response:
    """Start the DAG that compares the models of a classifier."""
    requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=COMPARISON_DAG)(request, user)
    conf = {"classifier": name}
    try:
        await run_in_threadpool(start_dag_run, COMPARISON_DAG, conf, str(user.get_name()))
    except DagNotFound:
        raise HTTPException(
            404, f"Airflow has no DAG {COMPARISON_DAG}; use `graft compare {name}`."
        ) from None
    return go_back(request, f"classifiers/{name}", "notice=comparing", anchor="models")


@actions.post("/classifiers/{name}/models/write")
async def write_choice(
    request: Request, user: GetUserDep, name: access.Writable, page_context: PageContextDep, form: Form
) -> Response:
    """Put the choice that the page shows into the classifier's YAML."""
    await run_in_threadpool(_write, page_context, name, text_of(form, "choice"))
    return go_back(request, f"classifiers/{name}", "notice=written")


def _write(page_context: PageContext, name: str, shown: str) -> None:
    from pipeline.compare.written_choice import write_last_choice
    from pipeline.config import Settings

    section = page_context.cache.comparison_yaml(name)
    if section is None or _digest(section) != shown:
        raise HTTPException(
            409, f"The models of {name} were compared again meanwhile. Look at the page anew."
        )
    write_last_choice(page_context.cache.workspace, name, Settings())


def _digest(section: bytes) -> str:
    return hashlib.sha256(section).hexdigest()
