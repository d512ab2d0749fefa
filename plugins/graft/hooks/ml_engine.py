"""An Airflow connection as an `MLEngine`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from pipeline.ml_engine.protocol import MLEngine

DEFAULT_CONNECTION = "ml_engine_default"
DEFAULT_PROJECT = "local"


class MLEngineHook(BaseHook):
    """Calls ML Engine v1.

    The connection's host is the endpoint (with its scheme, or with `schema` and `port` beside it), its
    password the bearer token, its extra `{"project": ...}`.

    Args:
        ml_engine_conn_id: The connection.
    """

    conn_name_attr = "ml_engine_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "ml_engine"
    hook_name = "ML Engine"

    def __init__(self, ml_engine_conn_id: str = DEFAULT_CONNECTION) -> None:
        super().__init__()
        self.ml_engine_conn_id = ml_engine_conn_id

    def get_conn(self) -> MLEngine:
        """Return the engine of the connection, for use in one thread."""
        return connect(self.get_connection(self.ml_engine_conn_id))

    async def get_async_conn(self) -> MLEngine:
        """Return the engine from the triggerer's event loop, where the connection must be awaited."""
        connection = await self.aget_connection(self.ml_engine_conn_id)
        return await asyncio.to_thread(connect, connection)

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the engine answers with this connection's token."""
        try:
            self.get_conn().get_model("graft_connection_test")
        except Exception as error:
            return False, str(error)
        return True, "ML Engine answers."


def connect(connection: Connection) -> MLEngine:
    """Make the client that a connection describes.

    Raises:
        ConfigError: if it has no host.
    """
    from pipeline.ml_engine.rest import RestMLEngine

    host = connection.host
    if not host:
        raise ConfigError(
            f"Connection {connection.conn_id} has no host; set it to the endpoint, for instance "
            "http://127.0.0.1:8000."
        )
    if "://" not in host:
        port = f":{connection.port}" if connection.port else ""
        host = f"{connection.schema or 'http'}://{host}{port}"
    project = connection.extra_dejson.get("project", DEFAULT_PROJECT)
    return RestMLEngine(host, project, connection.password or "")
