from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
import uvicorn

from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.pool import ProcessPool, worker_environment
from pipeline.engine.serving.process import WorkerProcess
from pipeline.errors import FailedPrecondition, NotFound, Unavailable

ECHO = """
import sys
from pipeline.engine.serving.messages import READY, WorkerReply, WorkerRequest
from pipeline.engine.serving.wire import read_frame_blocking
from pipeline.errors import NotFound
sys.stdout.buffer.write(WorkerReply().to_frame(READY).to_bytes())
while True:
    sys.stdout.flush()
    frame = read_frame_blocking(sys.stdin.buffer)
    request = WorkerRequest.from_frame(frame)
    if request.payload == b"die":
        sys.exit(1)
    if request.payload == b"hang":
        continue
    error = NotFound("gone", field="name") if request.payload == b"fail" else None
    reply = WorkerReply(payload=request.payload, batches=[1], error=error)
    sys.stdout.buffer.write(reply.to_frame(frame.header["id"]).to_bytes())
"""


def online(payload: bytes) -> WorkerRequest:
    return WorkerRequest(kind=RequestKind.ONLINE, payload=payload)


async def start_echo() -> WorkerProcess:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ECHO, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    worker = WorkerProcess("echo", process)
    await worker.ready
    return worker


def test_concurrent_requests_get_their_own_replies():
    async def run():
        worker = await start_echo()
        payloads = [bytes([number]) * 50_000 for number in range(20)]
        replies = await asyncio.gather(*(worker.ask(online(payload)) for payload in payloads))
        await worker.close()
        assert [reply.payload for reply in replies] == payloads
        assert not psutil.pid_exists(worker.pid)

    asyncio.run(run())


def test_the_error_of_a_worker_is_raised_in_the_engine():
    async def run():
        worker = await start_echo()
        with pytest.raises(NotFound, match="gone") as caught:
            await worker.ask(online(b"fail"))
        await worker.close()
        assert caught.value.field == "name"

    asyncio.run(run())


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_crash_is_told_from_a_kill(is_killed):
    async def run():
        worker = await start_echo()
        asking = asyncio.create_task(worker.ask(online(b"hang" if is_killed else b"die")))
        await asyncio.sleep(0.05)
        if is_killed:
            worker.kill()
        with pytest.raises(Unavailable):
            await asking
        worker.kill()  # a second time changes nothing
        assert worker.has_crashed is not is_killed

    asyncio.run(run())


def test_a_worker_that_dies_fails_its_open_and_its_later_requests():
    async def run():
        worker = await start_echo()
        for _ in range(2):
            with pytest.raises(Unavailable, match="The worker of echo stopped"):
                await worker.ask(online(b"die"))
        assert worker.closed.is_set()
        await worker.close()

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvicorn.Config("app").get_loop_factory()])
def test_a_request_to_a_worker_that_was_just_killed_is_unavailable_and_leaves_nothing(new_loop, caplog):
    async def run():
        worker = await start_echo()
        os.kill(worker.pid, signal.SIGKILL)
        for _ in range(20):  # some before the loop knows, some when the pipe is closed, some after that
            with pytest.raises(Unavailable):
                await worker.ask(online(b"x" * 100_000))
            assert worker.closed.is_set() or worker._waiting == {}
            await asyncio.sleep(0.001)
        assert worker.closed.is_set()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    gc.collect()
    assert "never retrieved" not in caplog.text


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
