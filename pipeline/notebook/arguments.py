"""What the lines of the magics say, and the dict below `%%ml_init`."""

from __future__ import annotations

import argparse
import ast
import shlex
from collections.abc import Sequence
from typing import NoReturn

from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import NotebookError
from pipeline.ml_engine.jobs import REGION
from pipeline.ml_v1 import RUNTIME_VERSION
from pipeline.types import JsonValue


class Arguments(argparse.ArgumentParser):
    """Arguments of a magic; a mistake is an error of ours, not the end of the kernel."""

    def error(self, message: str) -> NoReturn:
        """Refuse a line."""
        usage = " ".join(self.format_usage().split()[1:])
        raise NotebookError(f"{self.prog}: {message}. Usage: {usage}")

    def read(self, line: str) -> argparse.Namespace:
        """Return what a magic's line says.

        Raises:
            NotebookError: with the usage, if it says something else.
        """
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise NotebookError(f"{self.prog}: {error}. Received: {line!r}") from error
        return self.parse_args(words)


def init_arguments() -> Arguments:
    """Return the arguments of `%ml_init`, named as the article has them."""
    parser = Arguments(prog="%ml_init", add_help=False)
    parser.add_argument("-projectId", default=None)
    parser.add_argument("-bucket", default=None)
    parser.add_argument("-region", default=REGION)
    parser.add_argument("-scaleTier", default="BASIC")
    parser.add_argument("-runtimeVersion", default=RUNTIME_VERSION)
    return parser


def run_arguments() -> Arguments:
    """Return the arguments of `%%ml_run`."""
    parser = Arguments(prog="%%ml_run", add_help=False)
    parser.add_argument("where", nargs="?", choices=["cloud"])
    parser.add_argument("-name", default=None)
    return parser


def one_name(magic: str, line: str) -> str:
    """Return the one word that a line must be.

    Raises:
        NotebookError: if it is none or several.
    """
    words = line.split()
    if len(words) != 1:
        raise NotebookError(f"{magic} wants the name of a classifier. Received: {line.strip()!r}")
    return words[0]


def read_values(words: Sequence[str]) -> dict[str, JsonValue]:
    """Return run parameters, given as `KEY=VALUE`, by name.

    Raises:
        NotebookError: if one is no such pair.
    """
    pairs = [word.partition("=") for word in words]
    for key, equals, value in pairs:
        if not key or not equals:
            raise NotebookError(f"%graft_run: parameters are KEY=VALUE. Received: {key + equals + value!r}")
    return {key: parse_yaml(value) for key, _, value in pairs}


def read_requirements(text: str) -> list[str]:
    """Return `install_requires` of the dict below `%%ml_init`.

    Raises:
        NotebookError: if it is no dict of literals with that key alone.
    """
    if not text.strip():
        return []
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError) as error:
        raise NotebookError(
            "%%ml_init: below it stands a dict of plain values, such as {'install_requires': ['h5py']}. "
            f"Received: {text.strip()!r}"
        ) from error
    requires = value.get("install_requires") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(requires, list) or not all(isinstance(name, str) for name in requires):
        raise NotebookError(
            "%%ml_init: the dict has one key, `install_requires`, a list of requirements. "
            f"Received: {value!r}"
        )
    return requires
