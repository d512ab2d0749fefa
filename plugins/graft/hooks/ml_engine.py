"""An Airflow connection as an `MLEngine`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from pipeline.errors import ConfigError, PipelineError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from pipeline.ml_engine.protocol import MLEngine

DEFAULT_CONNECTION = "ml_engine_default"
DEFAULT_PROJECT = "local"
# Of tasks, for an engine that is busy or starts again. With the time of one exchange it must be less than the
# validity of a promotion lock: a promotion that is told of its success late must not still be trying.
PATIENCE_SECONDS = 120
CONNECTION_TYPES = ("ml_engine", "http", "generic")  # the last two: forms of an Airflow without our provider


class MLEngineHook(BaseHook):
    """Calls ML Engine v1.

    The connection's host is the endpoint (with its scheme, or with `schema` and `port` beside it), its
    password the bearer token, its extra `{"project": ..., "others": "URL, URL"}`. The others are further
    engines on the same database, which are asked when the first does not answer.

    Args:
        ml_engine_conn_id: The connection.
        project: The project, where it is not the connection's.
    """

    conn_name_attr = "ml_engine_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "ml_engine"
    hook_name = "ML Engine"

    def __init__(self, ml_engine_conn_id: str = DEFAULT_CONNECTION, *, project: str | None = None) -> None:
        super().__init__()
        self.ml_engine_conn_id = ml_engine_conn_id
        self.project = project

    def get_conn(self) -> MLEngine:
        """Return the engine of the connection, for use in one thread."""
        connection = self.get_connection(self.ml_engine_conn_id)
        return connect(connection, self.project, patience_seconds=PATIENCE_SECONDS)

    async def get_async_conn(self) -> MLEngine:
        """Return the engine from the triggerer's event loop, where the connection must be awaited.

        It makes each request once: a trigger polls anyway, and must not hold a thread.
        """
        connection = await self.aget_connection(self.ml_engine_conn_id)
        return await asyncio.to_thread(connect, connection, self.project, patience_seconds=0)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the engine answers with this connection's token, and a message."""
        try:
            connection = self.get_connection(self.ml_engine_conn_id)
            connect(connection, self.project, patience_seconds=0).get_model("graft_connection_test")
        except (PipelineError, AirflowException) as error:
            return False, str(error)
        return True, "ML Engine answers."


def connect(connection: Connection, project: str | None = None, **options: Any) -> MLEngine:
    """Make the client that a connection describes.

    Args:
        connection: The connection.
        project: Instead of the connection's own.
        options: Further ones of the client, `timeout_seconds` for instance.

    Raises:
        ConfigError: if it is of another type, or has no host.
    """
    from pipeline.ml_engine.rest import RestMLEngine

    endpoint, own_project = find_endpoint(connection)
    others = str(connection.extra_dejson.get("others") or "").replace(",", " ").split()
    return RestMLEngine(endpoint, project or own_project, connection.password or "", others=others, **options)


def find_endpoint(connection: Connection) -> tuple[str, str]:
    """Return the address and the project of the engine that a connection describes.

    Raises:
        ConfigError: if it is of another type, or has no host.
    """
    if connection.conn_type not in CONNECTION_TYPES:
        raise ConfigError(
            f"Connection {connection.conn_id} is of type {connection.conn_type!r}; expected `ml_engine` with "
            "the endpoint as host and a bearer token as password. Google's own service is switched off."
        )
    host = connection.host
    if not host:
        raise ConfigError(
            f"Connection {connection.conn_id} has no host; set it to the endpoint, for instance "
            "http://127.0.0.1:8000."
        )
    if "://" not in host:
        port = f":{connection.port}" if connection.port else ""
        host = f"{connection.schema or 'http'}://{host}{port}"
    return host, connection.extra_dejson.get("project") or DEFAULT_PROJECT
