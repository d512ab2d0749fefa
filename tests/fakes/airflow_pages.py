"""The pages over a small fleet, without a scheduler and its database; the real ones: tests/e2e."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from starlette.routing import Mount

from pipeline.pages.schedule import BrokenFile, Question, Run, Task
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.pages import DATASET_VERSION, Fleet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # httpx2, which it asks for, is not what Airflow has
    from starlette.testclient import TestClient

NAME = "classifier_00"


class Pages:
    """The application over a small fleet, signed in as whoever the test says.

    Args:
        folder: Where the bucket is.
        monkeypatch: Puts stand-ins for Airflow's database and connection in.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from airflow.api_fastapi.core_api.security import get_user
        from graft.ui import access, scheduler
        from graft.ui.app import create_app
        from graft.ui.page_context import PageContext, get_page_context

        self.fleet = Fleet(folder, classifiers=2, versions=3, pictures=100)
        self.engine = FakeMLEngine(answer=lambda version, instance: {})
        manager = SimpleAuthManager()

        def requires_access_dag(
            method: Any, _entity: Any = None, *, param_dag_id: str = ""
        ) -> Callable[..., None]:
            def check(_request: Any, user: Any) -> None:
                if not manager.is_authorized_dag(method=method, user=user):
                    raise HTTPException(403, "Forbidden")

            return check

        monkeypatch.setattr(access, "requires_access_dag", requires_access_dag)
        monkeypatch.setattr("graft.ui.job_pages.requires_access_dag", requires_access_dag)
        monkeypatch.setattr(manager, "get_authorized_dag_ids", lambda **_: {NAME})
        for module in ("pages", "job_pages"):
            monkeypatch.setattr(f"graft.ui.{module}.get_auth_manager", lambda: manager)
        monkeypatch.setattr(scheduler, "read_classifiers", self._classifiers)
        monkeypatch.setattr(scheduler, "read_runs", lambda name, limit: self.fleet.runs[:limit])
        self.tasks: dict[str, list[Task]] = {}
        self.results: dict[tuple[str, str], Any] = {}
        self.questions: list[Question] = []
        self.broken: list[BrokenFile] = []
        self.watched: dict[str, Run] = {}
        self.failure = ""
        monkeypatch.setattr(scheduler, "read_run", lambda name, run_id: self.watched.get(run_id))
        monkeypatch.setattr(scheduler, "read_last_success", lambda name: self.watched.get("earlier"))
        monkeypatch.setattr(scheduler, "read_tasks", lambda name, run_id: self.tasks.get(run_id, []))
        monkeypatch.setattr(
            scheduler, "read_result", lambda name, run_id, task_id: self.results.get((run_id, task_id))
        )
        monkeypatch.setattr(scheduler, "read_broken_files", lambda: self.broken)
        monkeypatch.setattr(scheduler, "read_questions", self._questions)
        for module in ("pages", "run_pages"):
            monkeypatch.setattr(f"graft.ui.{module}.read_failure", lambda name, run_id: self.failure)
        for module in ("run_actions", "model_pages"):
            monkeypatch.setattr(f"graft.ui.{module}.requires_access_dag", requires_access_dag)
        monkeypatch.setattr(PageContext, "_connect", lambda page_context: self.engine)
        endpoint = ("http://engine.test:8000", "local")
        monkeypatch.setattr(PageContext, "endpoint", lambda page_context: endpoint)
        self.app = create_app()
        self.app.dependency_overrides[get_page_context] = lambda: PageContext(self.fleet.cache)
        for route in self.app.routes:
            if isinstance(route, Mount) and isinstance(route.app, FastAPI):
                route.app.dependency_overrides = self.app.dependency_overrides
        self.client = TestClient(self.app, base_url="http://airflow.test", follow_redirects=False)
        self._get_user = get_user
        self._make_user = SimpleAuthManagerUser

    def _classifiers(self, names: list[str] | None = None) -> list[Any]:
        return [each for each in self.fleet.scheduled if names is None or each.name in names]

    def _questions(self, name: str | None = None) -> list[Question]:
        return [each for each in self.questions if name in (None, each.name)]

    def sign_in(self, role: str, *, name: str = "ann") -> None:
        self.app.dependency_overrides[self._get_user] = lambda: self._make_user(username=name, role=role)

    def get(self, path: str) -> Any:
        return self.client.get(path)

    def token(self) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.get(f"/classifiers/{NAME}/try").text)
        assert found
        return found[1]

    def post(self, action: str, fields: dict[str, str], **arguments: Any) -> Any:
        return self.client.post(f"/classifiers/{NAME}/{action}", data=fields, **arguments)

    def picture(self) -> str:
        from pipeline.pages.pictures import read_pictures

        return read_pictures(self.fleet.cache, NAME, DATASET_VERSION).rows[0].id
