"""Who answers a prediction: a table in memory, which `setDefault` swaps. No database on this path."""

from __future__ import annotations

import asyncio

from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.telemetry.request_log import Sample
from pipeline.errors import FailedPrecondition, NotFound


class Router:
    """Models and versions by name.

    The default version of each model stays loaded, and its former default, for a roll-back; so do versions
    with nodes of their own. Of the others only those used last do: each costs a process, and a model that is
    retrained every day would fill the memory. A version that is to have no node sleeps when it is idle.

    Args:
        num_warm: How many others stay loaded, over all models.
    """

    def __init__(self, *, num_warm: int) -> None:
        self._num_warm = num_warm
        self._versions: dict[tuple[str, str], Deployment] = {}
        self._defaults: dict[str, str | None] = {}
        self._former: dict[str, str | None] = {}  # what a roll-back goes to
        self._trimming: set[asyncio.Task[None]] = set()

    def add_model(self, model: str, default: str | None = None) -> None:
        """Make a model known, or say which version is its default."""
        before = self._defaults.get(model)
        if before != default:
            self._former[model] = before
        self._defaults[model] = default
        served = self._versions.get((model, default or ""))
        if served is not None and served.min_nodes != 0:
            served.keep()
        self._trim()

    def remove_model(self, model: str) -> None:
        """Forget a model."""
        self._defaults.pop(model, None)
        self._former.pop(model, None)

    def add(self, model: str, version: str, served: Deployment) -> None:
        """Send predictions of a version to a worker."""
        self._versions[model, version] = served
        if served.min_nodes or (self._defaults.get(model) == version and served.min_nodes is None):
            served.keep()
        self._trim()

    def _trim(self) -> None:
        task = asyncio.create_task(self._unload_unused())
        self._trimming.add(task)
        task.add_done_callback(self._trimming.discard)

    async def _unload_unused(self) -> None:
        others = [
            served
            for (model, version), served in self._versions.items()
            if served.is_loaded
            and not served.min_nodes
            and version not in (self._defaults.get(model), self._former.get(model))
        ]
        unused = sorted(others, key=lambda served: served.last_used, reverse=True)[self._num_warm :]
        await asyncio.gather(*(served.sleep() for served in unused))

    def versions(self) -> list[tuple[str, str, Deployment]]:
        """Return every version with its model's and its own name."""
        return [(model, version, served) for (model, version), served in self._versions.items()]

    def loading(self) -> list[str]:
        """Return the default versions that are being loaded for the first time."""
        return [
            served.name
            for (model, version), served in self._versions.items()
            if self._defaults.get(model) == version and served.is_loading
        ]

    def runtime(self, model: str, version: str) -> str:
        """Return what runs a version, or ran it when it was last loaded; empty if it never was."""
        served = self._versions.get((model, version))
        return served.runtime if served is not None else ""

    def configure(
        self, model: str, version: str, *, min_nodes: int | None, sample: Sample | None = None
    ) -> None:
        """Say how many nodes of a version stay up, and which of its predictions are logged."""
        served = self._versions.get((model, version))
        if served is not None:
            served.sample = sample
            served.scale(min_nodes)
            self.add(model, version, served)

    def remove(self, model: str, version: str) -> Deployment | None:
        """Send no more predictions to a version."""
        return self._versions.pop((model, version), None)

    def find(self, model: str, version: str | None = None) -> Deployment:
        """Return who answers for a version, or for the model's default.

        Raises:
            NotFound: if there is no such model or version.
            FailedPrecondition: if the model has no version yet.
        """
        if model not in self._defaults:
            raise NotFound("The specified model was not found.", field="name")
        version = version or self._defaults[model]
        if version is None:
            raise FailedPrecondition(
                f"Model {model} has no default version; create a version first.", field="name"
            )
        served = self._versions.get((model, version))
        if served is None:
            raise NotFound("The specified version was not found or is not ready.", field="name")
        if not served.is_loaded:
            served.keep()
            self._trim()
        return served

    async def close(self) -> None:
        """Stop all workers."""
        served, self._versions = list(self._versions.values()), {}
        await asyncio.gather(*(version.close() for version in served))
