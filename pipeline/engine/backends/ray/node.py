"""Runs one attempt of a job on the node of Ray that has it, as the local backend would.

`python -P -m pipeline.engine.backends.ray.node JOB_URI --buckets=NAME=ADDRESS,...` is the entrypoint of the
submission. Graft and what the buckets need (keys, in the environment) are the node's own. It
  1. claims the attempt in the bucket, and refuses it if the engine has another version of Graft;
  2. runs it under a supervisor in a scratch directory of its own: packages, sandbox and limits as locally;
  3. sends its log and its metrics while it runs;
  4. ends it on SIGTERM, and when the engine has recorded an ending; it also ends when this process does;
  5. writes how it ended, when nothing of it is left.
A job with several replicas runs on the nodes that Ray has for them; this one starts and watches them.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pipeline
from pipeline.engine.backends import Backend, RunState, RunStatus
from pipeline.engine.backends.local import LocalBackend
from pipeline.engine.backends.ray.group_backend import GroupBackend
from pipeline.engine.backends.run_files import AttemptFiles, Ending, JobFile
from pipeline.engine.backends.run_report import RunRecord, RunReport
from pipeline.errors import PipelineError
from pipeline.storage import Storage
from pipeline.storage.addresses import parse_buckets

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.5
ENDING_SECONDS = 10.0  # between two looks whether the engine has recorded an ending
RECORD_SECONDS = 300.0  # for a bucket that does not answer when all is over
CLAIMED, LOST = 3, 4  # exit statuses without a record


class NodeJob:
    """One attempt on this node, or one replica of it.

    Args:
        files: Take what becomes known of it: an attempt's files in the bucket.
        job: What to run.
        backend: Runs it here.
    """

    def __init__(self, files: RunRecord, job: JobFile, backend: Backend) -> None:
        self._files = files
        self._run_id = job.job.run_id
        self._job = job.job
        self._backend = backend
        self._report = RunReport(files, backend, self._run_id, limit=job.limits().job_log_bytes)
        self._next_look = 0.0
        self.stopping = asyncio.Event()

    async def run(self) -> Ending | None:
        """Run it to its end; return how it ended, None if its processes were lost."""
        try:
            await self._backend.start(self._job)
        except (PipelineError, OSError) as error:
            return Ending(code=1, problem=str(error), ended=time.time())
        while not (status := await self._status()).is_over and not self.stopping.is_set():
            await self._send(status)
            if await self._is_ended_by_engine():
                break
            await _wait(self.stopping, WATCH_SECONDS)
        await self._backend.stop(self._run_id)
        status = await self._status()
        await _insist(lambda: self._report.note_start(status))  # it may have ended between two looks
        await _insist(self._report.send_rest)
        if status.state == RunState.EXITED:
            return Ending.of(status)
        return replace(Ending.of(status), is_lost=True) if status.problem else None

    async def _status(self) -> RunStatus:
        return (await self._backend.statuses([self._run_id]))[self._run_id]

    async def _send(self, status: RunStatus) -> None:
        """Send what is new; what fails is sent later."""
        try:
            await self._report.note_start(status)
            if self._report.is_due:
                await self._report.send_piece()
        except PipelineError as error:
            log.warning("The bucket does not take the log at the moment: %s", error)
            self._report.delay(ENDING_SECONDS)

    async def _is_ended_by_engine(self) -> bool:
        """Return True if the engine stopped it, or gave it up as lost while this node was cut off."""
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + ENDING_SECONDS
        try:
            return await asyncio.to_thread(self._files.ending) is not None
        except PipelineError as error:
            log.warning("The bucket does not answer at the moment: %s", error)
            return False


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


async def _insist(work: Callable[[], object]) -> None:
    """Do what must not be lost to a bucket that does not answer for a while."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        try:
            result = work()
            if asyncio.iscoroutine(result):
                await result
        except PipelineError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("It is tried again: %s", error)
            await asyncio.sleep(WATCH_SECONDS)
        else:
            return


def mismatch(job: JobFile) -> str:
    """Return why this node must not run a job; empty if it may."""
    if job.version == pipeline.__version__:
        return ""
    return (
        f"The node {socket.gethostname()} has Graft {pipeline.__version__}, the engine has {job.version}. "
        "Install the same version in the environment or the image of Ray's nodes."
    )


def listen_to_signals(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    """Have a run end on SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


def _backend(job: JobFile, storage: Storage, scratch: Path, words: list[str]) -> Backend:
    settings = job.limits()
    if job.job.replicas:
        return GroupBackend(settings, scratch, words)
    return LocalBackend(scratch, storage, settings, workspace=job.workspace, owner=os.getpid())


async def run(files: AttemptFiles, job: JobFile, backend: Backend) -> int:
    """Run an attempt that this node has claimed; return the exit status of the entrypoint."""
    if problem := mismatch(job):
        ending: Ending | None = Ending(code=1, problem=problem, ended=time.time())
    else:
        work = NodeJob(files, job, backend)
        listen_to_signals(asyncio.get_running_loop(), work.stopping)
        ending = await work.run()
    if ending is None:
        log.error("The processes of the job are gone and left no exit code.")
        return LOST
    await _insist(lambda: files.end(ending))
    log.info("It ended with status %s. %s", ending.code, ending.problem)
    return 0


@contextmanager
def open_attempt(words: list[str]) -> Iterator[tuple[AttemptFiles, Storage, Path]]:
    """Open the attempt that a command line names; its scratch directory goes with it."""
    parser = argparse.ArgumentParser(description="Run a job's attempt, or a replica of it.")
    parser.add_argument("job", help="URI of its job.json")
    parser.add_argument("--buckets", default="", help="what buckets stand for, as GRAFT_BUCKETS says it")
    arguments = parser.parse_args(words)
    scratch = Path(tempfile.mkdtemp(prefix="graft-job-"))
    os.environ |= {"GRAFT_BUCKETS": arguments.buckets, "GRAFT_HOME": str(scratch)}
    try:
        storage = Storage(parse_buckets(arguments.buckets), cache=scratch / "cache")
        yield AttemptFiles(storage, arguments.job.rpartition("/")[0]), storage, scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main(words: list[str]) -> int:
    """Run the attempt that the command line names; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="graft: %(message)s")
    with open_attempt(words) as (files, storage, scratch):
        job = files.read_job()
        if job is None:
            log.error("There is no %s in the bucket that this node reaches.", files.job_uri)
            return 1
        if not files.claim(socket.gethostname()):
            log.error("Another start of this attempt has it: %s", files.job_uri)
            return CLAIMED
        return asyncio.run(run(files, job, _backend(job, storage, scratch, words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
