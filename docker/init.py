"""First service of a compose file: puts the secrets where engine and Airflow read them, then makes tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.stack.state import USERNAME, add_engine_token, write_private


def write_secrets(home: Path, environ: Mapping[str, str]) -> None:
    """Write the engine's token digest and Airflow's password file."""
    add_engine_token(home / "engine" / "tokens.json", _secret(environ, "GRAFT_ENGINE_TOKEN"))
    write_private(home / "airflow" / "passwords.json", {USERNAME: _secret(environ, "GRAFT_AIRFLOW_PASSWORD")})


def _secret(environ: Mapping[str, str], name: str) -> str:
    """Return a variable, or the text of the file that the variable with `_FILE` names."""
    path = environ.get(f"{name}_FILE")
    return Path(path).read_text(encoding="utf-8").strip() if path else environ[name]


def make_airflow_database(url: str) -> None:
    """Make Airflow's database on the server that has the engine's; nothing if it is there, or is a file."""
    if not url.startswith("postgresql"):
        return
    import psycopg  # only the image `team` has it
    from psycopg import sql

    server, _, name = url.replace("+psycopg", "").rpartition("/")
    with psycopg.connect(f"{server}/graft", autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


if __name__ == "__main__":
    write_secrets(Path(os.environ["GRAFT_HOME"]), os.environ)
    make_airflow_database(os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", ""))
    os.execvp("airflow", ["airflow", "db", "migrate"])
