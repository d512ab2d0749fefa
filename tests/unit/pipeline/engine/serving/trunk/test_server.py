from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.model_files import HEAD, LABELS, TFLITE_NETWORK
from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.process import WorkerProcess
from pipeline.engine.serving.trunk.server import TrunkServer
from pipeline.errors import FailedPrecondition, TFLiteUnavailable, Unavailable
from pipeline.npz import write_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import Head
from pipeline.tflite.manifest import Parity, TFLiteManifest, digest_files

# A process of a trunk that answers each head with its digest, and with how many heads the request had.
TRUNK = """
import json, os, sys
from pathlib import Path
from pipeline.engine.serving.messages import READY, RequestKind, WorkerReply, WorkerRequest
from pipeline.errors import LostHead
from pipeline.engine.serving.in_progress import FILE, InProgress
from pipeline.engine.serving.wire import read_frame_blocking
from pipeline.errors import FailedPrecondition

record = InProgress(Path(sys.argv[1]) / FILE, num_threads=1, max_requests=1)
heads = set()

def send(number, reply):
    sys.stdout.buffer.write(reply.to_frame(number).to_bytes())
    sys.stdout.flush()

send(READY, WorkerReply())
while frame := read_frame_blocking(sys.stdin.buffer):
    request, number = WorkerRequest.from_frame(frame), frame.header["id"]
    if request.kind == RequestKind.ADD_HEADS:
        sources = json.loads(request.payload)
        refused = any(Path(source["path"]).read_bytes().count(b"refused") for source in sources)
        heads |= {source["digest"] for source in sources}
        send(number, WorkerReply(error=FailedPrecondition("refused") if refused else None))
    elif request.kind == RequestKind.DROP_HEADS:
        heads -= set(request.heads)
        send(number, WorkerReply())
    elif request.payload == b"die":
        record.begin(0, [number])
        os._exit(3)
    elif request.payload != b"hang":
        for offset, digest in enumerate(request.heads):
            lost = LostHead("lost") if digest not in heads or request.payload == b"lose" else None
            text = json.dumps([digest, len(request.heads), os.getpid()]).encode()
            send(number + offset, WorkerReply(payload=text, error=lost))
"""


def online(payload: bytes) -> WorkerRequest:
    return WorkerRequest(kind=RequestKind.ONLINE, payload=payload)


def write_model(directory: Path, *labels: str) -> TFLiteManifest:
    (directory / "graft").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"not read")
    (directory / TFLITE_NETWORK).write_bytes(b"not read")
    (directory / LABELS).write_text(json.dumps(labels))
    head = Head(
        hidden_kernel=np.eye(3, dtype=np.float32),
        hidden_bias=np.zeros(3, np.float32),
        output_kernel=np.zeros((3, len(labels)), np.float32),
        output_bias=np.zeros(len(labels), np.float32),
    )
    (directory / HEAD).write_bytes(write_npz(head.arrays()))
    manifest = TFLiteManifest(
        files=digest_files(directory),
        spec=PixelSpec(height=8, width=8, offset=0, divisor=255),
        reject_below=0,
        parity=Parity(pictures=1, largest_difference=0),
        made_by={},
    )
    manifest.write(directory)
    return manifest


class Site:
    """A trunk server in a temporary directory, and models to add to it."""

    def __init__(self, directory: Path, **options) -> None:
        self.directory = directory
        self.started: list[WorkerProcess] = []
        self.trunk = TrunkServer("t", directory / "heads", self.start, **options)

    async def start(self) -> WorkerProcess:
        scratch = self.directory / f"scratch-{next(COUNT)}"
        scratch.mkdir()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", TRUNK, str(scratch)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        worker = WorkerProcess("trunk", process, scratch=scratch)
        try:
            await worker.ready
        except BaseException:
            await worker.close()
            raise
        self.started.append(worker)
        return worker

    async def add(self, *labels: str):
        model = self.directory / f"model-{next(COUNT)}"
        return await self.trunk.add(model, write_model(model, *labels))


COUNT = itertools.count()


def run_with(tmp_path, test, **options):
    async def run():
        site = Site(tmp_path, **options)
        await site.trunk.start()
        try:
            await asyncio.wait_for(test(site), 60)
        finally:
            await site.trunk.close()

    asyncio.run(run())


async def answer(version, payload: bytes = b"x"):
    return json.loads((await version.ask(online(payload))).payload)


def test_versions_share_a_process_and_equal_ones_a_head(tmp_path):
    async def test(site):
        first, second, third = await site.add("a"), await site.add("b"), await site.add("b")
        digests = [(await answer(version))[0] for version in (first, second, third)]
        assert digests[0] != digests[1] == digests[2]
        assert len(list((tmp_path / "heads").iterdir())) == 2
        await second.close()
        assert (await answer(third))[0] == digests[1]
        await third.close()
        await asyncio.sleep(0.1)
        assert [path.name for path in (tmp_path / "heads").iterdir()] == [digests[0]]
        with pytest.raises(Unavailable, match="is being loaded again"):
            await answer(third)
        assert len(site.started) == 1

    run_with(tmp_path, test)


def test_what_several_versions_are_asked_at_the_same_moment_is_sent_once(tmp_path):
    async def test(site):
        versions = [await site.add(str(number)) for number in range(5)]
        request = online(b"a picture")
        replies = await asyncio.gather(*(version.ask(request) for version in versions))
        found = [json.loads(reply.payload) for reply in replies]
        assert len({digest for digest, *_ in found}) == 5
        assert {count for _, count, _ in found} == {5}
        replies = await asyncio.gather(versions[0].ask(online(b"y" * 9)), versions[1].ask(online(b"z" * 9)))
        assert [json.loads(reply.payload)[1] for reply in replies] == [1, 1]

    run_with(tmp_path, test)


def test_a_killed_process_is_replaced_and_its_requests_are_answered(tmp_path):
    async def test(site):
        version = await site.add("a")
        asked = asyncio.create_task(version.ask(online(b"hang")))
        await asyncio.sleep(0.1)
        other = asyncio.create_task(answer(version))
        os.kill(site.started[0].pid, signal.SIGKILL)
        assert (await other)[1] == 1
        await asyncio.sleep(0.1)
        assert not asked.done()  # it was sent to the next process, which hangs, too
        asked.cancel()
        assert len(site.started) == 2
        assert not version.closed.is_set()

    run_with(tmp_path, test)


def test_only_the_request_under_which_a_process_crashed_is_refused(tmp_path):
    async def test(site):
        versions = [await site.add("a"), await site.add("b")]
        waiting = [asyncio.create_task(version.ask(online(b"hang"))) for version in versions]
        await asyncio.sleep(0.1)
        with pytest.raises(Unavailable, match="stopped; try again") as caught:
            await versions[0].ask(online(b"die"))
        assert type(caught.value) is Unavailable
        assert versions[0].has_crashed
        assert len(await asyncio.gather(*(answer(version) for version in versions))) == 2
        assert not any(task.done() for task in waiting)
        assert len(site.started) == 2
        for task in waiting:
            task.cancel()

    run_with(tmp_path, test)


def test_a_process_that_answers_nothing_is_killed_and_one_that_does_is_not(tmp_path):
    async def test(site):
        version, loop = await site.add("a"), asyncio.get_running_loop()
        asked = asyncio.create_task(version.ask(online(b"hang")))
        began = loop.time()
        await asyncio.sleep(0.1)
        await answer(version)
        version.kill_if_silent(began)
        await asyncio.sleep(0.1)
        assert not site.started[0].closed.is_set()
        since = loop.time()
        await asyncio.sleep(0.1)
        version.kill_if_silent(since)
        await asyncio.wait_for(site.started[0].closed.wait(), 5)
        assert len(await answer(version)) == 3
        asked.cancel()

    run_with(tmp_path, test)


def test_a_lost_head_closes_its_version_so_that_it_is_loaded_again(tmp_path):
    async def test(site):
        first, second = await site.add("a"), await site.add("b")
        with pytest.raises(Unavailable, match="lost") as caught:
            await first.ask(online(b"lose"))
        assert type(caught.value) is Unavailable
        assert first.closed.is_set()
        assert not first.has_crashed
        assert await answer(second)
        assert await answer(await site.add("a"))

    run_with(tmp_path, test)


def test_a_head_that_the_process_refuses_fails_its_version_only(tmp_path):
    async def test(site):
        version = await site.add("a")
        with pytest.raises(FailedPrecondition, match="Failed to load model: refused"):
            await site.add("refused")
        assert await answer(version)
        await asyncio.sleep(0.05)
        assert len(list((tmp_path / "heads").iterdir())) == 1

    run_with(tmp_path, test)


def test_a_head_that_is_not_the_one_in_the_manifest_is_refused(tmp_path):
    async def test(site):
        manifest = write_model(tmp_path / "model", "a", "b")
        data = bytearray((tmp_path / "model" / HEAD).read_bytes())
        data[-200] ^= 1
        (tmp_path / "model" / HEAD).write_bytes(data)
        with pytest.raises(TFLiteUnavailable, match=r"head.weights.npz is not the file that was compared"):
            await site.trunk.add(tmp_path / "model", manifest)
        assert not site.trunk.is_used

    run_with(tmp_path, test)


def test_every_process_has_every_head_also_one_that_was_replaced(tmp_path):
    async def test(site):
        versions = [await site.add(str(number)) for number in range(3)]
        os.kill(site.started[0].pid, signal.SIGKILL)
        versions.append(await site.add("late"))
        while len(site.trunk.processes) < 2:
            await asyncio.sleep(0.02)
        requests = [(version, online(bytes([n]) * 9)) for n in range(4) for version in versions]
        replies = await asyncio.gather(*(version.ask(request) for version, request in requests))
        pids = {json.loads(reply.payload)[2] for reply in replies}
        assert pids == {process.pid for process in site.trunk.processes}

    run_with(tmp_path, test, num_processes=2)


def test_the_owner_learns_when_no_version_is_left(tmp_path):
    unused: list[bool] = []

    async def test(site):
        first, second = await site.add("a"), await site.add("b")
        await first.close()
        assert unused == []
        await second.close()
        assert unused == [True]

    run_with(tmp_path, test, on_unused=lambda: unused.append(True))
