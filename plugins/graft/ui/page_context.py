"""The context of a page: the artifact cache, and a pool of connections to the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends

from graft.hooks.ml_engine import MLEngineHook, connect, find_endpoint
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Settings
from pipeline.errors import PlatformError
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.storage import Storage

if TYPE_CHECKING:
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.ml_engine.resources import Version

TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the engine serves.

    Args:
        versions: Default version by model.
        traffic: Predictions by model; None where the engine does not count them.
        problem: The error, if the engine did not answer.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    traffic: Mapping[str, int] | None = None
    problem: str | None = None


class PageContext:
    """The artifact cache and a pool of connections to the engine.

    Args:
        cache: Reads the workspace.
    """

    def __init__(self, cache: ArtifactCache) -> None:
        self.cache = cache
        self._idle: deque[MLEngine] = deque()

    @contextmanager
    def engine(self) -> Iterator[MLEngine]:
        """Lend a client to one thread; one that failed is not used again."""
        engine = self._idle.pop() if self._idle else self._connect()
        try:
            yield engine
        except BaseException:
            engine.close()
            raise
        self._idle.append(engine)

    def serving(self) -> Serving:
        """Return what serves and its traffic, or the error if the engine does not answer."""
        from pipeline.deploy.staging import is_staging
        from pipeline.ml_engine.protocol import default_version, resource_id
        from pipeline.pages.traffic import count_predictions

        try:
            with self.engine() as engine:
                models = engine.list_models()
                metrics = engine.read_metrics()
        except PlatformError as error:
            return Serving(problem=str(error))
        defaults = {
            name: default_version(model) for model in models if not is_staging(name := resource_id(model))
        }
        return Serving(
            versions={model: version for model, version in defaults.items() if version},
            traffic=None if metrics is None else count_predictions(metrics),
        )

    def versions(self, name: str) -> tuple[list[Version], str | None]:
        """Return the versions of a model, and the error if the engine does not answer."""
        try:
            with self.engine() as engine:
                return engine.list_versions(name), None
        except PlatformError as error:
            return [], str(error)

    def endpoint(self) -> tuple[str, str]:
        """Return the address and the project of the engine."""
        return find_endpoint(MLEngineHook.get_connection(MLEngineHook.default_conn_name))

    def _connect(self) -> MLEngine:
        """Connect without retries: a person waits, and can load the page again."""
        connection = MLEngineHook().get_connection(MLEngineHook.default_conn_name)
        return connect(connection, timeout_seconds=TIMEOUT_SECONDS, patience_seconds=0)


@cache
def get_page_context() -> PageContext:
    """Return the context that all requests of this process share."""
    return PageContext(ArtifactCache(Workspace(Storage.from_environment(), Settings().workspace)))


PageContextDep = Annotated[PageContext, Depends(get_page_context)]
