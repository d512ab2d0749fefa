"""Who asks, what they may do, and whether a change was asked for on one of our own pages."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.configuration import conf
from fastapi import Depends, HTTPException, Path, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pipeline.config.classifier import NAME_PATTERN

TOKEN_FIELD = "token"
TOKEN_SECONDS = 12 * 3600
ClassifierName = Annotated[str, Path(pattern=NAME_PATTERN)]


def may(request: Request, user: GetUserDep, name: str, method: ResourceMethod) -> bool:
    """Return whether a user may see (`GET`) or change (`PUT`) a classifier: what they may do to its DAG."""
    try:
        requires_access_dag(method, param_dag_id=name)(request, user)
    except HTTPException as error:
        if error.status_code == 403:
            return False
        raise
    return True


def may_read_logs(request: Request, user: GetUserDep, name: str) -> bool:
    """Return whether a user may read what the tasks of a classifier have printed."""
    try:
        requires_access_dag("GET", DagAccessEntity.TASK_LOGS, param_dag_id=name)(request, user)
    except HTTPException as error:
        if error.status_code == 403:
            return False
        raise
    return True


def may_create(request: Request, user: GetUserDep) -> bool:
    """Return whether a user may make new classifiers: who may change every DAG."""
    return may(request, user, "", "PUT")


def require_creator(request: Request, user: GetUserDep) -> None:
    """Refuse who may not make new classifiers."""
    if not may_create(request, user):
        raise HTTPException(403, "Your role may not make classifiers. That takes the role `user`.")


def require_reader(request: Request, user: GetUserDep, name: ClassifierName) -> str:
    """Return the classifier's name if the person may see it; 403 otherwise."""
    if not may(request, user, name, "GET"):
        raise HTTPException(403, f"Your role may not see the classifier {name}.")
    return name


def require_writer(request: Request, user: GetUserDep, name: ClassifierName) -> str:
    """Return the classifier's name if the person may change it; 403 otherwise."""
    if not may(request, user, name, "PUT"):
        raise HTTPException(
            403, f"Your role may look at {name}, but not change or ask it. That takes the role `user`."
        )
    return name


Readable = Annotated[str, Depends(require_reader)]
Writable = Annotated[str, Depends(require_writer)]


def issue_token(user: GetUserDep) -> str:
    """Return what a form on our page carries, so that no other page can send it in this person's name."""
    return _serializer().dumps(user.get_id())


def require_same_site(request: Request) -> None:
    """Refuse a request that a page of another site caused: browsers say so in two headers.

    A program that is no browser sends neither; it needs the form's token all the same.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_foreign = origin is not None and urlsplit(origin).netloc != request.url.netloc
    if is_foreign or site not in (None, "same-origin", "none"):
        raise HTTPException(403, "This request comes from another site, so it was refused.")


def require_token(user: GetUserDep, token: object) -> None:
    """Refuse a form without this person's own token."""
    try:
        if isinstance(token, str) and _serializer().loads(token, max_age=TOKEN_SECONDS) == user.get_id():
            return
    except BadSignature:
        pass
    raise HTTPException(403, "This form is too old or not one of ours. Load its page again, then send it.")


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="graft.pages")
