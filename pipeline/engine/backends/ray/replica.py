"""Runs one replica of an attempt on the node that has it, as the local backend would.

`python -P -m pipeline.engine.backends.ray.replica JOB_URI --buckets=NAME=ADDRESS,...` is started by
`placement`, in Graft's environment. It reads its name and the addresses of all replicas from standard input,
a line of JSON, and ends the replica when that closes. What happens goes to standard output, a line each:

    {"started": SECONDS}     when its program began
    {"log": BASE64}          what it printed
    {"metrics": BASE64}      the end of the file to which it reports metrics
    {"ending": {...}}        how it ended; null if its processes are gone
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from pipeline.engine.backends.local import LocalBackend
from pipeline.engine.backends.ray.node import NodeJob, listen_to_signals, mismatch, open_attempt
from pipeline.engine.backends.ray.replicas import replica_config
from pipeline.engine.backends.run_files import Ending, JobFile
from pipeline.storage import Storage
from pipeline.types import JsonValue


class Channel:
    """What `NodeJob` writes, as lines for the node that has the attempt.

    Args:
        output: Where the lines go.
    """

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def send(self, **message: JsonValue) -> None:
        """Write one line."""
        self._output.write(f"{json.dumps(message)}\n".encode())

    def note_start(self, started: float) -> None:
        """Say when its program began."""
        self.send(started=started)

    def write_log(self, start: int, data: bytes) -> None:
        """Send a piece of its log."""
        self.send(log=base64.b64encode(data).decode())

    def write_metrics(self, data: bytes) -> None:
        """Send the end of its metric file."""
        self.send(metrics=base64.b64encode(data).decode())

    def ending(self) -> Ending | None:
        """Return None: the node that has the attempt knows when it is to end."""
        return None


async def run(job: JobFile, storage: Storage, scratch: Path, channel: Channel) -> Ending | None:
    """Run the replica that the first line of standard input names."""
    own = await asyncio.to_thread(sys.stdin.readline)
    if not own:  # nobody wants it any more
        return None
    plan = json.loads(own)
    if problem := mismatch(job):
        return Ending(code=1, problem=problem, ended=time.time())
    config = replica_config(job.job, plan["name"], plan["addresses"])
    mine = replace(job, job=replace(job.job, tf_config=config))
    settings = job.limits().model_copy(update={"job_restarts": 0})  # the whole job is run again, if at all
    backend = LocalBackend(scratch, storage, settings, workspace=job.workspace, owner=os.getpid())
    work = NodeJob(channel, mine, backend)
    loop = asyncio.get_running_loop()
    listen_to_signals(loop, work.stopping)
    threading.Thread(target=_wait_for_end, args=(loop, work.stopping), daemon=True).start()
    return await work.run()


def _wait_for_end(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    sys.stdin.read()
    loop.call_soon_threadsafe(stopping.set)


def main(words: list[str]) -> int:
    """Run one replica; return the exit status."""
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what else is printed is for Ray's log
    logging.basicConfig(level=logging.INFO, format="graft: %(message)s")
    channel = Channel(output)
    with open_attempt(words) as (files, storage, scratch):
        job = files.read_job()
        if job is None:
            channel.send(ending=asdict(Ending(code=1, problem=f"This node does not see {files.job_uri}.")))
            return 1
        ending = asyncio.run(run(job, storage, scratch, channel))
    channel.send(ending=asdict(ending) if ending else None)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # a thread may be reading standard input
