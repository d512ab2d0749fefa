"""Keys of image searches, from Airflow connections as the environment holds them.

Inside a task the operator asks Airflow itself; this is for everything else.
"""

from __future__ import annotations

import json
import os
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConfigError


def find_secret(connection: str) -> str:
    """Return the password of an Airflow connection in `AIRFLOW_CONN_...`, be it a URI or JSON.

    Raises:
        ConfigError: if there is no such connection, or it has no password.
    """
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    value = os.environ.get(variable, "")
    if value.lstrip().startswith("{"):
        try:
            secret = str(json.loads(value).get("password") or "")
        except ValueError:
            secret = ""
    else:
        secret = unquote(urlsplit(value).password or "")
    return require_secret(secret, connection)


def require_secret(secret: str | None, connection: str) -> str:
    """Return the secret if there is one.

    Raises:
        ConfigError: saying how to make the connection.
    """
    if secret:
        return secret
    raise ConfigError(
        f"the Airflow connection `{connection}` has no key; put it into the connection's password, e.g. "
        f'AIRFLOW_CONN_{connection.upper()}=\'{{"conn_type": "http", "password": "KEY"}}\'.',
        connection=connection,
    )
