"""The routing table of predictions, in memory; `setDefault` swaps an entry. No database on this path."""

from __future__ import annotations

import asyncio

from pipeline.engine.serving.deployment import Deployment
from pipeline.engine.v1.resources import VersionPatch
from pipeline.errors import FailedPrecondition, NotFound


class Router:
    """Models and versions by name.

    Versions that share a trunk stay loaded. Of those with a process of their own the default of each model
    does, and its former default, for a rollback; so do versions with `minNodes` above 0. Of the others only
    the most recently used do: a model that is retrained every day would fill the memory. A version with
    `minNodes` 0 is unloaded when idle.

    Args:
        num_warm: How many others stay loaded, over all models.
    """

    def __init__(self, *, num_warm: int) -> None:
        self._num_warm = num_warm
        self._versions: dict[tuple[str, str], Deployment] = {}
        self._not_ready: dict[tuple[str, str], str] = {}  # versions that are not served, and why
        self._defaults: dict[str, str | None] = {}
        self._former: dict[str, str | None] = {}  # the target of a rollback
        self._trimming: set[asyncio.Task[None]] = set()

    def add_model(self, model: str, default: str | None = None) -> None:
        """Add a model, or set its default version."""
        before = self._defaults.get(model)
        if before != default:
            self._former[model] = before
        self._defaults[model] = default
        deployment = self._versions.get((model, default or ""))
        if deployment is not None and deployment.min_nodes != 0:
            deployment.supervise()
        self._trim()

    def remove_model(self, model: str) -> None:
        """Remove a model."""
        self._defaults.pop(model, None)
        self._former.pop(model, None)

    def add(self, model: str, version: str, deployment: Deployment) -> None:
        """Route the predictions of a version to its deployment."""
        self._versions[model, version] = deployment
        self._not_ready.pop((model, version), None)
        if deployment.min_nodes or (self._defaults.get(model) == version and deployment.min_nodes is None):
            deployment.supervise()
        self._trim()

    def refuse(self, model: str, version: str, why: str) -> None:
        """Answer the predictions of a version that is not served, with its state and its error."""
        self._not_ready[model, version] = why

    def _trim(self) -> None:
        task = asyncio.create_task(self._unload_unused())
        self._trimming.add(task)
        task.add_done_callback(self._trimming.discard)

    async def _unload_unused(self) -> None:
        others = [
            deployment
            for (model, version), deployment in self._versions.items()
            if deployment.is_loaded
            and not deployment.is_shared
            and not deployment.min_nodes
            and version not in (self._defaults.get(model), self._former.get(model))
        ]
        unused = sorted(others, key=lambda deployment: deployment.last_used, reverse=True)[self._num_warm :]
        await asyncio.gather(*(deployment.unload() for deployment in unused))

    def versions(self) -> list[tuple[str, str, Deployment]]:
        """Return every version with its model's and its own name."""
        return [(model, version, deployment) for (model, version), deployment in self._versions.items()]

    def loading(self) -> list[str]:
        """Return the default versions that are being loaded for the first time."""
        return [
            deployment.name
            for (model, version), deployment in self._versions.items()
            if self._defaults.get(model) == version and deployment.is_loading
        ]

    def runtime(self, model: str, version: str) -> str:
        """Return the runtime of a version when it was last loaded; empty if it never was."""
        deployment = self._versions.get((model, version))
        return deployment.runtime if deployment is not None else ""

    def configure(self, model: str, version: str, spec: VersionPatch) -> None:
        """Apply the scaling and the request logging of a changed version."""
        deployment = self._versions.get((model, version))
        if deployment is not None:
            deployment.request_logging = spec.request_logging_config
            deployment.scale(spec.min_nodes)
            self.add(model, version, deployment)

    def remove(self, model: str, version: str) -> Deployment | None:
        """Route no more predictions to a version."""
        self._not_ready.pop((model, version), None)
        return self._versions.pop((model, version), None)

    def find(self, model: str, version: str | None = None) -> Deployment:
        """Return the deployment of a version, or of the model's default.

        Raises:
            NotFound: if there is no such model or version.
            FailedPrecondition: if the model has no version yet, or the version is not READY.
        """
        if model not in self._defaults:
            raise NotFound("The specified model was not found.", field="name")
        version = version or self._defaults[model]
        if version is None:
            whys = [why for (name, _), why in self._not_ready.items() if name == model]
            reason = f": {whys[-1]}" if whys else "; create a version first."
            raise FailedPrecondition(f"Model {model} has no default version{reason}", field="name")
        deployment = self._versions.get((model, version))
        if deployment is None:
            if why := self._not_ready.get((model, version)):
                raise FailedPrecondition(why, field="name")
            raise NotFound("The specified version was not found or is not ready.", field="name")
        if not deployment.is_loaded:
            deployment.supervise()
            self._trim()
        return deployment

    async def close(self) -> None:
        """Stop all workers."""
        deployments, self._versions = list(self._versions.values()), {}
        await asyncio.gather(*(deployment.close() for deployment in deployments))
