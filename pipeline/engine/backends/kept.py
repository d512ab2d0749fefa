"""Jobs of this machine whose logs and ends outlive it: they are in the workspace's bucket, too.

`<workspace>/engine/local/<run>/` has files of `run_files`, as a run on Ray has them. The engine that leads
writes them. Every engine of the database reads them where the run is none of its own machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import replace

from pipeline.engine.backends import Backend, RunState, RunStatus, TrainingJob
from pipeline.engine.backends.run_files import AttemptFiles, Ending
from pipeline.engine.backends.run_log import RunLog
from pipeline.engine.backends.run_report import RunReport
from pipeline.errors import PipelineError
from pipeline.storage import Storage

log = logging.getLogger(__name__)

DELAY_SECONDS = 10.0  # for a bucket that takes nothing


class KeptBackend:
    """A backend of one machine, with the logs and the ends of its runs in the bucket.

    Args:
        backend: Runs jobs on this machine.
        storage: Has the bucket.
        workspace: URI of the workspace.
        log_bytes: Most bytes of a log that are kept.
    """

    is_local = True
    has_replicas = False

    def __init__(self, backend: Backend, storage: Storage, *, workspace: str, log_bytes: int) -> None:
        self._backend = backend
        self._storage = storage
        self._workspace = workspace
        self._log_bytes = log_bytes
        self._reports: dict[str, RunReport] = {}
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def poll_seconds(self) -> float:
        """How long to wait between two calls of `statuses`."""
        return self._backend.poll_seconds

    def _files(self, run: str) -> AttemptFiles:
        return AttemptFiles(self._storage, f"{self._workspace}/engine/local/{run}")

    async def _own_status(self, run: str) -> RunStatus:
        return (await self._backend.statuses([run]))[run]

    async def _is_own(self, run: str) -> bool:
        return (await self._own_status(run)).state != RunState.ABSENT

    async def start(self, job: TrainingJob) -> None:
        """Launch the job; do nothing when it was launched before, or has ended on another machine."""
        if await self._is_own(job.run_id) or await self._ending(job.run_id) is None:
            await self._backend.start(job)

    async def _ending(self, run: str) -> Ending | None:
        return await asyncio.to_thread(self._files(run).ending)

    async def statuses(self, runs: Collection[str]) -> Mapping[str, RunStatus]:
        """Return the state of each of the runs, and send what those of this machine have printed.

        One that has left this machine, or never was on it, has ended if the bucket says so.
        """
        statuses = dict(await self._backend.statuses(runs))
        for run, status in statuses.items():
            if status.state == RunState.ABSENT and (ending := await self._ending(run)) is not None:
                statuses[run] = ending.status
        living = [run for run, status in statuses.items() if status.state == RunState.RUNNING]
        due = [run for run in living if run not in self._reports or self._reports[run].is_due]
        if due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send({run: statuses[run] for run in due}))
        return statuses

    async def _report(self, run: str) -> RunReport:
        """Return what sends a run's log; one that an engine before this one began goes on."""
        if run not in self._reports:
            files = self._files(run)
            pieces = await asyncio.to_thread(files.log_pieces)
            sent = pieces[-1].start + pieces[-1].length if pieces else 0
            self._reports[run] = RunReport(files, self._backend, run, limit=self._log_bytes, num_sent=sent)
        return self._reports[run]

    async def _send(self, statuses: Mapping[str, RunStatus]) -> None:
        for run, status in statuses.items():
            async with self._sending:
                if (await self._own_status(run)).state != RunState.RUNNING:
                    continue  # it ended while others were sent, and its log is complete
                try:
                    report = await self._report(run)
                    await report.note_start(status)
                    await report.send_piece()
                except (PipelineError, OSError) as error:
                    log.warning("The bucket does not take the log of %s at the moment: %s", run, error)
                    if run in self._reports:
                        self._reports[run].delay(DELAY_SECONDS)

    async def stop(self, run: str) -> None:
        """End the job and everything it started, and record in the bucket how it ended."""
        await self._backend.stop(run)
        status = await self._own_status(run)
        if not status.is_over:
            return
        async with self._sending:
            try:
                await self._record(run, status)
            except (PipelineError, OSError) as error:
                log.warning("The log and the end of %s are on this machine only: %s", run, error)
            self._reports.pop(run, None)

    async def _record(self, run: str, status: RunStatus) -> None:
        if await self._ending(run) is not None:
            return
        report = await self._report(run)
        await report.note_start(status)
        await report.send_rest()
        ending = replace(Ending.of(status), is_lost=status.state == RunState.VANISHED)
        await asyncio.to_thread(self._files(run).end, ending)

    async def _kept_log(self, run: str) -> RunLog:
        return RunLog(attempts=(tuple(await asyncio.to_thread(self._files(run).log_pieces)),))

    async def log_size(self, run: str) -> int:
        """Return how many bytes the job has printed so far."""
        if await self._is_own(run):
            return await self._backend.log_size(run)
        return (await self._kept_log(run)).size

    async def log(self, run: str, start: int, length: int) -> bytes:
        """Return some of what the job has printed."""
        if await self._is_own(run):
            return await self._backend.log(run, start, length)
        kept = await self._kept_log(run)
        return await asyncio.to_thread(kept.read, self._storage, start, length)

    async def metrics(self, run: str) -> bytes:
        """Return the end of the file to which the job reports metrics."""
        if await self._is_own(run):
            return await self._backend.metrics(run)
        return await asyncio.to_thread(self._files(run).metrics)
