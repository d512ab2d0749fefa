"""Write docker/.env with random secrets for compose.yaml, once: `python3 docker/make_env.py`."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path


def write_env(path: Path) -> None:
    """Write the file with mode 0600; an existing one is left alone."""
    values = {
        "GRAFT_ENGINE_TOKEN": secrets.token_urlsafe(32),
        "GRAFT_AIRFLOW_PASSWORD": secrets.token_urlsafe(12),
        "GRAFT_JWT_SECRET": secrets.token_urlsafe(48),
        "GRAFT_API_SECRET": secrets.token_urlsafe(32),
        "GRAFT_FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


if __name__ == "__main__":
    target = Path(__file__).with_name(".env")
    try:
        write_env(target)
    except FileExistsError:
        sys.exit(f"{target} is there already; remove it first if you want new secrets.")
