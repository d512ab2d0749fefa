"""What a command talks to: the running stack's engine and Airflow, and the workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import StackError
from pipeline.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from pipeline.airflow_api import AirflowApi
    from pipeline.artifacts.workspace import Workspace
    from pipeline.config import Settings
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.stack import StackStatus


def open_workspace(settings: Settings | None = None) -> Workspace:
    """Return the workspace of the settings."""
    from pipeline.artifacts.workspace import Workspace
    from pipeline.config import Settings
    from pipeline.storage import Storage

    return Workspace(Storage.from_environment(), (settings or Settings()).workspace)


def require_stack() -> StackStatus:
    """Return the status of the running stack.

    Raises:
        StackError: if it is not running as a whole.
    """
    from pipeline.config import Settings
    from pipeline.stack import status

    settings = Settings()
    described = status(settings)
    if described.stopped:
        names = ", ".join(described.stopped)
        raise StackError(
            f"The stack of {settings.home} is {described.state}; not running: {names}. "
            "Start it with `graft up`; another stack is chosen with GRAFT_HOME."
        )
    return described


def pages_url(airflow_url: str) -> str:
    """Return the address of Graft's pages, without a trailing slash."""
    from pipeline.stack.status import PAGES

    return airflow_url.rstrip("/") + PAGES.rstrip("/")


def connect_engine(status: StackStatus) -> MLEngine:
    """Return a client of the running stack's engine."""
    from pipeline.ml_engine.rest import RestMLEngine

    engine = status.engine
    return RestMLEngine(engine.url or "", engine.project, engine.token or "")


def connect_airflow(status: StackStatus, *, patience_seconds: float = PATIENCE_SECONDS) -> AirflowApi:
    """Return the API of the running stack's Airflow.

    Args:
        status: The running stack.
        patience_seconds: How long a request that is not answered is made again.
    """
    from pipeline.airflow_api import AirflowApi

    airflow = status.airflow
    return AirflowApi(
        airflow.url or "",
        airflow.username,
        airflow.password or "",
        patience_seconds=patience_seconds,
    )
