"""The trunks of an engine: started for the first version that needs one, ended some time after the last."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from pipeline.engine.serving.process import WorkerProcess
from pipeline.engine.serving.trunk.head_file import HEADS, NETWORK, SPEC
from pipeline.engine.serving.trunk.server import TrunkServer, TrunkVersion
from pipeline.tflite.manifest import TFLiteManifest
from pipeline.tflite.parts import copy_network, network_digest

log = logging.getLogger(__name__)

StartIn: TypeAlias = Callable[[str, Path], Awaitable[WorkerProcess]]  # a name for logs, a trunk's directory


def trunk_name(manifest: TFLiteManifest) -> str:
    """Return the name of the trunk that serves a model: versions with one network and pixels share it."""
    text = f"{network_digest(manifest)} {manifest.spec.digest}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Trunks:
    """Trunk servers by name.

    Args:
        directory: Where their files lie; emptied here.
        start: Starts a process.
        num_processes: How many processes each trunk has.
        load_seconds: How long a head may take to load.
        idle_seconds: How long a trunk runs on after its last version is gone.
    """

    def __init__(
        self,
        directory: Path,
        start: StartIn,
        *,
        num_processes: int = 1,
        load_seconds: float = 180,
        idle_seconds: float = 300,
    ) -> None:
        self._directory = directory
        self._start_in = start
        self._num_processes = num_processes
        self._load_seconds = load_seconds
        self._idle_seconds = idle_seconds
        self._starting = asyncio.Lock()
        self._running: dict[str, TrunkServer] = {}
        self._ending: set[asyncio.Task[None]] = set()
        shutil.rmtree(directory, ignore_errors=True)  # what an engine that was killed left

    async def load(self, directory: Path, manifest: TFLiteManifest) -> TrunkVersion:
        """Serve a model, starting its trunk if it does not run.

        Raises:
            TFLiteUnavailable: if a file of the model is not the one in its manifest.
            FailedPrecondition: if the trunk or the head cannot be loaded.
        """
        name = trunk_name(manifest)
        async with self._starting:
            trunk = self._running.get(name)
            if trunk is None:
                trunk = self._running[name] = await self._start(name, directory, manifest)
        return await trunk.add(directory, manifest)

    async def _start(self, name: str, model: Path, manifest: TFLiteManifest) -> TrunkServer:
        directory = self._directory / name
        await asyncio.to_thread(write_trunk, model, manifest, directory)
        start = partial(self._start_in, f"trunk-{name}", directory)
        unused = partial(self._plan_end, name)
        trunk = TrunkServer(
            name,
            directory / HEADS,
            start,
            load_seconds=self._load_seconds,
            num_processes=self._num_processes,
            on_unused=unused,
        )
        try:
            await trunk.start()
        except BaseException:
            await trunk.close()
            raise
        return trunk

    def _plan_end(self, name: str) -> None:
        asyncio.get_running_loop().call_later(self._idle_seconds, self._end_unused, name)

    def _end_unused(self, name: str) -> None:
        trunk = self._running.get(name)
        if trunk is None or trunk.is_used:
            return
        log.info("The trunk %s is not used any more; it is ended.", name)
        task = asyncio.create_task(self._running.pop(name).close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all trunks."""
        trunks, self._running = list(self._running.values()), {}
        await asyncio.gather(*(trunk.close() for trunk in trunks), *self._ending)


def write_trunk(model: Path, manifest: TFLiteManifest, directory: Path) -> None:
    """Write the files of a trunk, its network copied from a model: a link would change with the model's.

    Raises:
        TFLiteUnavailable: if the network is not the one in the manifest.
    """
    (directory / HEADS).mkdir(parents=True, exist_ok=True)
    copy_network(model, manifest, directory / NETWORK)
    (directory / SPEC).write_text(json.dumps(manifest.spec.to_dict()))
