"""Mounts the pages in Airflow; nothing heavy is imported before the first request."""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from graft.ui import PREFIX

FASTAPI_APPS: list[dict[str, Any]] = []
EXTERNAL_VIEWS = [
    {
        "name": "Classifiers",
        "href": f"{PREFIX}/",
        "destination": "nav",
        "url_route": "classifiers",
        "nav_top_level": True,
    },
    {
        "name": "Classifier",
        "href": f"{PREFIX}/classifiers/{{DAG_ID}}",
        "destination": "dag",
        "url_route": "classifier",
    },
    {
        "name": "Report",
        "href": f"{PREFIX}/runs/{{DAG_ID}}/{{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "report",
    },
]


class LazyApp:
    """The pages' application, made by the first request: every component of Airflow loads this plugin."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if self._app is None:
            from graft.ui.app import create_app

            self._app = create_app()
        await self._app(scope, receive, send)


FASTAPI_APPS.append({"app": LazyApp(), "url_prefix": PREFIX, "name": "Graft"})
