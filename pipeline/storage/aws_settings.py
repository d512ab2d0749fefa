"""The settings of AWS clients that a program needs which does not have the environment of its caller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_FILES = {"AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials", "AWS_CONFIG_FILE": ".aws/config"}
_MORE_FILES = ("AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")


def aws_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of AWS clients, with absolute paths of the files that they read by default."""
    settings = {name: value for name, value in environ.items() if name.startswith("AWS_")}
    home = Path(environ.get("HOME") or "~").expanduser()
    for name, place in _FILES.items():
        settings[name] = str(Path(settings.get(name) or home / place).expanduser().absolute())
    return settings


def aws_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files that hold keys, tokens and certificates."""
    settings = aws_environment(environ)
    return tuple(settings[name] for name in (*_FILES, *_MORE_FILES) if settings.get(name))
