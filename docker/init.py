"""First service of compose.yaml: puts the secrets where engine and Airflow read them, then makes tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.stack.state import USERNAME, add_engine_token, write_private


def write_secrets(home: Path, environ: Mapping[str, str]) -> None:
    """Write the engine's token digest and Airflow's password file."""
    add_engine_token(home / "engine" / "tokens.json", environ["GRAFT_ENGINE_TOKEN"])
    write_private(home / "airflow" / "passwords.json", {USERNAME: environ["GRAFT_AIRFLOW_PASSWORD"]})


if __name__ == "__main__":
    write_secrets(Path(os.environ["GRAFT_HOME"]), os.environ)
    os.execvp("airflow", ["airflow", "db", "migrate"])
