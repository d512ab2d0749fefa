"""The users of the local Airflow and their passwords."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.stack.state import USERNAME, write_private

ROLES = ("viewer", "user", "op", "admin")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def parse_users(text: str) -> dict[str, str]:
    """Read `GRAFT_USERS`: the role of each further user, by name.

    Raises:
        ConfigError: if a part is not `name:role`.
    """
    users = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, role = part.partition(":")
        if not _NAME.fullmatch(name) or role not in ROLES or name == USERNAME:
            raise ConfigError(
                f"GRAFT_USERS wants name:role pairs separated by commas; roles are {', '.join(ROLES)}, "
                f"and {USERNAME} is there already. Received: {part!r}"
            )
        users[name] = role
    return users


def write_passwords(home: Path, admin_password: str, users: Mapping[str, str]) -> None:
    """Write the file that Airflow reads; a user keeps the password of the first start.

    Airflow would make missing ones itself, and print them to its log.
    """
    path = home / "airflow" / "passwords.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    made = {name: old.get(name) or secrets.token_urlsafe(12) for name in users}
    wanted = {USERNAME: admin_password, **made}
    if wanted != old:
        write_private(path, wanted)
