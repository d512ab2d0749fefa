"""The runtimes behind `runtimeVersion`: one for each TensorFlow minor version that this engine can run."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InvalidArgument
from pipeline.ml_v1 import RUNTIME_VERSION


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


def find_runtime(name: str | None, python: str | None, *, where: str) -> Runtime:
    """Return the runtime of this name; no name means the default one.

    Raises:
        InvalidArgument: if the name is unknown (the message lists the known ones) or Python is another one.
    """
    runtime = RUNTIMES.get(name or RUNTIME_VERSION)
    if runtime is None:
        names = ", ".join(f"{row.name} (Python {row.python}, Keras {row.keras})" for row in RUNTIMES.values())
        raise InvalidArgument(
            f"The runtime version is not supported; known: {names}. Received: {name!r}",
            field=f"{where}.runtime_version",
        )
    if python is not None and python != runtime.python:
        raise InvalidArgument(
            f"Runtime {runtime.name} has Python {runtime.python}. Received: {python!r}",
            field=f"{where}.python_version",
        )
    return runtime
