"""Write random secrets, once: `python3 docker/make_env.py` docker/.env for compose.yaml.

`python3 docker/make_env.py --team` writes files in docker/secrets for compose.team.yaml.
"""

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


def write_files(directory: Path) -> None:
    """Write a file for each secret of a team; a directory that exists is left alone.

    Compose mounts a file with its owner and mode, and the containers run as users of their own. So everybody
    can read the files, and only the owner can open their directory, which no container sees.
    """
    database, broker = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    values = {
        "airflow_password": secrets.token_urlsafe(12),
        "api_secret": secrets.token_urlsafe(32),
        "broker_url": f"redis://:{broker}@redis:6379/0",
        "database_password": database,
        "engine_token": secrets.token_urlsafe(32),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_urlsafe(48),
        "redis_conf": f"dir /data\nappendonly yes\nmaxmemory-policy noeviction\nrequirepass {broker}",
    }
    directory.mkdir(mode=0o700)
    for name, value in values.items():
        (directory / name).write_text(f"{value}\n", encoding="utf-8")
        (directory / name).chmod(0o444)


if __name__ == "__main__":
    is_team = sys.argv[1:] == ["--team"]
    target = Path(__file__).with_name("secrets" if is_team else ".env")
    try:
        (write_files if is_team else write_env)(target)
    except FileExistsError:
        sys.exit(f"{target} is there already; remove it first if you want new secrets.")
