from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.engine.serving.pool import ProcessPool, WorkerProcess, worker_environment
from pipeline.errors import FailedPrecondition, NotFound, Unavailable

ECHO = """
import sys
from pipeline.engine.serving.wire import Frame, read_frame_blocking
sys.stdout.buffer.write(Frame({"id": 0}).to_bytes())
while True:
    sys.stdout.flush()
    frame = read_frame_blocking(sys.stdin.buffer)
    if frame is None or frame.header["kind"] == "die":
        sys.exit(1)
    header = {"id": frame.header["id"]}
    if frame.header["kind"] == "fault":
        header["fault"] = {"kind": "NotFound", "message": "gone", "field": "name"}
    sys.stdout.buffer.write(Frame(header, frame.payload).to_bytes())
"""


async def start_echo() -> WorkerProcess:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    worker = WorkerProcess("echo", process)
    await worker.ready
    return worker


def test_many_requests_at_once_get_their_own_answers():
    async def run():
        worker = await start_echo()
        payloads = [bytes([number]) * 50_000 for number in range(20)]
        answers = await asyncio.gather(*(worker.ask("online", payload) for payload in payloads))
        await worker.close()
        assert [answer.payload for answer in answers] == payloads
        assert not psutil.pid_exists(worker.pid)

    asyncio.run(run())


def test_a_fault_of_the_worker_is_raised_here():
    async def run():
        worker = await start_echo()
        with pytest.raises(NotFound, match="gone") as caught:
            await worker.ask("fault", b"")
        await worker.close()
        assert caught.value.field == "name"

    asyncio.run(run())


def test_a_worker_that_dies_fails_what_waits_for_it_and_what_comes_later():
    async def run():
        worker = await start_echo()
        for _ in range(2):
            with pytest.raises(Unavailable, match="The worker of echo stopped"):
                await worker.ask("die", b"")
        assert worker.closed.is_set()
        await worker.close()

    asyncio.run(run())


def test_a_model_that_takes_too_long_is_refused_and_its_process_ended(tmp_path):
    async def run():
        pool = ProcessPool(tmp_path / "logs", start_seconds=0.01)
        with pytest.raises(FailedPrecondition, match="not ready after 0 s"):
            await pool.load("m/v", tmp_path)

    asyncio.run(run())
    assert psutil.Process().children() == []
    assert (tmp_path / "logs" / "worker-m-v.log").exists()


def test_a_worker_sees_no_secrets():
    environ = {"PATH": "/bin", "GRAFT_TOKEN": "t", "GOOGLE_APPLICATION_CREDENTIALS": "c"}
    env = worker_environment(environ, Path("/source"))
    assert set(env) == {"PATH", "PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"}
