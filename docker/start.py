"""Entry point of the image `team`: hands secrets that are files to Airflow and to libpq, then runs a command.

`python docker/start.py airflow scheduler`. Each `..._FILE` below names a file, as a rule one of /run/secrets.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path

PASSFILE = Path("/tmp/pgpass")  # of the container's own file system in memory


def read_secret(environ: MutableMapping[str, str], name: str) -> str:
    """Return the text of the file that a variable names; empty if the variable is not set."""
    path = environ.get(name, "")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(
            f"{name}: {path} cannot be read: {error.strerror}. `python3 docker/make_env.py` makes the files."
        )


def write_passfile(path: Path, password: str) -> None:
    """Write libpq's file of passwords, which only its owner may read, else libpq ignores it."""
    escaped = re.sub(r"([:\\])", r"\\\1", password)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"*:*:*:*:{escaped}\n")
    scratch.replace(path)  # others may be reading it


def set_connections(environ: MutableMapping[str, str]) -> None:
    """Set Airflow's connections to the engine and to its own API."""
    if token := read_secret(environ, "GRAFT_ENGINE_TOKEN_FILE"):
        engine = {"conn_type": "ml_engine", "host": environ["GRAFT_ENGINE_URL"], "password": token}
        environ["AIRFLOW_CONN_ML_ENGINE_DEFAULT"] = json.dumps(engine | {"extra": {"project": "local"}})
    if password := read_secret(environ, "GRAFT_AIRFLOW_PASSWORD_FILE"):
        airflow = {"conn_type": "http", "host": environ["GRAFT_AIRFLOW_URL"], "login": "admin"}
        environ["AIRFLOW_CONN_GRAFT_AIRFLOW_API"] = json.dumps(airflow | {"password": password})


def main(command: list[str]) -> None:
    """Become the command."""
    if password := read_secret(os.environ, "GRAFT_DATABASE_PASSWORD_FILE"):
        write_passfile(PASSFILE, password)
        os.environ["PGPASSFILE"] = str(PASSFILE)
    set_connections(os.environ)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
