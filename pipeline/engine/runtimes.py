"""The runtimes behind `runtimeVersion`: one for each TensorFlow minor version that this engine can run.

A job runs in its runtime, so the engine must have it. A version of a model is a graph: the newest runtime
serves those of every older one, whatever Python they were made with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import ConfigError, InvalidArgument
from pipeline.ml_v1 import RUNTIME_VERSION

MINOR = re.compile(r"([0-9]{1,2})\.([0-9]{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One environment that jobs and versions run in."""

    name: str
    python: str
    tensorflow: str
    keras: str


RUNTIMES = {
    RUNTIME_VERSION: Runtime(name=RUNTIME_VERSION, python="3.11", tensorflow=RUNTIME_VERSION, keras="3.15")
}


def read_aliases(text: str) -> dict[str, str]:
    """Return which runtime stands for which other one, from `1.15=2.21,2.1=2.21`.

    Raises:
        ConfigError: if that is not the form, or a target is no runtime of this engine.
    """
    aliases = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, target = (part.strip() for part in pair.partition("="))
        if not name or target not in RUNTIMES:
            raise ConfigError(
                f"GRAFT_ENGINE_RUNTIME_ALIASES is a list such as 1.15=2.21,2.1=2.21 whose targets are "
                f"{', '.join(RUNTIMES)}. Received: {pair!r}"
            )
        aliases[name] = target
    return aliases


def find_runtime(
    name: str | None, python: str | None, *, where: str, aliases: Mapping[str, str] | None = None
) -> Runtime:
    """Return the runtime of a job; no name means the default one.

    Args:
        name: Its `runtimeVersion`.
        python: Its `pythonVersion`; with an alias, any.
        where: The input that has both.
        aliases: Names that stand for runtimes, from the settings.

    Raises:
        InvalidArgument: if the name is unknown (the message lists the known ones) or Python is another one.
    """
    alias = (aliases or {}).get(name or "")
    runtime = RUNTIMES.get(alias or name or RUNTIME_VERSION)
    if runtime is None:
        raise _unknown(name, where)
    if python is not None and python != runtime.python and not alias:
        raise InvalidArgument(
            f"Runtime {runtime.name} has Python {runtime.python}. Received: {python!r}",
            field=f"{where}.python_version",
        )
    return runtime


def find_serving_runtime(
    name: str | None, *, where: str, aliases: Mapping[str, str] | None = None
) -> Runtime:
    """Return the runtime that serves a version: that of its name, or the newest for an older name.

    Raises:
        InvalidArgument: if the name is neither a runtime nor older than one.
    """
    if name and name not in (aliases or {}) and _is_older(name):
        return RUNTIMES[RUNTIME_VERSION]
    return find_runtime(name, None, where=where, aliases=aliases)


def _is_older(name: str) -> bool:
    ours, theirs = MINOR.fullmatch(RUNTIME_VERSION), MINOR.fullmatch(name)
    if ours is None or theirs is None:
        return False
    return tuple(map(int, theirs.groups())) < tuple(map(int, ours.groups()))


def _unknown(name: str | None, where: str) -> InvalidArgument:
    names = ", ".join(f"{row.name} (Python {row.python}, Keras {row.keras})" for row in RUNTIMES.values())
    return InvalidArgument(
        f"The runtime version is not supported; known: {names}. Received: {name!r}. "
        "GRAFT_ENGINE_RUNTIME_ALIASES may name one that stands for it.",
        field=f"{where}.runtime_version",
    )
