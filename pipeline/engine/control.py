"""The engine's only door: what the rest of `pipeline` may use of it. Everything else goes over HTTP."""

from __future__ import annotations

from pathlib import Path

from pipeline.engine.backends.local import stop_all_jobs
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.settings import EngineSettings

__all__ = ["EngineSettings", "Sandbox", "engine_arguments", "stop_all_jobs"]


def engine_arguments(*, host: str, port: int, home: Path) -> tuple[str, ...]:
    """Return the arguments of a Python that serves the engine of a home."""
    return ("-m", "pipeline.engine", "--host", host, "--port", str(port), "--home", str(home))
