"""Starts a run, and ends one, for a person who may."""

from __future__ import annotations

from typing import Any

from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dagbag import DBDagBag
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from graft.ui import access, scheduler
from graft.ui.actions import Form, text_of
from graft.ui.rendering import path
from pipeline.config.model import MAX_EPOCHS

router = APIRouter(dependencies=[Depends(access.require_same_site)])


@router.post("/classifiers/{name}/run")
async def start_run(request: Request, user: GetUserDep, name: access.Writable, form: Form) -> Response:
    """Start a run, and show it."""
    requires_access_dag("POST", DagAccessEntity.RUN, param_dag_id=name)(request, user)
    conf = _read_parameters(text_of(form, "epochs"), only_new=bool(text_of(form, "only_new")))
    run_id = await run_in_threadpool(start_dag_run, name, conf, str(user.get_name()))
    return _show(request, name, run_id)


@router.post("/classifiers/{name}/cancel")
async def cancel_run(request: Request, user: GetUserDep, name: access.Writable, form: Form) -> Response:
    """End a run that works or waits; its jobs are cancelled with their tasks."""
    requires_access_dag("PUT", DagAccessEntity.RUN, param_dag_id=name)(request, user)
    run_id = text_of(form, "run_id")
    run = await run_in_threadpool(scheduler.read_run, name, run_id)
    if run is None:
        raise HTTPException(404, f"{name} has no run {run_id}.")
    if run.state in ("queued", "running"):
        await run_in_threadpool(_fail, name, run_id)
    return _show(request, name, run_id)


def _read_parameters(epochs: str, *, only_new: bool) -> dict[str, Any]:
    """Return the parameters of a run as its DAG takes them; the YAML's own values are left out."""
    conf: dict[str, Any] = {"retrain.unchanged": "skip"} if only_new else {}
    if not epochs:
        return conf
    if not epochs.isdecimal() or not 1 <= int(epochs) <= MAX_EPOCHS:
        raise HTTPException(400, f"Epochs are a number from 1 to {MAX_EPOCHS}. Received: {epochs[:20]!r}")
    return conf | {"model.epochs": int(epochs)}


def start_dag_run(name: str, conf: dict[str, Any], by: str) -> str:
    """Start a run of a DAG in a person's name; return its id."""
    run = trigger_dag(name, triggered_by=DagRunTriggeredByType.UI, triggering_user_name=by, conf=conf)
    if run is None:
        raise HTTPException(502, f"Airflow started no run of {name}; try again.")
    return str(run.run_id)


def _fail(name: str, run_id: str) -> None:
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(name, session=session)
        if dag is None:
            raise HTTPException(404, f"Airflow has no classifier named {name}.")
        set_dag_run_state_to_failed(dag=dag, run_id=run_id, commit=True, session=session)


def _show(request: Request, name: str, run_id: str) -> Response:
    root = request.scope.get("root_path", "")
    return RedirectResponse(f"{root}/runs/{name}/{path(run_id)}", status_code=303)
