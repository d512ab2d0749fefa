"""Where a notebook finds ML Engine: in its settings, or in the stack of its GRAFT_HOME."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.artifacts.workspace import Workspace
from pipeline.config import Settings
from pipeline.errors import StackError
from pipeline.ml_engine.protocol import MLEngine
from pipeline.storage import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The engine and the workspace of a notebook.

    Args:
        engine: ML Engine.
        workspace: The bucket of packages and jobs.
        home: Where fetched files go, below `notebook/`.
        token: Bearer token.
    """

    engine: MLEngine
    workspace: Workspace
    home: Path
    token: str = field(default="", repr=False)

    def v1_client(self) -> Any:
        """Return Google's own client of `ml` v1, pointed at this engine."""
        import google_auth_httplib2
        from googleapiclient import discovery

        from pipeline.ml_engine.rest import RestMLEngine
        from pipeline.ml_engine.transport import StaticToken
        from pipeline.notebook.v1_http import UnkeptHttp

        if not isinstance(self.engine, RestMLEngine):
            raise StackError("Only an engine behind HTTP has a client of Google's.")
        http = google_auth_httplib2.AuthorizedHttp(StaticToken(self.token), http=UnkeptHttp(proxy_info=None))
        options = {"api_endpoint": self.engine.endpoint}
        return discovery.build("ml", "v1", http=http, client_options=options, cache_discovery=False)


def connect(*, project: str | None = None, bucket: str | None = None) -> Connection:
    """Find ML Engine; Airflow need not run.

    Args:
        project: The project in resource names; that of the settings by default.
        bucket: The bucket of packages and jobs; that of the settings by default.

    Raises:
        StackError: if neither settings nor GRAFT_HOME name an engine.
    """
    from pipeline.ml_engine.rest import RestMLEngine

    settings = Settings()
    url, token = settings.ml_engine_url, settings.ml_engine_token.get_secret_value()
    if not url:
        url, token = _find_stack(settings.home)
    return Connection(
        engine=RestMLEngine(url, project or settings.project, token),
        workspace=Workspace(Storage.from_environment(), f"gs://{bucket}" if bucket else settings.workspace),
        home=settings.home,
        token=token,
    )


def _find_stack(home: Path) -> tuple[str, str]:
    from pipeline.stack.state import load_secrets, load_state

    state, secrets = load_state(home), load_secrets(home)
    if not state.engine_port or secrets is None:
        raise StackError(
            f"No ML Engine is configured: {home} holds no stack. Start one with `graft up`, name another "
            "home with GRAFT_HOME, or set GRAFT_ML_ENGINE_URL and GRAFT_ML_ENGINE_TOKEN."
        )
    return state.engine_url, secrets.engine_token
